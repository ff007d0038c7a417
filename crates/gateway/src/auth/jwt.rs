//! Signed tokens (RFC 7519), by the advice of RFC 8725: the key says which algorithm it is used with, never the token.

use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::jwks::{Jwks, Source};
use super::{Identity, Proof, Shown, Way, credentials};
use crate::Error;
use crate::spec::{Algorithm, Auth, JwtKey};

/// A token longer than this is refused before it is read.
const MAX_TOKEN_BYTES: usize = 8 << 10;

/// A way by tokens.
#[derive(Debug)]
pub(super) struct Jwt {
    issuer: Option<String>,
    audience: Vec<String>,
    leeway_s: i64,
    roles_claim: String,
    fixed: Vec<Key>,
    pub(super) fetched: Option<Jwks>,
}

/// A key with the one algorithm it is used with.
pub(super) struct Key {
    pub(super) id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) decoding: DecodingKey,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("id", &self.id).field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// What of a token's header is read. Where it says a key or its place, that is not asked for.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that must be understood; none are.
    crit: Option<Value>,
}

struct Parts<'t> {
    header: Header,
    claims: Map<String, Value>,
    signed: &'t str,
    signature: &'t str,
}

impl Jwt {
    pub(super) fn new(name: &str, spec: &Auth, folder: &Path) -> Result<Self, Error> {
        let Auth::Jwt { issuer, audience, keys, jwks, algorithms, leeway, roles_claim } = spec else {
            return Err(Error::Internal("not a way by tokens".into()));
        };
        let source = match (jwks, issuer) {
            (Some(url), _) => Some(Source::Url(url.clone())),
            (None, Some(issuer)) if keys.is_empty() => Some(Source::Issuer(issuer.clone())),
            _ => None,
        };
        Ok(Self {
            issuer: issuer.clone(),
            audience: audience.clone(),
            leeway_s: i64::try_from(leeway.0.as_secs()).unwrap_or(i64::MAX),
            roles_claim: roles_claim.clone(),
            fixed: keys.iter().map(|key| read_key(key, folder)).collect::<Result<_, _>>()?,
            fetched: source.map(|source| Jwks::new(name, source, algorithms)),
        })
    }

    pub(super) async fn check(&self, way: &Arc<Way>, shown: Shown<'_>) -> Result<Proof, Error> {
        let token = match credentials(shown.headers, "Bearer") {
            Ok(Some(token)) => token,
            Ok(None) => return Ok(Proof::None),
            Err(reason) => return Ok(Proof::Fails(reason)),
        };
        let now_s = shown.clock.now().micros().div_euclid(1_000_000);
        let key_set = self.fetched.as_ref().map_or(0, |jwks| jwks.number(shown.fetcher));
        if let Some(identity) = shown.remembered.get(way, key_set, token, now_s) {
            return Ok(Proof::Holds(identity));
        }
        shown.guesses.may_try()?;
        let parts = match read(token) {
            Ok(parts) => parts,
            Err(reason) => return Ok(Proof::Fails(reason.into())),
        };
        // The number of the keys that it was checked with; a newer set may be there meanwhile.
        let key_set = match self.check_signature(&parts, key_set, shown).await? {
            Ok(key_set) => key_set,
            Err(reason) => return Ok(Proof::Fails(reason.into())),
        };
        let identity = match self.check_claims(parts.claims, now_s) {
            Ok(identity) => Arc::new(identity),
            Err(reason) => return Ok(Proof::Fails(reason)),
        };
        let until_s = identity.expires_at_s.unwrap_or(i64::MAX).saturating_add(self.leeway_s);
        shown.remembered.put(way, key_set, token, identity.clone(), until_s, now_s);
        Ok(Proof::Holds(identity))
    }

