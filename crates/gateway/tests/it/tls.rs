//! TLS: certificates by name, profiles, clients' certificates, new files, and TLS to services behind.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::{Answer, Door, Service, TIMEOUT, reply, whole};

/// Runs `openssl` in a folder.
pub fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output();
    let output =
        output.unwrap_or_else(|error| panic!("no `openssl` here ({error}); install it: apt-get install -y openssl"));
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An authority in a folder.
pub fn authority(folder: &Path) {
    openssl(
        folder,
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key -out ca.pem -subj /CN=test-authority -days 2",
    );
}

/// A certificate of that authority for a name: `NAME.pem` and `NAME.key`.
pub fn certificate(folder: &Path, file: &str, name: &str) {
    openssl(
        folder,
        &format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout {file}.key -out {file}.csr -subj /CN={name}"
        ),
    );
    std::fs::write(folder.join("names"), format!("subjectAltName=DNS:{name}\nbasicConstraints=CA:FALSE\n")).unwrap();
    openssl(
        folder,
        &format!(
            "x509 -req -in {file}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out {file}.pem -days 2 -extfile names"
        ),
    );
}

fn folder(names: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    authority(folder.path());
    names.iter().for_each(|(file, name)| certificate(folder.path(), file, name));
    folder
}

fn trusting(door: &Door) -> reqwest::ClientBuilder {
    let authority = std::fs::read(door.folder.path().join("ca.pem")).unwrap();
    let mut builder = tessera_service::client::builder()
        .timeout(TIMEOUT)
        .pool_max_idle_per_host(0)
        .add_root_certificate(reqwest::Certificate::from_pem(&authority).unwrap());
    for host in ["a.example", "b.example", "x.wild.example", "other.example"] {
        builder = builder.resolve(host, door.address());
    }
    builder
}

fn url(door: &Door, host: &str) -> String {
    format!("https://{host}:{}/", door.address().port())
}

const LISTENER: &str = "listeners:\n  - address: 127.0.0.1:0\n    tls:\n      certificates: [{ chain: a.pem, key: a.key }, { chain: b.pem, key: b.key }, { chain: w.pem, key: w.key }]\n";
const ROUTES: &str = "routes: [{ name: all, match: { path: /* }, respond: { body: ok } }]\n";

#[tokio::test(flavor = "multi_thread")]
async fn the_name_chooses_the_certificate_and_new_files_are_taken() {
    let folder = folder(&[("a", "a.example"), ("b", "b.example"), ("w", "*.wild.example")]);
    let door = Door::open_in(folder, &format!("{LISTENER}{ROUTES}")).await;
    let client = trusting(&door).build().unwrap();
    for host in ["a.example", "b.example", "x.wild.example"] {
        let answer = client.get(url(&door, host)).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (200, http::Version::HTTP_2), "{host}");
    }
    let old = trusting(&door).http1_only().build().unwrap();
    assert_eq!(old.get(url(&door, "a.example")).send().await.unwrap().version(), http::Version::HTTP_11);
    assert!(client.get(url(&door, "other.example")).send().await.is_err(), "the first one is for another name");

    // A new certificate for another name, under the same file name.
    let before = door.gateway.engine.snapshot().number;
    certificate(door.folder.path(), "a", "other.example");
    let looked = door.gateway.reloader.look().await.expect("the file has changed");
    assert_eq!(looked.unwrap().number, before + 1);
    assert_eq!(client.get(url(&door, "other.example")).send().await.unwrap().status(), 200);
    // A broken one is refused, and the last good one stays.
    std::fs::write(door.folder.path().join("a.pem"), "nothing of the kind").unwrap();
    let refused = door.gateway.reloader.look().await.expect("the file has changed").unwrap_err().to_string();
    assert!(refused.contains("gateway.yaml:") && refused.contains("a.pem"), "{refused}");
    assert_eq!(client.get(url(&door, "other.example")).send().await.unwrap().status(), 200);
}

