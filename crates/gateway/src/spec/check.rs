//! What a config must fulfil beyond its types.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use tessera_service::yaml::hint;

use super::upstream::MAX_WEIGHT;
use super::{
    Access, Auth, Balance, Gateway, Headers, Key, Listener, Matcher, Protocol, Route, SignedIdentity, Template, Text,
    Upstream,
};
use crate::domain::path::is_normal;
use crate::domain::path_tree::Pattern;

/// A broken rule: the keys that lead to its place in the file, and what to do.
#[derive(Debug)]
pub struct Fault {
    /// Keys and values from the outside in.
    pub keys: Vec<String>,
    /// What is wrong and what to do.
    pub detail: String,
}

pub(super) fn fault<T>(keys: &[&str], detail: String) -> Result<T, Fault> {
    Err(Fault { keys: keys.iter().map(|key| (*key).to_owned()).collect(), detail })
}

pub(super) fn ensure(holds: bool, keys: &[&str], detail: impl FnOnce() -> String) -> Result<(), Fault> {
    if holds { Ok(()) } else { fault(keys, detail()) }
}

/// Names that templates may have beside the path's parameters.
const TEMPLATE_NAMES: [&str; 6] = ["host", "path", "query", "request_id", "client_ip", "subject"];

/// Checks all rules.
///
/// # Errors
/// The first broken one.
pub fn check(gateway: &Gateway) -> Result<(), Fault> {
    let version = gateway.version;
    ensure(version == 1, &["version"], || format!("version {version} is not known; this release reads version 1"))?;
    ensure(gateway.workers.is_none_or(|count| (1..=256).contains(&count)), &["workers"], || {
        "workers must be 1 to 256; leave it out for one per core".into()
    })?;
    ensure(!gateway.listeners.is_empty(), &["listeners"], || {
        "there is no listener; add one, such as { address: 127.0.0.1:8080 }".into()
    })?;
    gateway.listeners.iter().try_for_each(check_listener)?;
    check_limits(gateway)?;
    if let Some(shared) = &gateway.shared_limits {
        let is_known =
            ["redis://", "redis+cluster://", "redis+unix://"].iter().any(|start| shared.redis.starts_with(start));
        ensure(is_known, &["shared_limits", "redis"], || {
            "this is no Redis; write redis://host:6379 or redis+cluster://a:6379,b:6379".into()
        })?;
    }
    if let Some(signed) = &gateway.signed_identity {
        let SignedIdentity { issuer, header, lifetime, key_set, .. } = signed;
        ensure(!issuer.is_empty(), &["signed_identity", "issuer"], || "an issuer has a name, such as its URL".into())?;
        check_header(&["signed_identity", "header"], header)?;
        ensure((1..=3_600).contains(&lifetime.0.as_secs()), &["signed_identity", "lifetime"], || {
            "lifetime must be 1s to 1h".into()
        })?;
        ensure(key_set.starts_with('/') && is_normal(key_set), &["signed_identity", "key_set"], || {
            format!("`{key_set}` is not a path; write one such as /.well-known/gateway-keys.json")
        })?;
    }
    gateway.auth.iter().try_for_each(|(name, auth)| check_auth(name, auth))?;
    gateway.upstreams.iter().try_for_each(|(name, upstream)| check_upstream(name, upstream))?;
    let mut names = BTreeSet::new();
    for route in &gateway.routes {
        check_name(&["routes", &route.name], &route.name)?;
        ensure(names.insert(&route.name), &["routes", &route.name], || {
            format!("there are two routes `{}`; rename one", route.name)
        })?;
        check_route(gateway, route)?;
    }
    super::documents::check(gateway)?;
    super::cache::check(gateway)?;
    super::compress::check(gateway)
}

fn check_name(keys: &[&str], name: &str) -> Result<(), Fault> {
    let good = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    ensure((1..=100).contains(&name.len()) && name.chars().all(good), keys, || {
        format!("`{name}` cannot be a name; use up to 100 letters, digits, `_`, `-` and `.`")
    })
}

