//! Names for resources, and path parameters: a value of each row of the list above, or a value to set.

use std::collections::{BTreeMap, BTreeSet};

use url::Url;

use super::super::detect::{normal, words};
use super::super::write::DraftResource;
use super::lists::{List, endpoint, variable};
use crate::spec::Method;

/// Names every list and replaces its path parameters. With each comes the URL of its first page, where nothing is
/// lacking for it.
pub(super) fn connect(lists: Vec<List>, pipeline: &str) -> Vec<(DraftResource, Option<Url>)> {
    let mut names = BTreeSet::new();
    let mut done: Vec<(List, DraftResource, Option<Url>)> = Vec::new();
    for list in lists {
        let mut resource = list.resource.clone();
        resource.name = name(&list.path, &mut names);
        let mut notes = list.notes.clone();
        let mut asked_for_values = list.lacks_values;
        let (path, parameters) = cleaned(&list.path);
        let parent = parameters.last().and_then(|(original, _)| {
            let above = list.path.split(&format!("/{{{original}}}")).next()?.trim_end_matches('/');
            done.iter().find(|(known, draft, _)| {
                known.path.trim_end_matches('/') == above && draft.resource.method == Method::Get
            })
        });
        let mut replaced: BTreeMap<String, String> = BTreeMap::new();
        if let Some((known, draft, _)) = parent {
            let inherited = &draft.resource.include;
            for (at, (original, clean)) in parameters.iter().enumerate() {
                let field = match at + 1 == parameters.len() {
                    true => field_for(known, original),
                    false => inherited.contains_key(clean).then(|| clean.clone()),
                };
                if let Some(field) = field.filter(|field| field.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
                {
                    replaced.insert(clean.clone(), format!("{}.{field}", draft.resource.name));
                }
            }
            if !replaced.is_empty() {
                notes.push(format!("read for every row of `{}`", draft.resource.name));
                // A parent's row may be gone before its children are asked for.
                resource.empty_on = vec![404];
            }
        }
        resource.path = path;
        for (original, clean) in &parameters {
            match replaced.get(clean) {
                Some(reference) => {
                    resource.path = resource.path.replace(&format!("{{{clean}}}"), &format!("{{{reference}}}"));
                    let has_it = list.detected.first_row.as_ref().is_some_and(|row| row.get(clean).is_some());
                    if !has_it {
                        resource.include.insert(clean.clone(), reference.clone());
                    }
                }
                None => {
                    notes.push(format!("`{original}` is asked for in the path; list its values"));
                    resource.partitions.insert(clean.clone(), vec![variable(pipeline, original)]);
                    asked_for_values = true;
                }
            }
        }
        // A child's key is often unique within its parent only; together with the parent's it always is.
        if let Some(key) = resource.primary_key.as_mut().filter(|key| !key.is_empty() && !is_global(key)) {
            let included: Vec<String> =
                resource.include.keys().filter(|column| !key.contains(column)).cloned().collect();
            key.splice(0..0, included);
        }
        let probe = (!asked_for_values && parameters.is_empty() && resource.method == Method::Get)
            .then(|| first_page(&list.base, &resource.path, &resource.params))
            .flatten();
        let draft = DraftResource { resource, notes, suggestions: list.suggestions.clone() };
        done.push((list, draft, probe));
    }
    done.into_iter().map(|(_, draft, probe)| (draft, probe)).collect()
}

/// Ids and UUIDs are made to be unique everywhere; a name, a code or a position is not.
fn is_global(key: &[String]) -> bool {
    key.iter().any(|column| words(column).last().is_some_and(|word| matches!(word.as_str(), "id" | "uuid" | "guid")))
}

fn first_page(base: &Url, path: &str, params: &BTreeMap<String, String>) -> Option<Url> {
    let mut url = endpoint(base, path)?;
    if !params.is_empty() {
        url.query_pairs_mut().extend_pairs(params.iter().map(|(k, v)| (k.replace("$$", "$"), v.replace("$$", "$"))));
    }
    Some(url)
}

/// The path with parameter names that a pipeline can hold, and each parameter as it was and as it is.
fn cleaned(path: &str) -> (String, Vec<(String, String)>) {
    let mut parameters: Vec<(String, String)> = Vec::new();
    let mut out = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let Some((original, after)) = after.split_once('}') else {
            rest = after;
            break;
        };
        let clean = words(original).join("_");
        let clean = if clean.is_empty() { "value".to_owned() } else { clean };
        out.push_str(&format!("{{{clean}}}"));
        if !parameters.iter().any(|(known, _)| known == original) {
            parameters.push((original.to_owned(), clean));
        }
        rest = after;
    }
    out.push_str(rest);
    (out, parameters)
}

/// The column of the parent's rows that a path parameter means: `order_id` or `id` of an order.
fn field_for(parent: &List, parameter: &str) -> Option<String> {
    let row = parent.detected.first_row.as_ref()?.as_object()?;
    let wanted = normal(parameter);
    if let Some(column) = row.keys().find(|column| normal(column) == wanted) {
        return Some(column.clone());
    }
    let last = words(parameter).pop().unwrap_or_default();
    row.keys().find(|column| normal(column) == last).cloned().or_else(|| {
        Some(parent.detected.primary_key.first()?.clone()).filter(|_| parent.detected.primary_key.len() == 1)
    })
}

/// A valid name that nobody has yet: the last fixed segment, with those before it when that is taken.
fn name(path: &str, names: &mut BTreeSet<String>) -> String {
    let path = path.trim_end_matches('/');
    let path = path.strip_suffix(".json").or_else(|| path.strip_suffix(".csv")).unwrap_or(path);
    let segments: Vec<String> = path
        .split('/')
        .filter(|segment| !segment.is_empty() && !segment.contains('{'))
        .map(|segment| words(segment).join("_"))
        .filter(|segment| !segment.is_empty())
        .collect();
    let verbs = ["search", "query", "list", "find", "filter", "all"];
    let short = segments.last().is_some_and(|last| verbs.contains(&last.as_str()));
    let least = if short { 2 } else { 1 };
    let candidates = (least..=segments.len()).map(|count| segments[segments.len() - count..].join("_"));
    let mut base = String::from("resource");
    for candidate in candidates {
        base = candidate.chars().take(90).collect();
        if names.insert(base.clone()) {
            return base;
        }
    }
    unique(&base, names)
}

/// `base`, or `base_2`, `base_3` and so on.
fn unique(base: &str, names: &mut BTreeSet<String>) -> String {
    let mut number = 1;
    loop {
        let name = if number == 1 { base.to_owned() } else { format!("{base}_{number}") };
        if names.insert(name.clone()) {
            return name;
        }
        number += 1;
    }
}
