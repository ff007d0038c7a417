//! Certificates that an authority issues by itself (ACME, RFC 8555): kept on disk, given to handshakes, proven by a document
//! (http-01) or in a handshake (tls-alpn-01, RFC 8737).

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use instant_acme::{
    Account, AuthorizationStatus, BodyWrapper, BytesResponse, ChallengeType, HttpClient, Identifier, NewAccount,
    NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use tessera_service::client;
use tokio::time::Instant;

use super::{provider, read_chain, validity_of};
use crate::spec::{self, AcmeChallenge};

/// What a client says in a handshake that is only about the proof.
pub const PROOF_PROTOCOL: &[u8] = b"acme-tls/1";
/// Where the document of a proof is.
pub const PROOF_PATH: &str = "/.well-known/acme-challenge/";
/// How long the authority may take for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long it may take to look at the proofs, and to issue.
const PATIENCE: Duration = Duration::from_secs(120);
const FIRST_LOOK: Duration = Duration::from_millis(250);
/// How long after the first failure it is tried again; each further one doubles it. Authorities count failures.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(6 * 3_600);

/// All certificates by ACME of a process, and the proofs under way.
#[derive(Debug, Default)]
pub struct Acme {
    slots: Mutex<BTreeMap<String, Arc<Slot>>>,
    documents: Mutex<HashMap<String, String>>,
    handshakes: Mutex<HashMap<String, Arc<CertifiedKey>>>,
}

/// One certificate: what is asked for, and what there is.
#[derive(Debug)]
pub struct Slot {
    /// What the config file says.
    pub spec: spec::Acme,
    folder: PathBuf,
    current: ArcSwapOption<Issued>,
    /// Failures in a row, and until when it is left alone for them.
    failures: Mutex<Option<(u32, Instant)>>,
}

#[derive(Debug)]
struct Issued {
    certified: Arc<CertifiedKey>,
    renewed_at_s: i64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Acme {
    /// The certificate that is asked for, as it is on disk where it was issued before; relative paths start from `folder`.
    pub fn slot(&self, spec: &spec::Acme, folder: &Path) -> Arc<Slot> {
        let folder = folder.join(&spec.folder).join(name_of(&spec.directory));
        let mut slots = lock(&self.slots);
        let slot = slots.entry(format!("{spec:?} {}", folder.display())).or_insert_with(|| {
            let slot = Slot { spec: spec.clone(), folder, current: ArcSwapOption::empty(), failures: Mutex::default() };
            match slot.load() {
                Ok(()) => {}
                Err(reason) => tracing::info!(domain = slot.name(), reason, "a certificate will be asked for"),
            }
            Arc::new(slot)
        });
        slot.clone()
    }

    /// Forgets certificates that no listener has any more.
    pub fn tidy(&self) {
        lock(&self.slots).retain(|_, slot| Arc::strong_count(slot) > 1);
    }

    /// The document that proves a name, by its token.
    pub fn document(&self, token: &str) -> Option<String> {
        lock(&self.documents).get(token).cloned()
    }

    /// The certificate that proves a name in a handshake.
    pub(super) fn proof_of(&self, domain: &str) -> Option<Arc<CertifiedKey>> {
        lock(&self.handshakes).get(domain).cloned()
    }

    /// Has the certificate issued.
    ///
    /// # Errors
    /// What went wrong, in words; there is the one before then.
    pub async fn issue(&self, slot: &Slot, config_folder: &Path) -> Result<(), String> {
        let mut proofs = Proofs { acme: self, tokens: Vec::new(), domains: Vec::new() };
        // What was shown for the proofs is taken away again, whatever comes of it.
        proofs.issue(slot, config_folder).await
    }
}

/// An authority's name among folders: accounts and certificates of one are nothing to another, such as one for trials.
fn name_of(directory: &str) -> String {
    let rest = directory.split_once("://").map_or(directory, |(_, rest)| rest);
    rest.replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "-")
}

/// The proofs of one order, until this is dropped.
struct Proofs<'a> {
    acme: &'a Acme,
    tokens: Vec<String>,
    domains: Vec<String>,
}

impl Drop for Proofs<'_> {
    fn drop(&mut self) {
        self.tokens.iter().for_each(|token| drop(lock(&self.acme.documents).remove(token)));
        self.domains.iter().for_each(|domain| drop(lock(&self.acme.handshakes).remove(domain)));
    }
}