fn check_listener(listener: &Listener) -> Result<(), Fault> {
    let address = listener.address.as_str();
    ensure(address.parse::<SocketAddr>().is_ok(), &["listeners", address], || {
        format!("`{address}` is not an address; write host and port, such as 0.0.0.0:8080 or [::]:8080")
    })?;
    ensure(listener.http3 || listener.http3_port.is_none(), &["listeners", address, "http3_port"], || {
        "there is no HTTP/3 on this listener; add `http3: true`, or leave `http3_port` out".into()
    })?;
    ensure(listener.http3_port != Some(0), &["listeners", address, "http3_port"], || {
        "nobody can come by port 0; write the port that clients come by".into()
    })?;
    ensure(!listener.http3 || listener.tls.is_some(), &["listeners", address, "http3"], || {
        "HTTP/3 is never without TLS; add `tls`, or leave `http3` out".into()
    })?;
    ensure(!listener.http3 || cfg!(feature = "http3"), &["listeners", address, "http3"], || {
        "this binary is built without HTTP/3; build it with `--features http3`, or leave `http3` out".into()
    })?;
    let Some(tls) = &listener.tls else { return Ok(()) };
    ensure(!tls.certificates.is_empty() || tls.acme.is_some(), &["listeners", address, "certificates"], || {
        "a listener with tls needs a certificate; add { chain: FILE, key: FILE }, or `acme`".into()
    })?;
    let Some(acme) = &tls.acme else { return Ok(()) };
    let keys = |key: &'static str| ["listeners", address, "acme", key];
    let is_near = ["http://127.0.0.1:", "http://localhost:"].iter().any(|start| acme.directory.starts_with(start));
    ensure(acme.directory.starts_with("https://") || is_near, &keys("directory"), || {
        format!("`{}` is not the https URL of a directory", acme.directory)
    })?;
    ensure((1..=100).contains(&acme.domains.len()), &keys("domains"), || "acme needs 1 to 100 domains".into())?;
    for domain in &acme.domains {
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
        ensure(
            domain.chars().all(good) && !domain.starts_with(['.', '-']) && domain.contains('.'),
            &keys("domains"),
            || format!("`{domain}` cannot be proven; write a whole name in small letters, without `*`"),
        )?;
    }
    Ok(())
}

fn check_limits(gateway: &Gateway) -> Result<(), Fault> {
    let limits = &gateway.limits;
    ensure((1 << 10..=1 << 20).contains(&limits.head.0), &["limits", "head"], || "head must be 1KiB to 1MiB".into())?;
    ensure(limits.target.0 >= 64 && limits.target.0 <= limits.head.0, &["limits", "target"], || {
        "target must be at least 64B and no more than head".into()
    })?;
    ensure((1..=1_000).contains(&limits.headers), &["limits", "headers"], || "headers must be 1 to 1000".into())?;
    ensure((1..=10_000).contains(&limits.streams), &["limits", "streams"], || "streams must be 1 to 10000".into())?;
    ensure(limits.connections > 0, &["limits", "connections"], || "connections must be at least 1".into())?;
    for (name, span) in [
        ("head_timeout", limits.head_timeout),
        ("body_timeout", limits.body_timeout),
        ("write_timeout", limits.write_timeout),
    ] {
        ensure(!span.0.is_zero(), &["limits", name], || format!("{name} must be more than 0; write 30s"))?;
    }
    ensure(gateway.tracing.sample_percent <= 100, &["tracing", "sample_percent"], || {
        "sample_percent must be 0 to 100".into()
    })?;
    ensure(gateway.access_log.sample_percent <= 100, &["access_log", "sample_percent"], || {
        "sample_percent must be 0 to 100".into()
    })
}

fn check_auth(name: &str, auth: &Auth) -> Result<(), Fault> {
    check_name(&["auth", name], name)?;
    match auth {
        Auth::Jwt { issuer, keys, jwks, algorithms, .. } => {
            let is_url = |url: &str| url.starts_with("https://") || url.starts_with("http://");
            let is_found = issuer.as_deref().is_some_and(is_url);
            ensure(!keys.is_empty() || jwks.is_some() || is_found, &["auth", name], || {
                "jwt needs `keys`, `jwks` or an `issuer` with a URL to check signatures with".into()
            })?;
            ensure(jwks.as_deref().is_none_or(is_url), &["auth", name, "jwks"], || {
                format!("`{}` is not an http or https URL", jwks.as_deref().unwrap_or_default())
            })?;
            ensure(!algorithms.contains(&super::Algorithm::HS256), &["auth", name, "algorithms"], || {
                "HS256 cannot be used with a key set, whose keys are public; list it under `keys` with a secret".into()
            })?;
            ensure(!algorithms.is_empty(), &["auth", name, "algorithms"], || {
                "without an algorithm no key could be used; leave `algorithms` out for RS256, ES256 and EdDSA".into()
            })?;
            keys.iter().try_for_each(|key| check_jwt_key(name, key))
        }
        Auth::ApiKey { consumers, header } => {
            ensure(http::HeaderName::try_from(header.as_str()).is_ok(), &["auth", name, "header"], || {
                format!("`{header}` cannot be the name of a header")
            })?;
            for (consumer, key) in consumers {
                let good = |hash: &String| hash.len() == 64 && hash.chars().all(|c| c.is_ascii_hexdigit());
                ensure(key.hashes.iter().all(good), &["auth", name, consumer, "hashes"], || {
                    "a hash is 64 hexadecimal digits; `tessera gateway hash-key` prints one".into()
                })?;
                let is_long = key.quota.is_none_or(|quota| quota.period.0.as_secs() >= 1);
                ensure(is_long, &["auth", name, consumer, "quota"], || "a quota is for 1s at least".into())?;
            }
            Ok(())
        }
        Auth::Basic { .. } | Auth::Mtls { .. } => Ok(()),
    }
}

