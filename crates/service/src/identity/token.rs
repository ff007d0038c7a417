//! A token's parts. What it says of itself chooses a key and is believed in nothing else; the signature is checked before a claim is.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::{Map, Value};
use tessera_kernel::Timestamp;

use super::{Identity, MAX_SUBJECT_BYTES, Origin};
use crate::Error;

/// A token longer than this is nobody's whom we believe.
const MAX_TOKEN_BYTES: usize = 8192;
/// A name of a key longer than this is none.
const MAX_KID_BYTES: usize = 256;
/// Roles beyond these are not read.
const MAX_ROLES: usize = 64;
/// How far a clock of another machine may be ahead of ours.
const LEEWAY_S: f64 = 60.0;

/// What a token says of itself before anything is verified: which key and which issuer to ask.
#[derive(Debug)]
pub(super) struct Unverified {
    pub kid: Option<String>,
    pub issuer: Option<String>,
}

#[derive(Deserialize)]
struct Head {
    kid: Option<String>,
}

#[derive(Deserialize)]
struct Issued {
    iss: Option<String>,
}

impl Unverified {
    pub fn read(token: &str) -> Result<Self, Error> {
        let refused = |reason: &str| Error::BadToken(reason.to_owned());
        if token.len() > MAX_TOKEN_BYTES {
            return Err(refused("it is too long"));
        }
        let mut parts = token.split('.');
        let (Some(head), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(refused("it is not three parts with dots between"));
        };
        let head: Head = part(head).ok_or_else(|| refused("its header cannot be read"))?;
        let issued: Issued = part(payload).ok_or_else(|| refused("its claims cannot be read"))?;
        if head.kid.as_ref().is_some_and(|kid| kid.len() > MAX_KID_BYTES) {
            return Err(unknown_key());
        }
        Ok(Self { kid: head.kid, issuer: issued.iss })
    }
}

fn part<T: for<'de> Deserialize<'de>>(text: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

/// Whose tokens a key signs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Names<'a> {
    /// The token must name one of these, and its audience.
    OneOf(&'a [String]),
    /// Where the token names an issuer and an audience, they must be right; none of these means any.
    IfAny(&'a [String]),
}

/// What a token must say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected<'a> {
    pub names: Names<'a>,
    pub audience: &'a str,
    pub roles_claim: &'a str,
    /// What the key is one of.
    pub origin: Origin,
    pub now: Timestamp,
}

/// A key that verifies, with the one algorithm that it is for.
#[derive(Clone)]
pub(super) struct PublicKey {
    pub kid: String,
    pub algorithm: Algorithm,
    decoding: DecodingKey,
}

/// What a token says, once its signature and what is said below were checked.
#[derive(Deserialize)]
pub(super) struct Claims {
    sub: String,
    exp: f64,
    nbf: Option<f64>,
    iss: Option<String>,
    aud: Option<Audience>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Claims {
    /// Whom it is about.
    pub fn subject(&self) -> &str {
        &self.sub
    }

    /// A claim that is a text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.rest.get(name)?.as_str()
    }

    /// When it is over.
    fn expires_at(&self) -> Timestamp {
        Timestamp::from_micros((self.exp * 1e6) as i64)
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// A key of a JWK set, as far as it is read (RFC 7517, 7518, 8037).
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Jwk {
    kty: String,
    kid: Option<String>,
    r#use: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl PublicKey {
    pub fn of_ed25519(public: &[u8]) -> Self {
        // RFC 8037, appendix A.3.
        let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, URL_SAFE_NO_PAD.encode(public));
        let decoding = DecodingKey::from_ed_der(public);
        Self { kid: thumbprint(&canonical), algorithm: Algorithm::EdDSA, decoding }
    }

    /// An RSA key for RS256, out of modulus and exponent.
    pub fn of_rsa(n: &[u8], e: &[u8]) -> Self {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let canonical = format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, text(e), text(n));
        let decoding = DecodingKey::from_rsa_raw_components(n, e);
        Self { kid: thumbprint(&canonical), algorithm: Algorithm::RS256, decoding }
    }

    /// The key of a JWK, or none where it is not for signatures that we check. A shared secret is never one.
    pub fn of_jwk(jwk: &Jwk) -> Option<Self> {
        if jwk.r#use.as_deref().is_some_and(|usage| usage != "sig") {
            return None;
        }
        let text = |member: &Option<String>| member.clone().unwrap_or_default();
        let (algorithm, decoding) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("OKP", Some("Ed25519")) => (Algorithm::EdDSA, DecodingKey::from_ed_components(&text(&jwk.x))),
            ("EC", Some("P-256")) => (Algorithm::ES256, DecodingKey::from_ec_components(&text(&jwk.x), &text(&jwk.y))),
            ("EC", Some("P-384")) => (Algorithm::ES384, DecodingKey::from_ec_components(&text(&jwk.x), &text(&jwk.y))),
            ("RSA", _) => {
                let algorithm = match jwk.alg.as_deref() {
                    None | Some("RS256") => Algorithm::RS256,
                    Some("RS384") => Algorithm::RS384,
                    Some("RS512") => Algorithm::RS512,
                    Some("PS256") => Algorithm::PS256,
                    Some(_) => return None,
                };
                (algorithm, DecodingKey::from_rsa_components(&text(&jwk.n), &text(&jwk.e)))
            }
            _ => return None,
        };
        let named = jwk.alg.as_ref().is_none_or(|alg| *alg == format!("{algorithm:?}"));
        let kid = text(&jwk.kid);
        decoding.ok().filter(|_| named).map(|decoding| Self { kid, algorithm, decoding })
    }

    /// Who a token names that this key must have signed.
    pub fn verify(&self, token: &str, expected: &Expected<'_>) -> Result<Identity, Error> {
        let claims = self.claims(token, expected)?;
        let (roles, expires_at) = (roles(&claims.rest, expected.roles_claim), claims.expires_at());
        Ok(Identity { subject: claims.sub.into(), roles: roles.into(), origin: expected.origin, expires_at })
    }

    /// What a token says that this key must have signed.
    pub fn claims(&self, token: &str, expected: &Expected<'_>) -> Result<Claims, Error> {
        let refused = |reason: String| Error::BadToken(reason);
        // One algorithm, the key's: what the token says of it must agree. The rest is checked below, against our own clock.
        let mut validation = Validation::new(self.algorithm);
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let claims = jsonwebtoken::decode::<Claims>(token, &self.decoding, &validation)
            .map_err(|error| refused(format!("its signature or form is wrong: {error}")))?
            .claims;
        if claims.sub.is_empty() || claims.sub.len() > MAX_SUBJECT_BYTES {
            return Err(refused("its subject must be 1 to 128 bytes".into()));
        }
        let now_s = expected.now.micros() as f64 / 1e6;
        if claims.expires_at() <= expected.now {
            return Err(over(claims.expires_at()));
        }
        if claims.nbf.is_some_and(|from| from > now_s + LEEWAY_S) {
            return Err(refused("it is not valid yet; compare the clocks of the machines".into()));
        }
        check_names(&claims, expected)?;
        Ok(claims)
    }
}

