//! TLS of listeners: certificates by server name, profiles, clients' certificates; files are read again when they change.

mod acme;
mod names;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

pub use acme::{Acme, PROOF_PATH, PROOF_PROTOCOL, Slot};
pub use names::{Named, names_of, validity_of};

use crate::Error;
use crate::spec::{AcmeChallenge, Tls, TlsProfile};

fn wrong(detail: String) -> Error {
    Error::Config { place: String::new(), detail }
}

/// The one crypto provider, with the ciphers that Mozilla's profiles list; those without forward secrecy are not there.
pub fn provider() -> CryptoProvider {
    ring::default_provider()
}

/// The certificates of a PEM file.
///
/// # Errors
/// [`Error::Config`] without a place, naming the file.
pub fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let refuse = |reason: String| wrong(format!("certificates `{}`: {reason}", path.display()));
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|error| refuse(error.to_string()))?.collect();
    let chain = found.map_err(|error| refuse(error.to_string()))?;
    if chain.is_empty() { Err(refuse("there is none in it; give a PEM file".into())) } else { Ok(chain) }
}

/// The private key of a PEM file.
///
/// # Errors
/// [`Error::Config`] without a place, naming the file.
pub fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| wrong(format!("private key `{}`: {error}", path.display())))
}

/// A certificate and the key that goes with it.
///
/// # Errors
/// [`Error::Config`] without a place, naming the file that cannot be used.
pub fn read_pair(chain: &Path, key: &Path) -> Result<CertifiedKey, Error> {
    CertifiedKey::from_der(read_chain(chain)?, read_key(key)?, &provider())
        .map_err(|error| wrong(format!("private key `{}` does not go with its certificate: {error}", key.display())))
}

/// The files that a listener's TLS is made of.
pub fn files(spec: &Tls, folder: &Path) -> Vec<PathBuf> {
    let own = spec.certificates.iter().flat_map(|certificate| [&certificate.chain, &certificate.key]);
    let clients = spec.clients.iter().map(|clients| &clients.authorities);
    let acme = spec.acme.iter().filter_map(|acme| acme.authorities.as_ref());
    own.chain(clients).chain(acme).map(|path| folder.join(path)).collect()
}

/// What handshakes with clients need.
///
/// # Errors
/// [`Error::Config`] without a place where a file cannot be used.
pub fn server_config(spec: &Tls, folder: &Path, acme: &Arc<Acme>) -> Result<ServerConfig, Error> {
    let provider = Arc::new(provider());
    let versions: &[&rustls::SupportedProtocolVersion] = match spec.profile {
        TlsProfile::Intermediate => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsProfile::Modern => &[&rustls::version::TLS13],
    };
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .map_err(|error| wrong(error.to_string()))?;
    let builder = match &spec.clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let path = folder.join(&clients.authorities);
            let mut roots = RootCertStore::empty();
            for certificate in read_chain(&path)? {
                roots.add(certificate).map_err(|error| wrong(format!("`{}`: {error}", path.display())))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
            let verifier = if clients.required { verifier } else { verifier.allow_unauthenticated() };
            builder.with_client_cert_verifier(verifier.build().map_err(|error| wrong(error.to_string()))?)
        }
    };
    let mut certificates = Vec::new();
    for certificate in &spec.certificates {
        let certified = read_pair(&folder.join(&certificate.chain), &folder.join(&certificate.key))?;
        certificates.push((names_of(&certified.cert[0]).dns, Arc::new(certified)));
    }
    let issued = spec.acme.as_ref().map(|wanted| (acme.clone(), acme.slot(wanted, folder)));
    let mut config = builder.with_cert_resolver(Arc::new(ByName { certificates, issued }));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if spec.acme.as_ref().is_some_and(|acme| acme.challenge == AcmeChallenge::TlsAlpn01) {
        config.alpn_protocols.push(PROOF_PROTOCOL.to_vec());
    }
    Ok(config)
}

/// Certificates with the names they are for.
#[derive(Debug)]
struct ByName {
    certificates: Vec<(Vec<String>, Arc<CertifiedKey>)>,
    issued: Option<(Arc<Acme>, Arc<Slot>)>,
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let wanted = hello.server_name().unwrap_or_default().to_ascii_lowercase();
        if let Some((acme, slot)) = &self.issued {
            if hello.alpn().is_some_and(|mut protocols| protocols.any(|protocol| protocol == PROOF_PROTOCOL)) {
                return acme.proof_of(&wanted);
            }
            let certified = slot.certified().filter(|_| slot.spec.domains.contains(&wanted));
            if certified.is_some() {
                return certified;
            }
        }
        let has = |fits: fn(&str, &str) -> bool| {
            let mut all = self.certificates.iter();
            all.find(|(names, _)| names.iter().any(|name| fits(name, &wanted))).map(|(_, certified)| certified.clone())
        };
        has(|name, wanted| name == wanted)
            .or_else(|| has(is_under))
            .or_else(|| self.certificates.first().map(|(_, certified)| certified.clone()))
            .or_else(|| self.issued.as_ref().and_then(|(_, slot)| slot.certified()))
    }
}

/// Whether `*.example.com` is for `a.example.com`: one label, no more (RFC 9525).
fn is_under(name: &str, wanted: &str) -> bool {
    let parent = wanted.split_once('.').map(|(_, parent)| parent);
    name.strip_prefix("*.").is_some_and(|suffix| parent == Some(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_for_one_label() {
        assert!(is_under("*.example.com", "a.example.com"));
        assert!(!is_under("*.example.com", "example.com") && !is_under("*.example.com", "a.b.example.com"));
        assert!(!is_under("a.example.com", "a.example.com"));
    }
}