fn check_jwt_key(name: &str, key: &super::JwtKey) -> Result<(), Fault> {
    let is_shared = key.algorithm == super::Algorithm::HS256;
    ensure(key.secret.is_some() == is_shared && key.file.is_some() != is_shared, &["auth", name, "keys"], || {
        "a key of HS256 has a `secret`, one of RS256, ES256 and EdDSA a `file`".into()
    })?;
    ensure(key.secret.as_ref().is_none_or(|secret| secret.len() >= 32), &["auth", name, "secret"], || {
        "a secret must have at least 32 bytes".into()
    })
}

fn check_upstream(name: &str, upstream: &Upstream) -> Result<(), Fault> {
    check_name(&["upstreams", name], name)?;
    let sources =
        [!upstream.endpoints.is_empty(), upstream.discover.is_some(), upstream.in_process].into_iter().filter(|&is| is);
    ensure(sources.count() == 1, &["upstreams", name], || {
        format!("upstream `{name}` needs one of `endpoints`, `discover` and `in_process`")
    })?;
    ensure(
        upstream.endpoints.iter().all(|endpoint| endpoint.weight <= MAX_WEIGHT),
        &["upstreams", name, "weight"],
        || format!("a weight is 0 to {MAX_WEIGHT}"),
    )?;
    ensure(
        (upstream.balance == Balance::Hash) == upstream.hash_key.is_some(),
        &["upstreams", name, "balance"],
        || "`balance: hash` and `hash_key` belong together".into(),
    )?;
    if let Some(super::Source::Srv { name: wanted, .. }) = &upstream.discover {
        ensure(wanted.contains('.') && !wanted.contains(['/', ':']), &["upstreams", name, "srv", "name"], || {
            format!("`{wanted}` is not the name of a service; write it as in _http._tcp.shop.internal")
        })?;
    }
    if let Some(health) = &upstream.health {
        ensure(health.path.starts_with('/'), &["upstreams", name, "health", "path"], || {
            format!("`{}` must start with `/`", health.path)
        })?;
        ensure(health.every.0.as_millis() >= 10, &["upstreams", name, "health", "every"], || {
            "probes may come every 10ms at most".into()
        })?;
    }
    for (key, span) in [("connect_timeout", upstream.connect_timeout), ("ping_every", upstream.ping_every)] {
        ensure(!span.0.is_zero(), &["upstreams", name, key], || format!("{key} must be more than 0; write 2s"))?;
    }
    ensure(upstream.outliers.most_percent <= 100, &["upstreams", name, "most_percent"], || {
        "most_percent must be 0 to 100".into()
    })
}

