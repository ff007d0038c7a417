//! TLS to endpoints.

use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

use crate::Error;
use crate::spec::{Protocol, UpstreamTls};
use crate::tls::{provider, read_chain, read_key};

/// What a handshake with an endpoint needs.
///
/// # Errors
/// [`Error::Config`] without a place where a file cannot be used.
pub fn client_config(spec: &UpstreamTls, protocol: Protocol, folder: &Path) -> Result<ClientConfig, Error> {
    let wrong = |detail: String| Error::Config { place: String::new(), detail };
    let mut roots = RootCertStore::empty();
    match &spec.authorities {
        Some(path) => {
            let path = folder.join(path);
            for certificate in read_chain(&path)? {
                roots.add(certificate).map_err(|error| wrong(format!("`{}`: {error}", path.display())))?;
            }
        }
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(error.to_string()))?
        .with_root_certificates(roots);
    let mut config = match &spec.certificate {
        None => builder.with_no_client_auth(),
        Some(own) => builder
            .with_client_auth_cert(read_chain(&folder.join(&own.chain))?, read_key(&folder.join(&own.key))?)
            .map_err(|error| wrong(format!("`{}`: {error}", own.chain.display())))?,
    };
    config.alpn_protocols = match protocol {
        Protocol::Http1 => vec![b"http/1.1".to_vec()],
        Protocol::Http2 => vec![b"h2".to_vec()],
        Protocol::Negotiate => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    };
    Ok(config)
}
