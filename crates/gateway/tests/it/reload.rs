//! What a new config has in common with the one before goes on, and which files are followed.

use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Door, Service, TIMEOUT, until, whole};
use crate::tls::{authority, certificate, openssl};

#[tokio::test(flavor = "multi_thread")]
async fn discovered_endpoints_stay_through_a_change_of_their_upstream() {
    let service = Service::named("found").await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("endpoints.txt"), format!("{}\n", service.url())).unwrap();
    let config = |percent: u32| {
        format!(
            "upstreams: {{ s: {{ discover: {{ file: {{ path: endpoints.txt }} }}, retry_budget_percent: {percent} }} }}\nroutes: [{{ name: all, match: {{ path: /* }}, upstream: s }}]\n"
        )
    };
    let door = Door::open_in(folder, &config(20)).await;
    let endpoints = || door.gateway.engine.snapshot().upstreams["s"].endpoints();
    until("it is found", || !endpoints().is_empty()).await;
    assert_eq!(door.get("/", &[]).await.body, "found");
    let known = endpoints()[0].clone();
    // What is known of an endpoint goes on, such as an operator's word.
    known.drain(true);
    std::fs::write(door.file(), whole(&config(30))).unwrap();
    door.gateway.reloader.reload().await.unwrap();
    let after = endpoints();
    assert!(after.len() == 1 && after[0].is_drained(), "{after:?}");
    after[0].drain(false);
    assert_eq!(door.get("/", &[]).await.body, "found");
    assert_eq!(door.gateway.engine.snapshot().upstreams["s"].spec.retry_budget_percent, 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_that_did_not_change_is_not_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    authority(folder.path());
    certificate(folder.path(), "a", "a.example");
    let config = |body: &str| {
        format!(
            "listeners: [{{ address: \"127.0.0.1:0\", tls: {{ certificates: [{{ chain: a.pem, key: a.key }}] }} }}]\nupstreams: {{ s: {{ endpoints: [\"https://127.0.0.1:9\"], tls: {{ authorities: ca.pem, name: a.example }} }} }}\nroutes: [{{ name: all, match: {{ path: /* }}, respond: {{ body: {body} }} }}]\n"
        )
    };
    let door = Door::open_in(folder, &config("old")).await;
    let before = door.gateway.engine.snapshot();
    std::fs::write(door.file(), whole(&config("new"))).unwrap();
    door.gateway.reloader.reload().await.unwrap();
    let after = door.gateway.engine.snapshot();
    assert!(Arc::ptr_eq(&before.upstreams["s"], &after.upstreams["s"]), "the upstream and its connections stay");
    let tls = |at: &tessera_gateway::snapshot::Snapshot| at.listeners[0].1.clone().unwrap();
    assert!(Arc::ptr_eq(&tls(&before), &tls(&after)), "sessions can be resumed");
    // New authorities are taken, and only what they concern is made anew.
    openssl(
        door.folder.path(),
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca2.key -out ca.pem -subj /CN=another-authority -days 2",
    );
    door.gateway.reloader.look().await.expect("the authorities of an upstream are followed").unwrap();
    let last = door.gateway.engine.snapshot();
    assert!(!Arc::ptr_eq(&after.upstreams["s"], &last.upstreams["s"]));
    assert!(Arc::ptr_eq(&tls(&after), &tls(&last)));
}