fn check_route(gateway: &Gateway, route: &Route) -> Result<(), Fault> {
    let name = route.name.as_str();
    let at = |key: &'static str| ["routes", name, key];
    let actions = usize::from(route.upstream.is_some())
        + usize::from(!route.split.is_empty())
        + usize::from(route.redirect.is_some())
        + usize::from(route.respond.is_some())
        + usize::from(route.aggregate.is_some())
        + usize::from(route.docs.is_some());
    ensure(actions == 1, &["routes", name], || {
        format!(
            "route `{name}` needs exactly one of upstream, split, redirect, respond, aggregate and docs; it has {actions}"
        )
    })?;
    let known: Vec<&str> = gateway.upstreams.keys().map(String::as_str).collect();
    let shares = route.split.iter().map(|share| share.upstream.as_str());
    let mirror = route.mirror.iter().map(|mirror| mirror.upstream.as_str());
    for upstream in route.upstream.as_deref().into_iter().chain(shares).chain(mirror) {
        ensure(known.contains(&upstream), &["routes", name, upstream], || {
            format!("there is no upstream `{upstream}`; {}", hint(upstream, "upstreams", &known))
        })?;
    }
    let is_inside = |name: &str| gateway.upstreams.get(name).is_some_and(|upstream| upstream.in_process);
    ensure(
        !(route.transcode.is_some() || route.grpc_web) || !route.targets().any(is_inside),
        &["routes", name],
        || {
            "the process's own components speak no gRPC; leave transcode and grpc_web out, or name an upstream with endpoints"
            .into()
        },
    )?;
    ensure(!route.mirror.as_ref().is_some_and(|mirror| is_inside(&mirror.upstream)), &at("mirror"), || {
        "the process's own components get no copies; name an upstream with endpoints".into()
    })?;
    ensure(route.split.is_empty() || route.split.iter().any(|share| share.weight > 0), &at("split"), || {
        "at least one share needs a weight above 0".into()
    })?;
    if let Some(redirect) = &route.redirect {
        ensure(matches!(redirect.status, 301 | 302 | 303 | 307 | 308), &at("status"), || {
            format!("{} does not redirect; use 301, 302, 303, 307 or 308", redirect.status)
        })?;
    }
    if let Some(respond) = &route.respond {
        ensure((200..=599).contains(&respond.status), &at("status"), || "a status is 200 to 599".into())?;
        for (header, value) in &respond.headers {
            check_header(&[&at("headers")[..], &[header.as_str()]].concat(), header)?;
            ensure(http::HeaderValue::from_str(value).is_ok(), &at("headers"), || {
                format!("`{value}` cannot be a header's value")
            })?;
        }
    }
    ensure(!route.timeout.0.is_zero(), &at("timeout"), || "timeout must be more than 0; write 30s".into())?;
    ensure((1..=10).contains(&route.retry.attempts), &at("attempts"), || "attempts must be 1 to 10".into())?;
    ensure(route.retry.hedge_after.is_none_or(|after| after.0 < route.timeout.0), &at("hedge_after"), || {
        "hedge_after must be less than the route's timeout".into()
    })?;
    for upstream in route.targets().filter(|_| route.grpc_web) {
        let speaks = gateway.upstreams.get(upstream).is_none_or(|known| known.protocol != Protocol::Http1);
        ensure(speaks, &at("grpc_web"), || {
            format!("gRPC needs HTTP/2; give upstream `{upstream}` the protocol http2 or negotiate")
        })?;
    }
    let percent = route.mirror.as_ref().map_or(0, |mirror| mirror.percent);
    ensure(percent <= 100, &at("percent"), || format!("{percent} is no share in per cent; write 0 to 100"))?;
    let parameters = check_match(route)?;
    if let Some(Key::Path(wanted)) = &route.sticky {
        ensure(parameters.contains(wanted), &at("sticky"), || format!("the path has no parameter `{wanted}`"))?;
    }
    check_templates(route, &parameters)?;
    super::aggregate::check(gateway, route, &parameters)?;
    super::validate::check(route)?;
    super::versions::check(gateway, route, &parameters)?;
    super::transcode::check(gateway, route)?;
    if let Some(access) = &route.access {
        check_access(gateway, name, access)?;
    }
    ensure(
        route.access.is_some() || (route.matcher.claims.is_empty() && route.matcher.roles.is_empty()),
        &at("match"),
        || "a match by claims or roles needs `access`, which says who proves them".into(),
    )?;
    let together = route.rate_limits.iter().find(|limit| limit.shared && gateway.shared_limits.is_none());
    if let Some(limit) = together {
        return fault(
            &["routes", name, "rate_limits", &limit.name],
            "`shared` needs `shared_limits`, which names a Redis".into(),
        );
    }
    check_rates(route, &parameters)
}

fn check_match(route: &Route) -> Result<Vec<String>, Fault> {
    let Matcher { hosts, path, methods, headers, .. } = &route.matcher;
    let name = route.name.as_str();
    let pattern = path.parse::<Pattern>().or_else(|reason| fault(&["routes", name, "path"], reason))?;
    for host in hosts {
        let bare = host.strip_prefix("*.").unwrap_or(host);
        let good = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        ensure(!bare.is_empty() && bare.chars().all(good), &["routes", name, "hosts", host], || {
            format!("`{host}` is not a host; write api.example.com or *.example.com")
        })?;
    }
    for method in methods {
        ensure(
            !method.is_empty() && method.chars().all(|c| c.is_ascii_uppercase()),
            &["routes", name, "methods", method],
            || format!("`{method}` is not a method; write it in capital letters"),
        )?;
    }
    headers.keys().try_for_each(|header| check_header(&["routes", name, "headers", header], header))?;
    Ok(pattern.parameters().into_iter().map(str::to_owned).collect())
}

