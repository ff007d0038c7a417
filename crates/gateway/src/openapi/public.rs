//! Where the paths of an upstream are for callers: the routes that lead there, backwards.

use std::collections::BTreeSet;

use http::Method;
use serde_json::Value;

use crate::snapshot::{Action, Route, Snapshot};
use crate::validate::METHODS;

/// An operation of an upstream as callers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The path in the upstream's document.
    pub path: String,
    /// The method, in small letters.
    pub method: &'static str,
    /// The path for callers.
    pub public: String,
    /// Hosts that it is under; any where there are none.
    pub hosts: Vec<String>,
    /// Parameters of the path that the upstream's document does not have.
    pub added: Vec<String>,
}

/// All operations of an upstream's document that callers can reach.
pub fn places(snapshot: &Snapshot, upstream: &str, document: &Value) -> Vec<Place> {
    let base = base_of(document);
    let paths: Vec<&String> =
        document.get("paths").and_then(Value::as_object).into_iter().flat_map(|p| p.keys()).collect();
    let mut found: Vec<Place> = Vec::new();
    for (at, route) in snapshot.routes.iter().enumerate() {
        if !leads_to(route, upstream) {
            continue;
        }
        for path in &paths {
            let Some(public) = public_path(route, &format!("{base}{path}")) else { continue };
            let described = &document["paths"][path.as_str()];
            for method in METHODS.into_iter().filter(|method| described.get(*method).is_some()) {
                if takes(snapshot, at, &public, method) {
                    let named = names(path);
                    let added = names(&public).into_iter().filter(|name| !named.contains(name)).collect();
                    let hosts = &route.spec.matcher.hosts;
                    let hosts = hosts.iter().filter(|host| !host.starts_with('*')).cloned().collect();
                    found.push(Place { path: (*path).clone(), method, public: public.clone(), hosts, added });
                }
            }
        }
    }
    found
}

fn leads_to(route: &Route, upstream: &str) -> bool {
    match &route.action {
        Action::Forward { shares, .. } => shares.iter().any(|(share, _)| &*share.name == upstream),
        _ => false,
    }
}

/// What a document's server says before its paths.
fn base_of(document: &Value) -> String {
    let server = document.pointer("/servers/0/url").and_then(Value::as_str).unwrap_or_default();
    let path = match server.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("", |at| &rest[at..]),
        None => server,
    };
    let path = path.trim_end_matches('/');
    if path.starts_with('/') { path.to_owned() } else { String::new() }
}

fn names(path: &str) -> BTreeSet<String> {
    let parameters = path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    parameters.map(str::to_owned).collect()
}

/// The path that a route turns into this one of the upstream.
fn public_path(route: &Route, inner: &str) -> Option<String> {
    let (rewrite, pattern) = (&route.spec.rewrite, route.spec.matcher.path.as_str());
    let mut path = inner.to_owned();
    if let Some(prefix) = &rewrite.add_prefix {
        let prefix = prefix.trim_end_matches('/');
        path = path.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'))?.to_owned();
    }
    if path.is_empty() {
        path.push('/');
    }
    if let Some(template) = &rewrite.path {
        return backwards(&template.to_string(), pattern, &path);
    }
    let stripped = rewrite.strip_prefix.as_ref().map(|prefix| {
        let prefix = prefix.trim_end_matches('/');
        // Where the prefix itself is a path that the route takes, it is so without a slash at its end.
        if path == "/" && fits(pattern, prefix) { prefix.to_owned() } else { format!("{prefix}{path}") }
    });
    stripped.into_iter().chain([path]).find(|path| fits(pattern, path))
}

/// Whether a route's pattern takes a path whose parameters are not filled in: where the pattern has a word, so has the path.
fn fits(pattern: &str, path: &str) -> bool {
    let mut segments = path.split('/');
    for wanted in pattern.split('/') {
        if wanted == "*" || wanted.starts_with("{*") {
            return true;
        }
        match segments.next() {
            Some(_) if wanted.starts_with('{') => {}
            Some(segment) if segment == wanted => {}
            _ => return false,
        }
    }
    segments.next().is_none()
}

/// What a pattern's parameters must be for the template to become this path, put into the pattern.
fn backwards(template: &str, pattern: &str, path: &str) -> Option<String> {
    let rest = pattern.rsplit('/').next().and_then(|last| last.strip_prefix("{*")?.strip_suffix('}'));
    let segments: Vec<&str> = path.split('/').collect();
    let mut captured: Vec<(&str, String)> = Vec::new();
    let mut at = 0;
    for wanted in template.split('/') {
        match wanted.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
            Some(name) if Some(name) == rest => {
                captured.push((name, segments.get(at..)?.join("/")));
                at = segments.len();
            }
            // What is made of several, or of nothing of the path, cannot be undone.
            None if wanted.contains('{') => return None,
            Some(name) => {
                captured.push((name, (*segments.get(at)?).to_owned()));
                at += 1;
            }
            None => {
                if segments.get(at) != Some(&wanted) {
                    return None;
                }
                at += 1;
            }
        }
    }
    if at != segments.len() {
        return None;
    }
    let filled = pattern.split('/').map(|segment| {
        let name = segment.strip_prefix('{').and_then(|name| name.strip_suffix('}'))?;
        let name = name.trim_start_matches('*');
        captured.iter().find(|(known, _)| *known == name).map(|(_, text)| text.clone())
    });
    let filled: Vec<String> = filled
        .zip(pattern.split('/'))
        .map(|(text, segment)| text.unwrap_or_else(|| segment.replace("{*", "{").replace('*', "")))
        .collect();
    Some(filled.join("/"))
}

/// Whether it is this route that gets requests for the path, and not a more specific one.
fn takes(snapshot: &Snapshot, at: usize, public: &str, method: &str) -> bool {
    let route = &snapshot.routes[at];
    let Ok(method) = method.to_ascii_uppercase().parse::<Method>() else { return false };
    let is_open = |methods: &[Method]| methods.is_empty() || methods.contains(&method);
    if !is_open(route.allowed()) {
        return false;
    }
    let host = route.spec.matcher.hosts.first().map(|host| host.replace('*', "any")).unwrap_or_default();
    let found = snapshot.hosts.find(&host, public, |candidate, _| {
        let matcher = &snapshot.routes[candidate].spec.matcher;
        let asks_more =
            !matcher.headers.is_empty() || !matcher.query.is_empty() || snapshot.routes[candidate].asks_who();
        let takes = candidate == at || (!asks_more && is_open(snapshot.routes[candidate].allowed()));
        takes.then_some(candidate)
    });
    found == Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_undone() {
        for (template, pattern, path, public) in [
            ("/v2/{rest}", "/files/{*rest}", "/v2/a/{id}", Some("/files/a/{id}")),
            ("/v2/{id}/x", "/items/{id}", "/v2/{key}/x", Some("/items/{key}")),
            ("/orders", "/t/{tenant}/orders", "/orders", Some("/t/{tenant}/orders")),
            ("/v2/{id}", "/items/{id}", "/v3/{key}", None),
            ("/v2/a-{id}", "/items/{id}", "/v2/a-1", None),
            ("/v2/{id}", "/items/{id}", "/v2/{key}/more", None),
        ] {
            assert_eq!(backwards(template, pattern, path).as_deref(), public, "{template} {pattern} {path}");
        }
        assert!(fits("/shop/*", "/shop/{id}") && fits("/shop/*", "/shop") && fits("/{a}/b", "/{x}/b"));
        assert!(!fits("/a/b", "/a/{x}") && !fits("/a", "/a/b") && !fits("/a/{x}", "/a"));
    }
}
