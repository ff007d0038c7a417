//! Who asks, in a token of the gateway's own that services can check: EdDSA, short-lived, with a key set that is served.
//!
//! A signature costs some 20 µs, so a token is made once for an identity and an upstream and used for half its life.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::json;

use super::Identity;
use crate::Error;
use crate::spec::SignedIdentity;
use crate::tls::read_key;

/// Tokens that one worker keeps.
const MOST_KEPT: usize = 10_000;

/// Signs who asks.
#[derive(Debug)]
pub struct Signer {
    /// What the config file says.
    pub spec: SignedIdentity,
    /// The header that the token goes upstream in.
    pub header: HeaderName,
    /// The document of its public key.
    pub key_set: Bytes,
    pair: Arc<Ed25519KeyPair>,
    /// The token's first part.
    head: String,
}

impl Signer {
    /// From the config file; relative paths start from `folder`. Where no key is named the one of `before` is used, or a new
    /// one.
    ///
    /// # Errors
    /// [`Error::Config`] without a place where the key cannot be used.
    pub fn new(spec: &SignedIdentity, folder: &Path, before: Option<&Self>) -> Result<Self, Error> {
        let wrong = |detail: String| Error::Config { place: String::new(), detail };
        let known = before.filter(|before| before.spec.key.is_none()).map(|before| before.pair.clone());
        let pair = match (&spec.key, known) {
            (None, Some(known)) => known,
            (None, None) => {
                let fresh = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
                let fresh = fresh.map_err(|_| Error::Internal("the system gives no randomness".into()))?;
                let pair = Ed25519KeyPair::from_pkcs8(fresh.as_ref());
                Arc::new(pair.map_err(|error| Error::Internal(error.to_string()))?)
            }
            (Some(file), _) => {
                let path = folder.join(file);
                let key = read_key(&path)?;
                Arc::new(Ed25519KeyPair::from_pkcs8_maybe_unchecked(key.secret_der()).map_err(|error| {
                    wrong(format!(
                        "`{}` is no Ed25519 key in PKCS #8 ({error}); `openssl genpkey -algorithm ed25519` makes one",
                        path.display()
                    ))
                })?)
            }
        };
        let public = pair.public_key().as_ref();
        let id = URL_SAFE_NO_PAD.encode(&digest(&SHA256, public).as_ref()[..12]);
        let key = json!({
            "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": id, "x": URL_SAFE_NO_PAD.encode(public),
        });
        Ok(Self {
            header: HeaderName::try_from(&spec.header).map_err(|error| wrong(error.to_string()))?,
            key_set: json!({ "keys": [key] }).to_string().into(),
            head: URL_SAFE_NO_PAD.encode(json!({ "alg": "EdDSA", "typ": "JWT", "kid": id }).to_string()),
            spec: spec.clone(),
            pair,
        })
    }

    /// A token for this upstream, and when it ends.
    fn sign(&self, identity: &Identity, audience: &str, now_s: i64) -> (String, i64) {
        let lifetime_s = i64::try_from(self.spec.lifetime.0.as_secs()).unwrap_or(i64::MAX);
        // Not beyond the end of what it was made of.
        let ends_s = now_s.saturating_add(lifetime_s).min(identity.expires_at_s.unwrap_or(i64::MAX)).max(now_s + 1);
        let claims = json!({
            "iss": self.spec.issuer, "sub": identity.subject, "aud": audience, "iat": now_s, "exp": ends_s,
            "roles": identity.roles, "scope": identity.scopes.join(" "),
        });
        let mut token = format!("{}.{}", self.head, URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = URL_SAFE_NO_PAD.encode(self.pair.sign(token.as_bytes()));
        token.push('.');
        token.push_str(&signature);
        (token, ends_s)
    }
}

/// Tokens that one worker has made.
#[derive(Debug, Default)]
pub struct SignedTokens(RefCell<HashMap<(usize, Arc<str>), Kept, ahash::RandomState>>);

#[derive(Debug)]
struct Kept {
    /// Held, so that its address is not another's.
    identity: Arc<Identity>,
    signer: Arc<Signer>,
    token: HeaderValue,
    until_s: i64,
}

impl SignedTokens {
    /// The token of this identity for this upstream.
    pub fn get(
        &self,
        signer: &Arc<Signer>,
        identity: &Arc<Identity>,
        audience: &Arc<str>,
        now_s: i64,
    ) -> Option<HeaderValue> {
        let mut kept = self.0.borrow_mut();
        let key = (Arc::as_ptr(identity).addr(), audience.clone());
        let fits = |kept: &&Kept| {
            Arc::ptr_eq(&kept.identity, identity) && Arc::ptr_eq(&kept.signer, signer) && now_s < kept.until_s
        };
        if let Some(known) = kept.get(&key).filter(fits) {
            return Some(known.token.clone());
        }
        let (token, ends_s) = signer.sign(identity, audience, now_s);
        let token = HeaderValue::try_from(token).ok()?;
        if kept.len() >= MOST_KEPT {
            kept.clear();
        }
        let until_s = now_s + (ends_s - now_s) / 2;
        let (identity, signer) = (identity.clone(), signer.clone());
        kept.insert(key, Kept { identity, signer, token: token.clone(), until_s });
        Some(token)
    }
}