impl Proofs<'_> {
    async fn issue(&mut self, slot: &Slot, config_folder: &Path) -> Result<(), String> {
        let failed = |error: instant_acme::Error| error.to_string();
        std::fs::create_dir_all(&slot.folder).map_err(|error| format!("`{}`: {error}", slot.folder.display()))?;
        let account = account(slot, config_folder).await?;
        let names: Vec<Identifier> = slot.spec.domains.iter().cloned().map(Identifier::Dns).collect();
        let mut order = account.new_order(&NewOrder::new(&names)).await.map_err(failed)?;
        self.prove(&mut order, slot.spec.challenge).await?;
        let retries = RetryPolicy::new().initial_delay(FIRST_LOOK).timeout(PATIENCE);
        let status = order.poll_ready(&retries).await.map_err(failed)?;
        if status != OrderStatus::Ready {
            return Err(format!("the order is {status:?}; the authority could not see the proofs"));
        }
        let key = order.finalize().await.map_err(failed)?;
        let chain = order.poll_certificate(&retries).await.map_err(failed)?;
        let issued = Issued::read(chain.as_bytes(), key.as_bytes())?;
        keep(&slot.file(), format!("{key}\n{chain}").as_bytes())?;
        slot.current.store(Some(Arc::new(issued)));
        Ok(())
    }

    /// Shows a proof for each name, and tells the authority.
    async fn prove(&mut self, order: &mut Order, challenge: AcmeChallenge) -> Result<(), String> {
        let failed = |error: instant_acme::Error| error.to_string();
        let wanted = match challenge {
            AcmeChallenge::Http01 => ChallengeType::Http01,
            AcmeChallenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
        };
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(failed)?;
            match authorization.status {
                AuthorizationStatus::Valid => continue,
                AuthorizationStatus::Pending => {}
                status => return Err(format!("an authorization is {status:?}")),
            }
            let mut asked = authorization
                .challenge(wanted.clone())
                .ok_or_else(|| format!("the authority does not offer the challenge {wanted:?}"))?;
            let proof = asked.key_authorization();
            let Identifier::Dns(domain) = asked.identifier().identifier.clone() else {
                return Err("the authority asks for the proof of something that is no name".to_owned());
            };
            match challenge {
                AcmeChallenge::Http01 => {
                    lock(&self.acme.documents).insert(asked.token.clone(), proof.as_str().to_owned());
                    self.tokens.push(asked.token.clone());
                }
                AcmeChallenge::TlsAlpn01 => {
                    let certified = proof_certificate(&domain, proof.digest().as_ref())?;
                    lock(&self.acme.handshakes).insert(domain.clone(), Arc::new(certified));
                    self.domains.push(domain);
                }
            }
            asked.set_ready().await.map_err(failed)?;
        }
        Ok(())
    }
}

/// The account of the folder, made where there is none.
async fn account(slot: &Slot, config_folder: &Path) -> Result<Account, String> {
    let failed = |error: instant_acme::Error| error.to_string();
    let mut client = client::builder().timeout(ANSWER_TIMEOUT);
    if let Some(authorities) = &slot.spec.authorities {
        for certificate in read_chain(&config_folder.join(authorities)).map_err(|error| error.to_string())? {
            let certificate = reqwest::Certificate::from_der(&certificate).map_err(|error| error.to_string())?;
            client = client.add_root_certificate(certificate);
        }
    }
    let client = Client(client.build().map_err(|error| error.to_string())?);
    let builder = Account::builder_with_http(Box::new(client));
    let file = slot.folder.join("account.json");
    if let Ok(text) = std::fs::read(&file) {
        let known = serde_json::from_slice(&text).map_err(|error| format!("`{}`: {error}", file.display()))?;
        return builder.from_credentials(known).await.map_err(failed);
    }
    let contact: Vec<&str> = slot.spec.contact.iter().map(String::as_str).collect();
    let wanted = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    let (account, credentials) = builder.create(&wanted, slot.spec.directory.clone(), None).await.map_err(failed)?;
    let text = serde_json::to_vec(&credentials).map_err(|error| error.to_string())?;
    keep(&file, &text)?;
    Ok(account)
}

