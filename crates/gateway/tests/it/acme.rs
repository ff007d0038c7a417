//! Certificates by ACME: an authority of the test looks at the proofs over real sockets and signs with a key of its own.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use ring::digest::{SHA256, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::{Door, Got, Service, TIMEOUT, client, until};
use crate::tls::{authority, openssl};

/// Where the authority looks for the proofs of a name.
#[derive(Default)]
struct Places {
    http: OnceLock<SocketAddr>,
    tls: OnceLock<SocketAddr>,
}

#[derive(Default)]
struct State {
    nonces: u64,
    open_nonces: BTreeSet<String>,
    thumbprint: String,
    accounts: usize,
    orders: usize,
    domains: Vec<String>,
    proven: BTreeSet<String>,
    certificate: Option<String>,
}

/// An authority that speaks as much of RFC 8555 as is asked of it.
struct Authority {
    service: Service,
    state: Arc<Mutex<State>>,
    places: Arc<Places>,
}

fn decoded(text: &Value) -> Value {
    let bytes = URL_SAFE_NO_PAD.decode(text.as_str().unwrap()).unwrap();
    if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() }
}

impl Authority {
    /// Signs with `ca.key` of this folder.
    async fn start(folder: PathBuf) -> Self {
        let (state, places) = (Arc::<Mutex<State>>::default(), Arc::<Places>::default());
        let url: Arc<OnceLock<String>> = Arc::default();
        let (known, seen, own) = (state.clone(), places.clone(), url.clone());
        let service = Service::start(move |got| {
            let url = own.get().cloned().unwrap_or_default();
            let (status, location, body) = answer(got, &url, &known, &seen, &folder);
            let nonce = {
                let mut state = known.lock().unwrap();
                state.nonces += 1;
                let nonce = format!("nonce-{}", state.nonces);
                state.open_nonces.insert(nonce.clone());
                nonce
            };
            let mut response = Response::builder().status(status).header("replay-nonce", nonce);
            if let Some(location) = location {
                response = response.header("location", format!("{url}{location}"));
            }
            response.body(Full::new(Bytes::from(body))).unwrap()
        })
        .await;
        url.set(service.url()).unwrap();
        Self { service, state, places }
    }

    fn counts(&self) -> (usize, usize) {
        let state = self.state.lock().unwrap();
        (state.accounts, state.orders)
    }
}