fn check_header(keys: &[&str], name: &str) -> Result<(), Fault> {
    ensure(http::HeaderName::try_from(name).is_ok(), keys, || format!("`{name}` cannot be the name of a header"))
}

fn check_templates(route: &Route, parameters: &[String]) -> Result<(), Fault> {
    let name = route.name.as_str();
    let check = |key: &str, template: &Template| {
        let known = |wanted: &str| parameters.iter().any(|known| known == wanted) || TEMPLATE_NAMES.contains(&wanted);
        match template.names().find(|wanted| !known(wanted)) {
            None => Ok(()),
            Some(unknown) => {
                let all: Vec<&str> = parameters.iter().map(String::as_str).chain(TEMPLATE_NAMES).collect();
                fault(
                    &["routes", name, key],
                    format!("`{{{unknown}}}` is not known here; {}", hint(unknown, "names", &all)),
                )
            }
        }
    };
    if let Some(path) = &route.rewrite.path {
        check("rewrite", path)?;
        ensure(path.to_string().starts_with('/'), &["routes", name, "rewrite"], || "a path starts with `/`".into())?;
        ensure(is_normal(&path.fill(|_| "x".into())), &["routes", name, "rewrite"], || {
            format!("`{path}` can be spelled otherwise; leave out needless escapes, `.`, `..` and double slashes")
        })?;
    }
    if let Some(redirect) = &route.redirect {
        check("redirect", &redirect.to)?;
        let to = redirect.to.to_string();
        let is_fixed = ["http://", "https://", "{path}"].iter().any(|start| to.starts_with(start))
            || (to.starts_with('/') && !to.starts_with("//"));
        ensure(is_fixed, &["routes", name, "redirect"], || {
            format!("`{to}` does not say where it leads; begin with `/`, `https://`, `http://` or `{{path}}`")
        })?;
    }
    for Headers { remove, set, add } in [&route.request_headers, &route.response_headers] {
        remove
            .iter()
            .chain(set.keys())
            .chain(add.keys())
            .try_for_each(|header| check_header(&["routes", name, header], header))?;
        set.iter().chain(add).try_for_each(|(header, value)| check(header, value))?;
    }
    Ok(())
}

fn check_access(gateway: &Gateway, name: &str, access: &Access) -> Result<(), Fault> {
    let known: Vec<&str> = gateway.auth.keys().map(String::as_str).collect();
    ensure(!access.by.is_empty(), &["routes", name, "access"], || "`by` needs at least one name of `auth`".into())?;
    for way in &access.by {
        ensure(known.contains(&way.as_str()), &["routes", name, "access", way], || {
            format!("there is no `{way}` under `auth`; {}", hint(way, "ways", &known))
        })?;
    }
    let asks = !access.roles.is_empty()
        || !access.scopes.is_empty()
        || access.policy.is_some()
        || access.policy_file.is_some()
        || access.claims.values().any(|text| !matches!(text, Text::Absent));
    ensure(!(access.anonymous && asks), &["routes", name, "anonymous"], || {
        "nobody has roles, scopes, claims or policies; take out `anonymous` or what is asked for".into()
    })?;
    ensure(access.policy.is_none() || access.policy_file.is_none(), &["routes", name, "policy_file"], || {
        "policies stand in `policy` or in `policy_file`; take out one".into()
    })
}

fn check_rates(route: &Route, parameters: &[String]) -> Result<(), Fault> {
    let name = route.name.as_str();
    for limit in &route.rate_limits {
        check_name(&["routes", name, "rate_limits", &limit.name], &limit.name)?;
        for key in &limit.per {
            if let Key::Path(wanted) = key {
                ensure(parameters.contains(wanted), &["routes", name, "rate_limits", &limit.name], || {
                    format!("the path has no parameter `{wanted}`")
                })?;
            }
        }
        ensure(limit.burst.is_none_or(|burst| (1..=1_000_000).contains(&burst)), &["routes", name, "burst"], || {
            "burst must be 1 to 1000000".into()
        })?;
    }
    ensure(route.requests_at_once != Some(0), &["routes", name, "requests_at_once"], || {
        "requests_at_once must be at least 1".into()
    })
}
