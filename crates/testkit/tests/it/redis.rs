//! The server starts, dies and comes back as told, and leaves nothing behind.

use std::net::TcpStream;

use tessera_testkit::redis;

#[test]
fn it_keeps_or_loses_its_data_as_told_and_then_is_gone() {
    let mut server = redis::start();
    let port = server.port();
    assert_eq!(server.command("SET seat taken").unwrap(), "+OK");
    server.kill_and_restart();
    assert_eq!(server.command("GET seat").unwrap(), "taken");
    server.kill_and_lose_everything();
    assert_eq!(server.command("EXISTS seat").unwrap(), ":0");
    server.pause();
    server.resume();
    assert_eq!(server.command("PING").unwrap(), "+PONG");
    drop(server);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[test]
fn three_make_a_cluster() {
    let mut cluster = redis::start_cluster();
    assert_eq!(cluster.nodes().len(), 3);
    assert!(cluster.url().starts_with("redis+cluster://127.0.0.1:"));
}