fn check_names(claims: &Claims, expected: &Expected<'_>) -> Result<(), Error> {
    let short = |text: &str| text.chars().take(80).collect::<String>();
    let (names, must) = match expected.names {
        Names::OneOf(names) => (names, true),
        Names::IfAny(names) => (names, false),
    };
    let named = match &claims.iss {
        Some(issuer) => names.contains(issuer) || (!must && names.is_empty()),
        None => !must,
    };
    if !named {
        let issuer = claims.iss.as_deref().map_or("nobody".to_owned(), |issuer| format!("`{}`", short(issuer)));
        return Err(Error::BadToken(format!("it was issued by {issuer}, which is not believed here")));
    }
    let meant = match &claims.aud {
        None => !must,
        Some(Audience::One(audience)) => audience == expected.audience,
        Some(Audience::Many(audiences)) => audiences.iter().any(|audience| audience == expected.audience),
    };
    if meant {
        return Ok(());
    }
    Err(Error::BadToken(format!("it is not meant for `{}` (`aud`)", expected.audience)))
}

/// The roles at a dotted path: a list of texts, or words with spaces between.
fn roles(claims: &Map<String, Value>, path: &str) -> Vec<String> {
    let mut parts = path.split('.');
    let first = claims.get(path).or_else(|| parts.next().and_then(|part| claims.get(part)));
    let found = match first {
        Some(found) if !claims.contains_key(path) => parts.try_fold(found, |value, part| value.get(part)),
        found => found,
    };
    let texts: Vec<&str> = match found {
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(words)) => words.split_whitespace().collect(),
        _ => Vec::new(),
    };
    texts.into_iter().take(MAX_ROLES).map(str::to_owned).collect()
}

pub(super) fn over(at: Timestamp) -> Error {
    Error::BadToken(format!("it ended at {at}; sign in again"))
}

pub(super) fn unknown_key() -> Error {
    Error::BadToken("the key that it names is not known here, or was taken back; sign in again, or give `tessera token` the data folder of this server".into())
}

/// The thumbprint of a public key (RFC 7638), of which this is the canonical form.
fn thumbprint(canonical: &str) -> String {
    URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, canonical.as_bytes()))
}