/// A certificate of our own that only shows what the authority wants to see.
fn proof_certificate(domain: &str, digest: &[u8]) -> Result<CertifiedKey, String> {
    let failed = |error: rcgen::Error| error.to_string();
    let key = KeyPair::generate().map_err(failed)?;
    let mut wanted = CertificateParams::new(vec![domain.to_owned()]).map_err(failed)?;
    wanted.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let certificate = wanted.self_signed(&key).map_err(failed)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = provider().key_provider.load_private_key(key).map_err(|error| error.to_string())?;
    // Whether the two go together is not asked: the extension is critical, and so the certificate of no use but this.
    Ok(CertifiedKey::new(vec![certificate.der().clone()], key))
}

/// Writes a file that nobody else may read, whole or not at all.
fn keep(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("`{}`: {error}", path.display());
    let fresh = path.with_extension("new");
    let _ = std::fs::remove_file(&fresh);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    std::fs::rename(&fresh, path).map_err(failed)
}

impl Slot {
    /// The first of its names.
    pub fn name(&self) -> &str {
        self.spec.domains.first().map_or("", String::as_str)
    }

    /// Whether it is to be issued, anew or at all.
    pub fn is_due(&self, now_s: i64) -> bool {
        self.current.load().as_ref().is_none_or(|issued| now_s >= issued.renewed_at_s)
    }

    /// Whether it is left alone, for it was not issued of late.
    pub fn is_paused(&self) -> bool {
        lock(&self.failures).is_some_and(|(_, until)| Instant::now() < until)
    }

    /// Notes whether it was issued.
    pub fn note(&self, is_good: bool) {
        let mut failures = lock(&self.failures);
        let before = failures.map_or(0, |(count, _)| count);
        let pause = FIRST_PAUSE.saturating_mul(1 << before.min(10)).min(LONGEST_PAUSE);
        *failures = (!is_good).then(|| (before + 1, Instant::now() + pause));
    }

    /// What handshakes get.
    pub(super) fn certified(&self) -> Option<Arc<CertifiedKey>> {
        self.current.load().as_ref().map(|issued| issued.certified.clone())
    }

    fn file(&self) -> PathBuf {
        self.folder.join(format!("{}.pem", self.name()))
    }

    fn load(&self) -> Result<(), String> {
        let bytes = std::fs::read(self.file()).map_err(|error| error.to_string())?;
        let issued = Issued::read(&bytes, &bytes)?;
        let named = super::names_of(issued.certified.cert.first().map_or(&[][..], |certificate| certificate.as_ref()));
        if let Some(missing) = self.spec.domains.iter().find(|domain| !named.dns.contains(domain)) {
            return Err(format!("it is not for `{missing}`"));
        }
        self.current.store(Some(Arc::new(issued)));
        Ok(())
    }
}

impl Issued {
    fn read(chain: &[u8], key: &[u8]) -> Result<Self, String> {
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>().map_err(|error| error.to_string())?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| error.to_string())?;
        let (from_s, until_s) =
            chain.first().and_then(|first| validity_of(first)).ok_or("it has no certificate that can be read")?;
        let certified = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| error.to_string())?;
        // With a third of its time left.
        let renewed_at_s = until_s - (until_s - from_s) / 3;
        Ok(Self { certified: Arc::new(certified), renewed_at_s })
    }
}

/// Our one HTTP client, as the library wants it.
struct Client(reqwest::Client);

type Answer = Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>>;

impl HttpClient for Client {
    fn request(&self, request: http::Request<BodyWrapper<Bytes>>) -> Answer {
        let client = self.0.clone();
        Box::pin(async move {
            let failed = |error: reqwest::Error| instant_acme::Error::Other(Box::new(error.without_url()));
            let (head, body) = request.into_parts();
            let body = match body.collect().await {
                Ok(body) => body.to_bytes(),
                Err(never) => match never {},
            };
            let answer = client.request(head.method, head.uri.to_string()).headers(head.headers).body(body);
            let answer = answer.send().await.map_err(failed)?;
            let mut whole = http::Response::new(());
            *whole.status_mut() = answer.status();
            *whole.headers_mut() = answer.headers().clone();
            let body = answer.bytes().await.map_err(failed)?;
            Ok(BytesResponse::from(whole.map(|()| Full::new(body))))
        })
    }
}