    /// The number of the key set that its signature holds with.
    async fn check_signature(
        &self,
        parts: &Parts<'_>,
        key_set: u64,
        shown: Shown<'_>,
    ) -> Result<Result<u64, &'static str>, Error> {
        if self.fixed.iter().any(|key| key.signed(parts)) {
            return Ok(Ok(key_set));
        }
        let Some(jwks) = &self.fetched else { return Ok(Err("no key of ours signed it")) };
        let (keys, key_set) = jwks.keys_for(parts.header.kid.as_deref(), shown.fetcher).await?;
        let holds = keys.iter().any(|key| key.signed(parts));
        Ok(if holds { Ok(key_set) } else { Err("no key of its issuer signed it") })
    }

    fn check_claims(&self, claims: Map<String, Value>, now_s: i64) -> Result<Identity, String> {
        let seconds = |name: &str| match claims.get(name) {
            None => Ok(None),
            Some(value) => {
                let whole = value.as_i64().or_else(|| value.as_f64().map(|number| number as i64));
                whole.map(Some).ok_or_else(|| format!("its `{name}` is not a time"))
            }
        };
        let expires_at_s = seconds("exp")?.ok_or("it has no end (`exp`)")?;
        if expires_at_s.saturating_add(self.leeway_s) <= now_s {
            return Err("it has ended; sign in again".into());
        }
        if seconds("nbf")?.is_some_and(|from_s| from_s.saturating_sub(self.leeway_s) > now_s) {
            return Err("it does not hold yet (`nbf`)".into());
        }
        if self.issuer.is_some() && claims.get("iss").and_then(Value::as_str) != self.issuer.as_deref() {
            return Err("it is not of the issuer that is trusted here".into());
        }
        if !self.audience.is_empty() && !texts(claims.get("aud")).iter().any(|one| self.audience.contains(one)) {
            return Err("it is meant for others (`aud`)".into());
        }
        let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default().to_owned();
        let scopes = claims.get("scope").or_else(|| claims.get("scp"));
        let scopes = texts(scopes).iter().flat_map(|text| text.split(' ')).map(str::to_owned).collect();
        let mut identity =
            Identity { subject, scopes, claims, expires_at_s: Some(expires_at_s), ..Identity::default() };
        let mut roles = identity.claims.get(&self.roles_claim);
        if roles.is_none() {
            let mut path = self.roles_claim.split('.');
            let first = path.next().and_then(|name| identity.claims.get(name));
            roles = path.fold(first, |value, name| value?.get(name));
        }
        identity.roles = texts(roles);
        Ok(identity)
    }
}

impl Key {
    /// Whether this key may have signed the token, and did. A token without `kid` is tried with every key.
    fn signed(&self, parts: &Parts<'_>) -> bool {
        let is_named = match (&self.id, &parts.header.kid) {
            (Some(id), Some(kid)) => id == kid,
            _ => true,
        };
        let (algorithm, name) = match self.algorithm {
            Algorithm::RS256 => (jsonwebtoken::Algorithm::RS256, "RS256"),
            Algorithm::ES256 => (jsonwebtoken::Algorithm::ES256, "ES256"),
            Algorithm::EdDSA => (jsonwebtoken::Algorithm::EdDSA, "EdDSA"),
            Algorithm::HS256 => (jsonwebtoken::Algorithm::HS256, "HS256"),
        };
        is_named
            && parts.header.alg == name
            && jsonwebtoken::crypto::verify(parts.signature, parts.signed.as_bytes(), &self.decoding, algorithm)
                .unwrap_or(false)
    }
}

fn read(token: &str) -> Result<Parts<'_>, &'static str> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err("it is too long");
    }
    let (signed, signature) = token.rsplit_once('.').ok_or("it is not a token of three parts")?;
    let (header, claims) = signed.split_once('.').ok_or("it is not a token of three parts")?;
    if claims.contains('.') || signature.is_empty() {
        return Err("it is not a token of three parts");
    }
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| "a part of it is not base64url");
    let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| "its header is not understood")?;
    if header.crit.is_some() {
        return Err("it asks for extensions that are not known here");
    }
    let claims = serde_json::from_slice(&decode(claims)?).map_err(|_| "its claims are not a JSON object")?;
    Ok(Parts { header, claims, signed, signature })
}

/// One text, or a list of them.
fn texts(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

fn read_key(spec: &JwtKey, folder: &Path) -> Result<Key, Error> {
    let wrong = |detail: String| Error::Config { place: String::new(), detail };
    let pem = match &spec.file {
        None => Vec::new(),
        Some(file) => {
            let path = folder.join(file);
            std::fs::read(&path).map_err(|error| wrong(format!("key `{}`: {error}", path.display())))?
        }
    };
    let decoding = match spec.algorithm {
        Algorithm::HS256 => Ok(DecodingKey::from_secret(spec.secret.as_deref().unwrap_or_default().as_bytes())),
        Algorithm::RS256 => DecodingKey::from_rsa_pem(&pem),
        Algorithm::ES256 => DecodingKey::from_ec_pem(&pem),
        Algorithm::EdDSA => DecodingKey::from_ed_pem(&pem),
    };
    let decoding = decoding.map_err(|error| {
        let file = spec.file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
        wrong(format!("key `{file}` is not a public key of {:?} in PEM: {error}", spec.algorithm))
    })?;
    Ok(Key { id: spec.id.clone(), algorithm: spec.algorithm, decoding })
}
