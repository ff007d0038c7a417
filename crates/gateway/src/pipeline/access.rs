//! Authenticate and authorise: who asks, and whether he may.

use std::sync::Arc;

use super::Exchange;
use crate::Error;
use crate::auth::{Asked, Guesses, Identity, Proof, Shown};
use crate::snapshot::Access;
use crate::spec::{Auth, Text};

/// Who asks, by any of the ways; nobody where nothing is shown.
///
/// # Errors
/// [`Error::BadCredentials`] where something is shown and nothing of it holds; [`Error::RateLimited`] where that happened
/// too often.
pub(super) async fn identity(exchange: &Exchange, access: &Access) -> Result<Option<Arc<Identity>>, Error> {
    let worker = &exchange.worker;
    let limiter = exchange.snapshot.guesses.as_deref();
    let guesses = Guesses { limiter, caller: exchange.client_ip, now_us: worker.now_us() };
    let shown = Shown {
        headers: &exchange.head.headers,
        certificate: exchange.peer.certificate.as_ref(),
        clock: &*worker.shared.clock,
        remembered: &worker.remembered,
        fetcher: &worker.shared.fetcher,
        guesses,
    };
    let mut refused = None;
    for way in &access.ways {
        match way.check(shown).await? {
            Proof::Holds(identity) => return Ok(Some(identity)),
            Proof::Fails(reason) => refused = refused.or(Some((reason, way.challenge()))),
            Proof::None => {}
        }
    }
    if refused.is_some() {
        guesses.failed();
    }
    match refused {
        Some((reason, challenge)) if challenge == "Bearer" => {
            Err(Error::BadCredentials { reason, challenge: "Bearer error=\"invalid_token\"".into() })
        }
        Some((reason, challenge)) => Err(Error::BadCredentials { reason, challenge }),
        None => Ok(None),
    }
}

/// Finds out who asks.
///
/// # Errors
/// [`Error::NotSignedIn`] and [`Error::BadCredentials`].
pub(super) async fn authenticate(exchange: &mut Exchange, access: &Access) -> Result<(), Error> {
    exchange.identity = identity(exchange, access).await?;
    if exchange.identity.is_some() || access.spec.anonymous {
        return Ok(());
    }
    let challenges: Vec<String> = access.ways.iter().map(|way| way.challenge()).collect();
    let wanted = match access.ways.first().map(|way| &way.spec) {
        Some(Auth::ApiKey { .. }) => "an API key in its header",
        Some(Auth::Basic { .. }) => "`authorization: Basic …`",
        Some(Auth::Mtls { .. }) => "a client certificate when connecting",
        _ => "`authorization: Bearer …`",
    };
    Err(Error::NotSignedIn { wanted, challenge: challenges.join(", ") })
}

/// Refuses who may not.
///
/// # Errors
/// [`Error::Forbidden`], which says what is missing.
pub(super) fn authorise(exchange: &Exchange, access: &Access) -> Result<(), Error> {
    let spec = &access.spec;
    let Some(identity) = &exchange.identity else { return Ok(()) };
    if !spec.roles.is_empty() && !spec.roles.iter().any(|role| identity.roles.contains(role)) {
        return Err(Error::Forbidden(format!("the role {}", spec.roles.join(" or "))));
    }
    if let Some(missing) = spec.scopes.iter().find(|scope| !identity.scopes.contains(scope)) {
        return Err(Error::Forbidden(format!("the scope {missing}")));
    }
    for (name, text) in &spec.claims {
        let value = identity.claim(name);
        let fits = match text {
            // `"{user}"`: what the path has there.
            Text::Exactly(wanted) if wanted.starts_with('{') && wanted.ends_with('}') => {
                let parameter = exchange.parameter(&wanted[1..wanted.len() - 1]);
                parameter.is_some() && parameter.as_deref() == value.as_deref()
            }
            text => text.fits(value.as_deref()),
        };
        if !fits {
            return Err(Error::Forbidden(format!("another `{name}`")));
        }
    }
    let Some(policies) = &access.policies else { return Ok(()) };
    let route = exchange.route.and_then(|at| exchange.snapshot.routes.get(at));
    let names = route.map(|route| route.parameters.as_slice()).unwrap_or_default();
    let parameter = |name: &String| Some((name.clone(), exchange.parameter(name)?.into_owned()));
    let asked = Asked {
        identity,
        method: exchange.head.method.as_str(),
        route: route.map_or("", |route| &route.name),
        host: &exchange.host,
        ip: exchange.client_ip,
        path: names.iter().filter_map(parameter).collect(),
    };
    if policies.permit(&asked) { Ok(()) } else { Err(Error::Forbidden("a policy that permits it".into())) }
}