#[tokio::test(flavor = "multi_thread")]
async fn places_of_a_route_are_not_doubled() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = |body: &str| {
        format!(
            "upstreams: {{ s: {{ endpoints: [\"http://{}\"] }} }}\nroutes:\n  - {{ name: one, match: {{ path: /one }}, upstream: s, requests_at_once: 1 }}\n  - {{ name: which, match: {{ path: /which }}, respond: {{ body: {body} }} }}\n",
            listener.local_addr().unwrap()
        )
    };
    let door = Door::open(&config("old")).await;
    let mut held = TcpStream::connect(door.address()).await.unwrap();
    held.write_all(b"GET /one HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let (_behind, _) = tokio::time::timeout(TIMEOUT, listener.accept()).await.unwrap().unwrap();
    assert_eq!(door.get("/one", &[]).await.code(), "gateway.too_many_at_once");
    std::fs::write(door.file(), whole(&config("new"))).unwrap();
    door.gateway.reloader.reload().await.unwrap();
    let taken = async {
        while door.get("/which", &[]).await.body != "new" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(TIMEOUT, taken).await.expect("the new config is served");
    let asked = tokio::time::timeout(TIMEOUT / 4, door.get("/one", &[])).await;
    assert_eq!(asked.expect("an answer").code(), "gateway.too_many_at_once", "the one under way still counts");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_file_of_a_config_is_followed_and_a_refused_one_is_tried_once() {
    let folder = tempfile::tempdir().unwrap();
    authority(folder.path());
    certificate(folder.path(), "a", "a.example");
    openssl(folder.path(), "genpkey -algorithm ed25519 -out ed.key");
    openssl(folder.path(), "pkey -in ed.key -pubout -out ed.pem");
    let door = Door::open_in(
        folder,
        r#"
listeners: [{ address: "127.0.0.1:0", tls: { certificates: [{ chain: a.pem, key: a.key }], clients: { authorities: ca.pem } } }]
auth: { main: { jwt: { keys: [{ id: ed, algorithm: EdDSA, file: ed.pem }] } } }
upstreams: { s: { endpoints: ["https://127.0.0.1:9"], tls: { authorities: ca.pem, certificate: { chain: a.pem, key: a.key } } } }
routes: [{ name: all, match: { path: /* }, upstream: s, access: { by: [main] } }]
"#,
    )
    .await;
    let path = |file: &str| door.folder.path().join(file);
    let reloader = &door.gateway.reloader;
    assert!(reloader.look().await.is_none(), "nothing has changed");
    for file in ["ed.pem", "ca.pem", "a.pem"] {
        let good = std::fs::read(path(file)).unwrap();
        std::fs::write(path(file), "nothing of the kind").unwrap();
        let refused = reloader.look().await.unwrap_or_else(|| panic!("{file} is followed")).unwrap_err().to_string();
        assert!(refused.contains(file), "{refused}");
        assert!(reloader.look().await.is_none(), "{file} is not tried again and again");
        std::fs::write(path(file), good).unwrap();
        reloader.look().await.unwrap_or_else(|| panic!("{file} is followed")).unwrap();
        assert!(reloader.look().await.is_none());
    }
    // A file that a refused config asks for is waited for.
    let text = std::fs::read_to_string(door.file()).unwrap();
    std::fs::write(door.file(), text.replace("ed.pem", "other.pem")).unwrap();
    assert!(reloader.look().await.expect("the config has changed").is_err());
    assert!(reloader.look().await.is_none());
    std::fs::copy(path("ed.pem"), path("other.pem")).unwrap();
    reloader.look().await.expect("the file is there now").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_ready_when_discovered_endpoints_were_found() {
    let service = Service::named("found").await;
    let door = Door::open(
        "upstreams: { s: { discover: { file: { path: endpoints.txt } } } }\nroutes: [{ name: all, match: { path: /* }, upstream: s }]\n",
    )
    .await;
    let component = door.gateway.clone().component(&door.deps);
    let waits_for = component.ready.get().unwrap_err();
    assert!(waits_for.contains("upstream `s`"), "{waits_for}");
    // Put there whole: a file that is being written lists none for a moment, and that is an answer.
    let (written, read) = (door.folder.path().join("new.txt"), door.folder.path().join("endpoints.txt"));
    std::fs::write(&written, format!("{}\n", service.url())).unwrap();
    std::fs::rename(&written, &read).unwrap();
    until("it is ready", || component.ready.get().is_ok()).await;
    assert_eq!(door.get("/", &[]).await.body, "found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_that_was_replaced_is_freed_while_a_connection_of_its_time_goes_on() {
    let config =
        |body: &str| format!("routes: [{{ name: all, match: {{ path: /* }}, respond: {{ body: {body} }} }}]\n");
    let door = Door::open(&config("first")).await;
    for (before, after) in [("first", "second"), ("second", "third")] {
        assert_eq!(door.get("/", &[]).await.body, before);
        let replaced = Arc::downgrade(&door.gateway.engine.snapshot());
        std::fs::write(door.file(), whole(&config(after))).unwrap();
        door.gateway.reloader.reload().await.unwrap();
        until("it is freed", || {
            door.gateway.reloader.free_retired();
            replaced.strong_count() == 0
        })
        .await;
        assert_eq!(door.get("/", &[]).await.body, after);
    }
}