fn answer(
    got: &Got,
    url: &str,
    known: &Arc<Mutex<State>>,
    places: &Arc<Places>,
    folder: &std::path::Path,
) -> (u16, Option<String>, String) {
    let path = got.uri.clone();
    if path == "/directory" {
        let of = |name: &str| format!("{url}/{name}");
        let body = json!({
            "newNonce": of("nonce"), "newAccount": of("account"), "newOrder": of("order"), "revokeCert": of("revoke"), "keyChange": of("keys"),
        });
        return (200, None, body.to_string());
    }
    if path == "/nonce" {
        return (200, None, String::new());
    }
    let jws: Value = serde_json::from_slice(&got.body).unwrap();
    let (head, payload) = (decoded(&jws["protected"]), decoded(&jws["payload"]));
    let mut state = known.lock().unwrap();
    assert_eq!((head["alg"].as_str(), head["url"].as_str()), (Some("ES256"), Some(format!("{url}{path}").as_str())));
    assert!(state.open_nonces.remove(head["nonce"].as_str().unwrap()), "a nonce is good once");
    let order = |state: &State, at: usize| {
        let is_ready = state.domains.iter().all(|domain| state.proven.contains(domain));
        let status = match (&state.certificate, is_ready) {
            (Some(_), _) => "valid",
            (None, true) => "ready",
            (None, false) => "pending",
        };
        let names: Vec<Value> = state.domains.iter().map(|domain| json!({ "type": "dns", "value": domain })).collect();
        let proofs: Vec<String> = state.domains.iter().map(|domain| format!("{url}/proof/{domain}")).collect();
        let mut body = json!({
            "status": status, "identifiers": names, "authorizations": proofs, "finalize": format!("{url}/finalize/{at}"),
        });
        if state.certificate.is_some() {
            body["certificate"] = format!("{url}/certificate/{at}").into();
        }
        body.to_string()
    };
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match parts[..] {
        ["account"] => {
            let key = &head["jwk"];
            let canonical =
                format!(r#"{{"crv":{},"kty":{},"x":{},"y":{}}}"#, key["crv"], key["kty"], key["x"], key["y"]);
            state.thumbprint = URL_SAFE_NO_PAD.encode(digest(&SHA256, canonical.as_bytes()));
            state.accounts += 1;
            assert_eq!(payload["contact"], json!(["mailto:ops@a.example"]));
            (201, Some("/account/1".into()), json!({ "status": "valid" }).to_string())
        }
        ["order"] => {
            let names = payload["identifiers"].as_array().unwrap();
            state.domains = names.iter().map(|name| name["value"].as_str().unwrap().to_owned()).collect();
            (state.proven, state.certificate) = (BTreeSet::new(), None);
            state.orders += 1;
            let at = state.orders;
            (201, Some(format!("/order/{at}")), order(&state, at))
        }
        ["order", at] => (200, None, order(&state, at.parse().unwrap())),
        ["proof", domain] => {
            let status = if state.proven.contains(domain) { "valid" } else { "pending" };
            let of = |kind: &str| json!({ "type": kind, "url": format!("{url}/challenge/{kind}/{domain}"), "token": format!("token-{domain}"), "status": "pending" });
            let body = json!({
                "identifier": { "type": "dns", "value": domain }, "status": status, "challenges": [of("http-01"), of("dns-01"), of("tls-alpn-01")],
            });
            (200, None, body.to_string())
        }
        ["challenge", kind, domain] => {
            let proof = format!("token-{domain}.{}", state.thumbprint);
            let body = json!({ "type": kind, "url": format!("{url}{path}"), "token": format!("token-{domain}"), "status": "processing" });
            let (known, places) = (known.clone(), places.clone());
            let (kind, domain) = (kind.to_owned(), domain.to_owned());
            tokio::spawn(async move {
                let holds = match kind.as_str() {
                    "http-01" => look_at_document(*places.http.get().unwrap(), &domain, &proof).await,
                    _ => look_at_handshake(*places.tls.get().unwrap(), &domain, &proof).await,
                };
                if holds {
                    known.lock().unwrap().proven.insert(domain);
                }
            });
            (200, None, body.to_string())
        }
        ["finalize", at] => {
            let request = URL_SAFE_NO_PAD.decode(payload["csr"].as_str().unwrap()).unwrap();
            std::fs::write(folder.join("request.der"), request).unwrap();
            openssl(
                folder,
                "x509 -req -inform DER -in request.der -CA ca.pem -CAkey ca.key -CAcreateserial -copy_extensions copy -out issued.pem -days 3",
            );
            state.certificate = Some(std::fs::read_to_string(folder.join("issued.pem")).unwrap());
            (200, Some(format!("/order/{at}")), order(&state, at.parse().unwrap()))
        }
        ["certificate", _] => (200, None, state.certificate.clone().unwrap()),
        _ => panic!("{path} is not spoken"),
    }
}

async fn look_at_document(place: SocketAddr, domain: &str, proof: &str) -> bool {
    let url = format!("http://{place}/.well-known/acme-challenge/token-{domain}");
    let answer = client().get(url).header("host", domain).send().await.unwrap();
    answer.status() == 200 && answer.text().await.unwrap() == proof
}

/// Takes any certificate: it is looked at afterwards.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        tessera_gateway::tls::provider().signature_verification_algorithms.supported_schemes()
    }
}

