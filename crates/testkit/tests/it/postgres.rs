//! The server starts, and leaves nothing behind.

use std::net::TcpStream;

#[test]
fn it_listens_and_then_is_gone() {
    let server = tessera_testkit::postgres::start();
    let port = server.port();
    TcpStream::connect(("127.0.0.1", port)).unwrap();
    assert_ne!(server.new_database(), server.new_database());
    drop(server);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}
