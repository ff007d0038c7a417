//! What a pipeline must fulfil beyond its types.

use std::collections::{BTreeMap, BTreeSet};

use super::{Auth, Incremental, Lists, Method, Paginator, Pipeline, Resource, WriteMode};

/// A broken rule: the keys that lead to its place in the file, and what to do.
#[derive(Debug)]
pub struct Fault {
    /// Keys and values from the outside in.
    pub keys: Vec<String>,
    /// What is wrong and what to do.
    pub detail: String,
}

fn fault<T>(keys: &[&str], detail: String) -> Result<T, Fault> {
    Err(Fault { keys: keys.iter().map(|key| (*key).to_owned()).collect(), detail })
}

/// Checks all rules.
///
/// # Errors
/// The first broken one.
pub fn check(pipeline: &Pipeline) -> Result<(), Fault> {
    if pipeline.version != 1 {
        return fault(&["version"], format!("version {} is not known; this release reads version 1", pipeline.version));
    }
    check_name(&["name"], &pipeline.name, "-")?;
    check_destination(&pipeline.destination.url)?;
    if let Some(dataset) = &pipeline.destination.dataset {
        check_name(&["destination", "dataset"], dataset, "-")?;
    }
    check_source(pipeline)?;
    check_times(pipeline)?;
    if pipeline.resources.is_empty() {
        return fault(
            &["resources"],
            "there are no resources; add one, such as { name: orders, path: /orders }".into(),
        );
    }
    let mut earlier = BTreeMap::new();
    for resource in &pipeline.resources {
        check_name(&["resources", &resource.name], &resource.name, "")?;
        if resource.name == "run" {
            return fault(&["resources", "run"], "`run` stands for the run in references; choose another name".into());
        }
        if earlier.contains_key(resource.name.as_str()) {
            return fault(
                &["resources", &resource.name],
                format!("resource `{}` is there twice; rename one", resource.name),
            );
        }
        check_resource(pipeline, resource, &earlier)?;
        earlier.insert(resource.name.as_str(), resource);
    }
    for (name, rules) in &pipeline.quality {
        check_known(&["quality", name], name, &earlier)?;
        for (column, pattern) in &rules.matches {
            if let Err(error) = regex::Regex::new(pattern) {
                return fault(
                    &["quality", name, "matches", column],
                    format!("`{pattern}` is not a regular expression: {error}"),
                );
            }
        }
    }
    for load in &pipeline.load {
        let known = ["postgres://", "postgresql://", "sqlite:", "duckdb:"];
        if !known.iter().any(|scheme| load.url.starts_with(scheme)) {
            return fault(
                &["load", "url"],
                format!("cannot load into `{}`; use postgres://…, sqlite:path or duckdb:folder", load.url),
            );
        }
        for name in &load.resources {
            check_known(&["load", name], name, &earlier)?;
        }
    }
    Ok(())
}

fn check_name(keys: &[&str], name: &str, more: &str) -> Result<(), Fault> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || more.contains(c);
    if name.is_empty() || name.len() > 100 || !name.chars().all(good) || name.starts_with(['_', '-']) {
        let also = if more.is_empty() { "" } else { ", `-`" };
        return fault(
            keys,
            format!("`{name}` cannot be a name; use up to 100 letters, digits, `_`{also}, not starting with `_`"),
        );
    }
    Ok(())
}

fn check_known(keys: &[&str], name: &str, known: &BTreeMap<&str, &Resource>) -> Result<(), Fault> {
    if known.contains_key(name) {
        return Ok(());
    }
    let names: Vec<&str> = known.keys().copied().collect();
    fault(keys, format!("there is no resource `{name}`; there are {}", names.join(", ")))
}

/// That the store opens it is another question; this is the one that needs nothing but the text.
fn check_destination(url: &str) -> Result<(), Fault> {
    let good = match url.split_once("://") {
        Some(("s3", rest)) => !rest.is_empty() && !rest.starts_with('/'),
        Some((scheme, rest)) => scheme == "file" && !rest.is_empty(),
        None => !url.is_empty(),
    };
    if good {
        return Ok(());
    }
    fault(&["destination", "url"], format!("cannot write into `{url}`; use a path, file:///path or s3://bucket/prefix"))
}