async fn look_at_handshake(place: SocketAddr, domain: &str, proof: &str) -> bool {
    let provider = Arc::new(tessera_gateway::tls::provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.dangerous().with_custom_certificate_verifier(Arc::new(Anyone)).with_no_client_auth();
    config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    let stream = TcpStream::connect(place).await.unwrap();
    let name = ServerName::try_from(domain.to_owned()).unwrap();
    let Ok(stream) = TlsConnector::from(Arc::new(config)).connect(name, stream).await else { return false };
    let session = stream.get_ref().1;
    let certificate = session.peer_certificates().unwrap()[0].to_vec();
    // `id-pe-acmeIdentifier`, and an octet string with the digest of the proof.
    let identifier = [0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x1f];
    let digest = [&[0x04, 0x20], digest(&SHA256, proof.as_bytes()).as_ref()].concat();
    let has = |bytes: &[u8]| certificate.windows(bytes.len()).any(|window| window == bytes);
    session.alpn_protocol() == Some(b"acme-tls/1") && has(&identifier) && has(&digest)
}

fn config(directory: &str, challenge: &str, folder: &str) -> String {
    format!(
        r#"
listeners:
  - address: 127.0.0.1:0
  - address: 127.0.0.2:0
    tls:
      acme:
        directory: {directory}/directory
        domains: [a.example, b.example]
        contact: [mailto:ops@a.example]
        challenge: {challenge}
        folder: {folder}
routes: [{{ name: all, match: {{ path: /* }}, respond: {{ body: ok }} }}]
"#
    )
}

/// What is answered to a client that trusts only the authority.
async fn ask(door: &Door, authority: &TempDir, domain: &str) -> Result<String, String> {
    let trusted = std::fs::read(authority.path().join("ca.pem")).unwrap();
    let address = door.gateway.engine.addresses()[1];
    let client = tessera_service::client::builder()
        .timeout(TIMEOUT)
        .add_root_certificate(reqwest::Certificate::from_pem(&trusted).unwrap())
        .resolve(domain, address)
        .build()
        .unwrap();
    let answer = client.get(format!("https://{domain}:{}/", address.port())).send().await;
    Ok(answer.map_err(|error| error.to_string())?.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_issued_kept_and_renewed() {
    for challenge in ["http-01", "tls-alpn-01"] {
        let folder = tempfile::tempdir().unwrap();
        authority(folder.path());
        let issuer = Authority::start(folder.path().to_owned()).await;
        let kept = tempfile::tempdir().unwrap();
        let text = config(&issuer.service.url(), challenge, &kept.path().display().to_string());
        let door = Door::open(&text).await;
        issuer.places.http.set(door.address()).unwrap();
        issuer.places.tls.set(door.gateway.engine.addresses()[1]).unwrap();
        ask(&door, &folder, "a.example").await.expect_err("there is no certificate yet");
        assert_eq!(door.gateway.certificates.look().await, 1, "{challenge}");
        for domain in ["a.example", "b.example"] {
            assert_eq!(ask(&door, &folder, domain).await.unwrap(), "ok", "{challenge}");
        }
        assert_eq!(issuer.counts(), (1, 1));
        assert_eq!(door.gateway.certificates.look().await, 0, "it is good for a while");
        // What was shown for the proof is gone.
        let proof = door.get("/.well-known/acme-challenge/token-a.example", &[]).await;
        assert_eq!(proof.body, "ok");
        let place = *issuer.places.tls.get().unwrap();
        assert!(!look_at_handshake(place, "a.example", "anything").await);
        // A reload and a new process take what is there.
        door.gateway.reloader.reload().await.unwrap();
        assert_eq!(ask(&door, &folder, "a.example").await.unwrap(), "ok");
        let again = Door::open(&text).await;
        assert_eq!(ask(&again, &folder, "b.example").await.unwrap(), "ok");
        assert_eq!(again.gateway.certificates.look().await, 0);
        // With less than a third of its three days left it is renewed, with the same account.
        door.clock.advance(Duration::from_secs(2 * 86_400 + 3_600));
        assert_eq!(door.gateway.certificates.look().await, 1);
        assert_eq!(issuer.counts(), (1, 2));
        assert!(door.metrics().contains("tessera_gateway_certificates_total{outcome=\"issued\"} 2"));
        let authority_name = issuer.service.address.to_string().replace(':', "-") + "-directory";
        let file = kept.path().join(authority_name).join("a.example.pem");
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(file).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600, "nobody else reads the key");
        // What one authority issued is not taken for another's, nor the account with it.
        let other_folder = tempfile::tempdir().unwrap();
        authority(other_folder.path());
        let other = Authority::start(other_folder.path().to_owned()).await;
        let door = Door::open(&text.replace(&issuer.service.url(), &other.service.url())).await;
        other.places.http.set(door.address()).unwrap();
        other.places.tls.set(door.gateway.engine.addresses()[1]).unwrap();
        assert_eq!(door.gateway.certificates.look().await, 1, "{challenge}");
        assert_eq!((other.counts(), issuer.counts()), ((1, 1), (1, 2)));
        assert_eq!(ask(&door, &other_folder, "a.example").await.unwrap(), "ok");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_not_asked_for_again_at_once() {
    let asked = Service::start(|_| crate::support::reply(500, "{}")).await;
    let door = Door::open(&config(&asked.url(), "http-01", "acme")).await;
    assert_eq!(door.gateway.certificates.look().await, 0);
    until("it was asked", || !asked.got().is_empty()).await;
    let count = asked.got().len();
    assert_eq!(door.gateway.certificates.look().await, 0);
    assert_eq!(asked.got().len(), count);
    assert!(door.metrics().contains("tessera_gateway_certificates_total{outcome=\"refused\"} 1"));
    assert_eq!(door.get("/", &[]).await.body, "ok", "all else goes on");
}
