//! Which way a request would take, and why: the same match as for traffic, told step by step.

use std::fmt::Write;

use http::{HeaderMap, Method};

use crate::Error;
use crate::domain::path::normalise;
use crate::snapshot::{Action, Facts, Mismatch, Route, Snapshot, bare_host};

/// A request that is only thought of.
#[derive(Clone, Debug)]
pub struct Imagined {
    /// Its method.
    pub method: Method,
    /// Its host.
    pub host: String,
    /// Its path.
    pub path: String,
    /// Its query.
    pub query: Option<String>,
    /// Its headers.
    pub headers: HeaderMap,
}

/// The table of all routes.
pub fn routes(snapshot: &Snapshot) -> String {
    let rows = snapshot.routes.iter().map(|route| {
        let matcher = &route.spec.matcher;
        let any = |list: &[String], all: &str| if list.is_empty() { all.to_owned() } else { list.join(",") };
        [
            route.name.to_string(),
            any(&matcher.methods, "ANY"),
            any(&matcher.hosts, "*"),
            matcher.path.clone(),
            target(route),
        ]
    });
    let heads = ["route", "methods", "hosts", "path", "to"].map(str::to_owned);
    let rows: Vec<[String; 5]> = [heads].into_iter().chain(rows).collect();
    let widths: Vec<usize> =
        (0..5).map(|at| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0)).collect();
    let mut table = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        table.push_str(line.trim_end());
        table.push('\n');
    }
    table
}

/// Where a route leads, in words.
pub fn target(route: &Route) -> String {
    match &route.action {
        Action::Redirect(status, to) => format!("redirect {} {to}", status.as_u16()),
        Action::Respond(status, ..) => format!("respond {}", status.as_u16()),
        Action::Document => "the OpenAPI document".into(),
        Action::Page(_) => "the page of the OpenAPI document".into(),
        Action::Aggregate(plan) => {
            let calls: Vec<String> =
                plan.calls.iter().map(|call| format!("{}:{}", call.name, call.upstream.name)).collect();
            format!("aggregate {}", calls.join(" "))
        }
        Action::Forward { shares, .. } => match shares.as_slice() {
            [(only, _)] => only.name.to_string(),
            shares => shares
                .iter()
                .map(|(upstream, weight)| format!("{}:{weight}", upstream.name))
                .collect::<Vec<_>>()
                .join(" "),
        },
    }
}

/// The way of a request in words, and whether a route takes it.
///
/// # Errors
/// [`Error::BadPath`] where the path cannot be read.
pub fn explain(snapshot: &Snapshot, request: &Imagined) -> Result<(String, bool), Error> {
    let path = normalise(&request.path).map_err(|bad| Error::BadPath(bad.0))?;
    let host = bare_host(&request.host);
    let mut told = format!("{} {host}{path}\n", request.method);
    if path != request.path {
        let _ = writeln!(told, "  the path `{}` is read as `{path}`", request.path);
    }
    let facts = Facts { method: &request.method, headers: &request.headers, query: request.query.as_deref() };
    let found = snapshot.hosts.find(&host, &path, |at, captures| {
        let route = &snapshot.routes[at];
        let name = &route.name;
        match route.mismatch(facts) {
            Some(Mismatch::Method) => {
                let methods: Vec<&str> = route.allowed().iter().map(Method::as_str).collect();
                let _ = writeln!(told, "  not `{name}`: it takes {}", methods.join(", "));
            }
            Some(Mismatch::Header(header)) => {
                let _ = writeln!(told, "  not `{name}`: header `{header}` is not as it must be");
            }
            Some(Mismatch::Query(parameter)) => {
                let _ = writeln!(told, "  not `{name}`: query parameter `{parameter}` is not as it must be");
            }
            None if route.asks_who() => {
                let _ = writeln!(told, "  `{name}` if the caller's roles and claims fit; otherwise:");
            }
            None => {
                let _ = writeln!(told, "  route `{name}` takes it (path {})", route.spec.matcher.path);
                for (parameter, value) in route.parameters.iter().zip(captures) {
                    let _ = writeln!(told, "    {parameter} = {value}");
                }
                return Some(at);
            }
        }
        None
    });
    match found {
        Some(at) => tell_rest(&mut told, &snapshot.routes[at]),
        None => told.push_str("  no route takes it\n"),
    }
    Ok((told, found.is_some()))
}

fn tell_rest(told: &mut String, route: &Route) {
    if let Some(access) = &route.access {
        let asks = |what: &str, list: &[String]| {
            if list.is_empty() { String::new() } else { format!(", {what} {}", list.join(" ")) }
        };
        let anonymous = if access.spec.anonymous { ", or nobody" } else { "" };
        let spec = &access.spec;
        let _ = writeln!(
            told,
            "  access by {}{anonymous}{}{}",
            spec.by.join(" or "),
            asks("any role of", &spec.roles),
            asks("all scopes of", &spec.scopes)
        );
    }
    for limit in &route.spec.rate_limits {
        let per: Vec<String> = limit.per.iter().map(ToString::to_string).collect();
        let per = if per.is_empty() { "all together".to_owned() } else { format!("per {}", per.join(" and ")) };
        let _ = writeln!(told, "  limit `{}`: {} {per}", limit.name, limit.rate);
    }
    let _ = writeln!(told, "  to {} within {}", target(route), route.spec.timeout);
}