/// Whether a handshake in this version succeeds.
async fn shakes_hands(door: &Door, version: &'static rustls::SupportedProtocolVersion) -> bool {
    let mut roots = RootCertStore::empty();
    for certificate in tessera_gateway::tls::read_chain(&door.folder.path().join("ca.pem")).unwrap() {
        roots.add(certificate).unwrap();
    }
    let provider = Arc::new(tessera_gateway::tls::provider());
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
    let connector = TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth()));
    let stream = TcpStream::connect(door.address()).await.unwrap();
    connector.connect(ServerName::try_from("a.example").unwrap(), stream).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn profiles_say_which_versions_are_spoken() {
    for (profile, tls12) in [("intermediate", true), ("modern", false)] {
        let folder = folder(&[("a", "a.example")]);
        let listener = format!(
            "listeners: [{{ address: \"127.0.0.1:0\", tls: {{ profile: {profile}, certificates: [{{ chain: a.pem, key: a.key }}] }} }}]\n"
        );
        let door = Door::open_in(folder, &format!("{listener}{ROUTES}")).await;
        assert!(shakes_hands(&door, &rustls::version::TLS13).await);
        assert_eq!(shakes_hands(&door, &rustls::version::TLS12).await, tls12, "{profile}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clients_certificate_says_who_asks() {
    let service =
        Service::start(|got| reply(200, &format!("{} {}", got.header("x-auth-subject"), got.header("x-auth-roles"))))
            .await;
    let folder = folder(&[("a", "a.example"), ("robot", "robot.example")]);
    let door = Door::open_in(
        folder,
        &format!(
            "workers: 1\nlisteners: [{{ address: \"127.0.0.1:0\", tls: {{ certificates: [{{ chain: a.pem, key: a.key }}], clients: {{ authorities: ca.pem, required: false }} }} }}]\nsigned_identity: {{ issuer: https://gateway.example }}\nauth: {{ machines: {{ mtls: {{ roles: {{ robot.example: [worker] }} }} }} }}\nupstreams: {{ s: {{ endpoints: [\"{}\"] }} }}\nroutes: [{{ name: all, match: {{ path: /* }}, upstream: s, access: {{ by: [machines] }} }}]\n",
            service.url()
        ),
    )
    .await;
    let pem = ["robot.key", "robot.pem"].map(|file| std::fs::read(door.folder.path().join(file)).unwrap()).concat();
    let robot = trusting(&door).identity(reqwest::Identity::from_pem(&pem).unwrap()).build().unwrap();
    assert_eq!(robot.get(url(&door, "a.example")).send().await.unwrap().text().await.unwrap(), "robot.example worker");
    let token = service.last().header("x-auth-token").to_owned();
    door.clock.advance(Duration::from_secs(5));
    assert_eq!(robot.get(url(&door, "a.example")).send().await.unwrap().status(), 200);
    assert_eq!((token.is_empty(), service.last().header("x-auth-token")), (false, token.as_str()), "it is made once");
    let nobody = trusting(&door).build().unwrap().get(url(&door, "a.example")).send().await.unwrap();
    let answer = Answer::of(nobody).await;
    assert_eq!((answer.status, answer.code().as_str()), (401, "gateway.not_signed_in"));
    // Where they are required, nobody else connects.
    let text = std::fs::read_to_string(door.file()).unwrap().replace("required: false", "required: true");
    std::fs::write(door.file(), text).unwrap();
    door.gateway.reloader.reload().await.unwrap();
    assert!(trusting(&door).build().unwrap().get(url(&door, "a.example")).send().await.is_err());
    assert_eq!(robot.get(url(&door, "a.example")).send().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn services_behind_are_checked_by_name_and_authority() {
    let folder = folder(&[("a", "a.example")]);
    // The service behind is a gateway itself.
    let inner = Door::open_in(folder, &format!("listeners: [{{ address: \"127.0.0.1:0\", tls: {{ certificates: [{{ chain: a.pem, key: a.key }}] }} }}]\n{ROUTES}")).await;
    let authority = inner.folder.path().join("ca.pem").display().to_string();
    let outer = |tls: &str| {
        format!(
            "upstreams: {{ s: {{ endpoints: [\"https://127.0.0.1:{}\"], protocol: negotiate, tls: {{ {tls} }} }} }}\nroutes: [{{ name: all, match: {{ path: /* }}, upstream: s }}]\n",
            inner.address().port()
        )
    };
    let door = Door::open(&outer(&format!("authorities: \"{authority}\", name: a.example"))).await;
    assert_eq!(door.get("/", &[]).await.body, "ok");
    for wrong in [format!("authorities: \"{authority}\", name: b.example"), "name: a.example".to_owned()] {
        let door = Door::open(&outer(&wrong)).await;
        assert_eq!(door.get("/", &[]).await.code(), "gateway.upstream_unreachable", "{wrong}");
    }
    assert!(whole("x").contains("version: 1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_was_found_by_name_is_checked_by_that_name() {
    let folder = folder(&[("a", "localhost")]);
    let inner = Door::open_in(folder, &format!("listeners: [{{ address: \"127.0.0.1:0\", tls: {{ certificates: [{{ chain: a.pem, key: a.key }}] }} }}]\n{ROUTES}")).await;
    let authority = inner.folder.path().join("ca.pem").display().to_string();
    let door = Door::open(&format!(
        "upstreams: {{ s: {{ discover: {{ dns: {{ url: \"https://localhost:{}\" }} }}, tls: {{ authorities: \"{authority}\" }} }} }}\nroutes: [{{ name: all, match: {{ path: /* }}, upstream: s }}]\n",
        inner.address().port()
    ))
    .await;
    let snapshot = door.gateway.engine.snapshot();
    crate::support::until("it is found", || !snapshot.upstreams["s"].endpoints().is_empty()).await;
    assert_eq!(door.get("/", &[]).await.body, "ok");
}