fn check_source(pipeline: &Pipeline) -> Result<(), Fault> {
    let source = &pipeline.source;
    match url::Url::parse(&source.base_url) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {}
        _ => return fault(&["source", "base_url"], format!("`{}` is not an http or https URL", source.base_url)),
    }
    if source.concurrency == 0 || source.concurrency > 256 {
        return fault(
            &["source", "concurrency"],
            format!("concurrency {} is out of range; use 1 to 256", source.concurrency),
        );
    }
    if source.attempts == 0 || source.attempts > 50 {
        return fault(&["source", "attempts"], format!("attempts {} is out of range; use 1 to 50", source.attempts));
    }
    if let Some(limit) = &source.rate_limit
        && (!(limit.requests_per_second > 0.0 && limit.requests_per_second <= 100_000.0) || limit.burst == 0)
    {
        return fault(
            &["source", "rate_limit"],
            "a rate limit needs requests_per_second above 0 and burst of at least 1".into(),
        );
    }
    if let Auth::Jwt { algorithm, .. } = &source.auth
        && algorithm.parse::<jsonwebtoken::Algorithm>().is_err()
    {
        return fault(
            &["source", "auth", "algorithm"],
            format!("JWT algorithm `{algorithm}` is not known; use HS256, RS256, ES256 or EdDSA"),
        );
    }
    Ok(())
}

fn check_times(pipeline: &Pipeline) -> Result<(), Fault> {
    if let Some(schedule) = &pipeline.schedule
        && let Err(error) = schedule.parse::<croner::Cron>()
    {
        return fault(
            &["schedule"],
            format!("`{schedule}` is not a cron expression: {error}; write five fields, such as \"*/15 * * * *\""),
        );
    }
    if let Some(sla) = &pipeline.sla {
        if sla.timezone.parse::<chrono_tz::Tz>().is_err() {
            return fault(
                &["sla", "timezone"],
                format!("time zone `{}` is not known; use a name such as Europe/Lisbon", sla.timezone),
            );
        }
        if let Some(by) = &sla.ready_by
            && chrono::NaiveTime::parse_from_str(by, "%H:%M").is_err()
        {
            return fault(&["sla", "ready_by"], format!("`{by}` is not a time of day; write \"06:00\""));
        }
    }
    Ok(())
}

fn check_resource(pipeline: &Pipeline, resource: &Resource, earlier: &BTreeMap<&str, &Resource>) -> Result<(), Fault> {
    let name = resource.name.as_str();
    let at = |key: &'static str| ["resources".to_owned(), name.to_owned(), key.to_owned()];
    let keys = |key: &'static str| at(key).to_vec();
    let say = |key: &'static str, detail: String| Err(Fault { keys: keys(key), detail });
    if !resource.path.starts_with('/') && !resource.path.starts_with('{') {
        return say("path", format!("path `{}` must start with `/`", resource.path));
    }
    if (resource.body.is_some() || resource.form.is_some()) && resource.method == Method::Get {
        return say("body", "a GET has no body; write method: POST".into());
    }
    if resource.body.is_some() && resource.form.is_some() {
        return say("form", "give either body (JSON) or form, not both".into());
    }
    let mut parents = BTreeSet::new();
    for reference in references(resource) {
        match reference.split_once('.') {
            Some(("run", "id" | "started_at" | "date")) => {}
            Some((parent, _)) => {
                if parent == name || !earlier.contains_key(parent) {
                    let there: Vec<&str> = earlier.keys().copied().collect();
                    let there = if there.is_empty() { "none".into() } else { there.join(", ") };
                    return say(
                        "path",
                        format!("`{{{reference}}}` names no resource above this one; above are: {there}"),
                    );
                }
                parents.insert(parent.to_owned());
            }
            None if resource.partitions.contains_key(&reference) => {}
            None => {
                return say(
                    "path",
                    format!(
                        "`{{{reference}}}` is neither a partition nor `resource.field`; add partitions: {{ {reference}: [..] }}"
                    ),
                );
            }
        }
    }
    if parents.len() > 1 {
        return say(
            "path",
            format!(
                "a resource has one parent; this one names {}",
                parents.into_iter().collect::<Vec<_>>().join(" and ")
            ),
        );
    }
    if resource.partitions.values().any(Vec::is_empty) {
        return say("partitions", "a partition needs at least one value".into());
    }
    check_paginator(resource, effective_paginator(pipeline, resource))?;
    let key = primary_key(pipeline, resource);
    if let Incremental::On(cursor) = &resource.incremental {
        if cursor.window.is_some() && (cursor.until_param.is_none() || cursor.start.is_none()) {
            return say("window", "windows need until_param and start".into());
        }
        if cursor.window.is_some_and(|window| window.0.is_zero()) {
            return say("window", "a window is longer than zero".into());
        }
    }
    if write_mode(pipeline, resource) == WriteMode::Replace && follows_a_cursor(pipeline, resource) {
        return say("write", "an incremental resource, or a child of one, that replaces everything would lose what it does not read again; use merge or append".into());
    }
    if write_mode(pipeline, resource) == WriteMode::Merge && key.is_empty() {
        return say("write", "merge needs a primary_key".into());
    }
    let lists = resource.lists.or(pipeline.defaults.lists).unwrap_or_default();
    if lists == Lists::ChildTable && key.is_empty() {
        return say("lists", "child tables need a primary_key of the parent".into());
    }
    Ok(())
}

