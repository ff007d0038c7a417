//! A key that was brought: RSA, for verifiers that know nothing but RS256. Made elsewhere, since what signs here makes none.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::EncodingKey;
use ring::rsa::{KeyPair, PublicKeyComponents};
use serde_json::{Value, json};

use super::token::PublicKey;

/// An RSA key as a PEM file has it (PKCS #1 or PKCS #8), for RS256.
#[derive(Clone)]
pub struct RsaKey {
    pub(super) pem: String,
    pub(super) public: PublicKey,
    pub(super) encoding: EncodingKey,
    /// The public part as a JWK (RFC 7518, 6.3).
    pub(super) jwk: Value,
}

impl RsaKey {
    /// Reads a file's text.
    ///
    /// # Errors
    /// What is wrong with it, and what to give.
    pub fn parse(text: &str) -> Result<Self, String> {
        let remedy = "give a private key such as `openssl genrsa -out FILE 2048` makes";
        let refused = |reason: &dyn std::fmt::Display| format!("{reason}; {remedy}");
        let document = pem::parse(text).map_err(|error| refused(&format_args!("it is not PEM ({error})")))?;
        let pair = match document.tag() {
            "PRIVATE KEY" => KeyPair::from_pkcs8(document.contents()),
            "RSA PRIVATE KEY" => KeyPair::from_der(document.contents()),
            other => return Err(refused(&format_args!("it holds a `{other}`"))),
        };
        let pair = pair.map_err(|error| refused(&format_args!("it is no RSA key of 2048 to 4096 bits ({error})")))?;
        let PublicKeyComponents::<Vec<u8>> { n, e } = pair.public().into();
        let public = PublicKey::of_rsa(&n, &e);
        let (n, e) = (URL_SAFE_NO_PAD.encode(n), URL_SAFE_NO_PAD.encode(e));
        let jwk = json!({ "kty": "RSA", "use": "sig", "alg": "RS256", "kid": public.kid, "n": n, "e": e });
        // That block only, whatever else the file has.
        let pem = pem::encode(&document);
        let encoding = EncodingKey::from_rsa_pem(pem.as_bytes()).map_err(|error| refused(&error))?;
        Ok(Self { pem, public, encoding, jwk })
    }

    /// The thumbprint of its public part (RFC 7638).
    pub fn kid(&self) -> &str {
        &self.public.kid
    }
}

impl std::fmt::Debug for RsaKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RsaKey").field(&self.public.kid).finish()
    }
}
