//! Who asks: tokens, keys, passwords and certificates, and what is known of who showed one.

mod api_key;
mod basic;
mod jwks;
mod jwt;
mod mtls;
mod policy;
mod remembered;
mod signer;

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use serde_json::{Map, Value};
use tessera_kernel::Clock;

pub use api_key::{hash_key, quota_name};
pub use basic::hash_password;
pub use jwks::Fetcher;
pub use policy::{Asked, Policies};
pub use remembered::Remembered;
pub use signer::{SignedTokens, Signer};

use crate::Error;
use crate::domain::cidr::caller_block;
use crate::limit::Limiter;
use crate::spec::Auth;
use crate::tls::Named;
use api_key::ApiKeys;
use basic::Basic;
use jwt::Jwt;
use mtls::Mtls;

/// Who asks, as it was proven.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Identity {
    /// The account.
    pub subject: String,
    /// Its roles.
    pub roles: Vec<String>,
    /// What it was allowed to do.
    pub scopes: Vec<String>,
    /// All claims of its token.
    pub claims: Map<String, Value>,
    /// The consumer that an API key belongs to, with the name of the way, as quotas know it.
    pub consumer: Option<Arc<str>>,
    /// The end of the proof, in seconds since the epoch; `None` where it has none.
    pub expires_at_s: Option<i64>,
}

impl Identity {
    /// A claim as text: a string as it is, others as JSON; dots lead into claims within claims.
    pub fn claim(&self, name: &str) -> Option<String> {
        if name == "sub" {
            return Some(self.subject.clone());
        }
        let found = self.claims.get(name).or_else(|| {
            let mut parts = name.split('.');
            let first = self.claims.get(parts.next()?)?;
            parts.try_fold(first, |value, part| value.get(part))
        })?;
        Some(found.as_str().map_or_else(|| found.to_string(), str::to_owned))
    }
}

/// A way to prove who one is.
#[derive(Debug)]
pub struct Way {
    /// Its name in the config file.
    pub name: Arc<str>,
    /// What the config file says of it.
    pub spec: Auth,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Jwt(Jwt),
    ApiKey(ApiKeys),
    Basic(Basic),
    Mtls(Mtls),
}

/// What a way makes of a request.
#[derive(Debug)]
pub enum Proof {
    /// Nothing of its kind was shown.
    None,
    /// It holds.
    Holds(Arc<Identity>),
    /// It does not, and why.
    Fails(String),
}

/// What a proof is looked for in, and what checking it needs.
#[derive(Clone, Copy)]
pub struct Shown<'a> {
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// The names in the certificate that the client showed.
    pub certificate: Option<&'a Named>,
    /// The time.
    pub clock: &'a dyn Clock,
    /// What was checked already.
    pub remembered: &'a Remembered,
    /// Fetches keys, and does what takes long.
    pub fetcher: &'a Fetcher,
    /// How often whoever asks may be wrong.
    pub guesses: Guesses<'a>,
}

/// The limit of proofs that do not hold, for one caller.
#[derive(Clone, Copy, Debug)]
pub struct Guesses<'a> {
    /// The limit, where there is one.
    pub limiter: Option<&'a Limiter>,
    /// The caller's address.
    pub caller: IpAddr,
    /// The time on the limits' clock.
    pub now_us: u64,
}

impl Guesses<'_> {
    /// Whether a proof may be checked. What costs nothing, such as one that is remembered, need not ask.
    ///
    /// # Errors
    /// [`Error::RateLimited`] where too many did not hold.
    pub(crate) fn may_try(self) -> Result<(), Error> {
        let Some(limiter) = self.limiter else { return Ok(()) };
        let verdict = limiter.look(self.key().as_bytes(), self.now_us).verdict;
        let retry_s = verdict.retry_us.div_ceil(1_000_000).max(1);
        if verdict.passes { Ok(()) } else { Err(Error::RateLimited { limit: limiter.name.to_string(), retry_s }) }
    }

    /// Counts a proof that did not hold.
    pub(crate) fn failed(self) {
        if let Some(limiter) = self.limiter {
            limiter.judge(self.key().as_bytes(), self.now_us);
        }
    }

    fn key(self) -> String {
        caller_block(self.caller).to_string()
    }
}

impl Way {
    /// From the config file; relative paths start from `folder`.
    ///
    /// # Errors
    /// [`Error::Config`] without a place where a key cannot be used.
    pub fn new(name: &str, spec: &Auth, folder: &Path) -> Result<Self, Error> {
        let kind = match spec {
            Auth::Jwt { .. } => Kind::Jwt(Jwt::new(name, spec, folder)?),
            Auth::ApiKey { header, consumers } => Kind::ApiKey(ApiKeys::new(name, header, consumers)?),
            Auth::Basic { realm, users } => Kind::Basic(Basic::new(realm, users)?),
            Auth::Mtls { roles } => Kind::Mtls(Mtls::new(roles.clone())),
        };
        Ok(Self { name: name.into(), spec: spec.clone(), kind })
    }

    /// Looks for a proof and checks it.
    ///
    /// # Errors
    /// [`Error::KeysUnavailable`], [`Error::RateLimited`] and [`Error::Overloaded`] where it cannot be checked for now.
    pub async fn check(self: &Arc<Self>, shown: Shown<'_>) -> Result<Proof, Error> {
        match &self.kind {
            Kind::Jwt(jwt) => jwt.check(self, shown).await,
            Kind::ApiKey(keys) => Ok(keys.check(shown.headers)),
            Kind::Basic(basic) => basic.check(self, shown).await,
            Kind::Mtls(mtls) => Ok(mtls.check(self, shown)),
        }
    }

    /// What `www-authenticate` says.
    pub fn challenge(&self) -> String {
        match &self.kind {
            Kind::Jwt(_) => "Bearer".into(),
            Kind::ApiKey(keys) => format!("ApiKey header=\"{}\"", keys.header),
            Kind::Basic(basic) => format!("Basic realm=\"{}\", charset=\"UTF-8\"", basic.realm),
            Kind::Mtls(_) => "Certificate".into(),
        }
    }

    /// The header that is not the upstream's business once it was checked.
    pub fn secret_header(&self) -> Option<&http::HeaderName> {
        match &self.kind {
            Kind::ApiKey(keys) => Some(&keys.header),
            Kind::Basic(_) => Some(&AUTHORIZATION),
            Kind::Jwt(_) | Kind::Mtls(_) => None,
        }
    }
}

/// What follows a scheme in `authorization`; nothing where there is none, or one of another scheme.
///
/// What a service behind might read as this scheme is never nothing: two lines, a tab instead of the space, no credentials.
fn credentials<'h>(headers: &'h HeaderMap, scheme: &str) -> Result<Option<&'h str>, String> {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        return Err("`authorization` is there twice; send one".into());
    }
    let text = line.as_bytes().trim_ascii();
    let end = text.iter().position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'-').unwrap_or(text.len());
    let (found, rest) = text.split_at(end);
    if !found.eq_ignore_ascii_case(scheme.as_bytes()) {
        return Ok(None);
    }
    let rest = rest.strip_prefix(b" ").and_then(|rest| std::str::from_utf8(rest).ok()).map(str::trim);
    match rest.filter(|rest| !rest.is_empty() && rest.is_ascii()) {
        Some(rest) => Ok(Some(rest)),
        None => Err(format!("`authorization` is not `{scheme}`, a space and what proves it")),
    }
}