fn check_paginator(resource: &Resource, paginator: &Paginator) -> Result<(), Fault> {
    let size = match paginator {
        Paginator::Page { size, .. }
        | Paginator::Cursor { size, .. }
        | Paginator::NextUrl { size, .. }
        | Paginator::LinkHeader { size, .. } => *size,
        Paginator::Offset { limit, .. } => Some(*limit),
        Paginator::None | Paginator::Auto => None,
    };
    if size == Some(0) {
        return fault(&["resources", &resource.name], "a page of size 0 has no rows; give a size of at least 1".into());
    }
    Ok(())
}

/// Every `{…}` in the resource's path, parameters, headers and includes, once.
pub(crate) fn references(resource: &Resource) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let body = resource.body.as_ref().map(|body| serde_json::Value::Object(body.clone()).to_string());
    let texts = std::iter::once(&resource.path)
        .chain(resource.params.values())
        .chain(resource.headers.values())
        .chain(resource.form.iter().flat_map(|form| form.values()))
        .chain(body.as_ref());
    let Ok(pattern) = regex::Regex::new(r"\{([A-Za-z0-9_]+(?:\.[A-Za-z0-9_.]+)?)\}") else { return found };
    for text in texts {
        found.extend(pattern.captures_iter(text).map(|reference| reference[1].to_owned()));
    }
    found.extend(resource.include.values().cloned());
    found
}

/// The resource whose rows this one is read for.
pub(crate) fn parent(resource: &Resource) -> Option<String> {
    let of_reference = |reference: &String| Some(reference.split_once('.')?.0.to_owned()).filter(|name| name != "run");
    references(resource).iter().find_map(of_reference)
}

pub(crate) fn effective_paginator<'a>(pipeline: &'a Pipeline, resource: &'a Resource) -> &'a Paginator {
    resource.paginator.as_ref().or(pipeline.defaults.paginator.as_ref()).unwrap_or(&Paginator::None)
}

pub(crate) fn primary_key<'a>(pipeline: &'a Pipeline, resource: &'a Resource) -> &'a [String] {
    resource.primary_key.as_deref().unwrap_or(&pipeline.defaults.primary_key)
}

/// The resource's own cursor or its parent's, up the line.
pub(crate) fn follows_a_cursor(pipeline: &Pipeline, resource: &Resource) -> bool {
    if resource.incremental.cursor().is_some() {
        return true;
    }
    let above = parent(resource).and_then(|name| pipeline.resources.iter().find(|r| r.name == name));
    above.is_some_and(|above| follows_a_cursor(pipeline, above))
}

/// How new rows meet the old ones.
pub(crate) fn write_mode(pipeline: &Pipeline, resource: &Resource) -> WriteMode {
    resource.write.or(pipeline.defaults.write).unwrap_or_else(|| {
        let keyed = !primary_key(pipeline, resource).is_empty();
        match follows_a_cursor(pipeline, resource) {
            true if keyed => WriteMode::Merge,
            true => WriteMode::Append,
            false => WriteMode::Replace,
        }
    })
}
