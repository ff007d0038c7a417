//! What a run would do: `--dry-run`.

use std::fmt::Write;

use tessera_kernel::Timestamp;

use super::run::{RunOptions, RunType};
use crate::Error;
use crate::lake::{Cursor, Lake};
use crate::source::public_url;
use crate::spec::{Loaded, Method, effective_paginator, parent, primary_key, write_mode};

/// The plan of a run in words, a resource a paragraph. Nothing is asked of the API, nothing is written.
///
/// # Errors
/// [`Error::Lake`] when the state cannot be read.
pub async fn plan(loaded: &Loaded, options: &RunOptions, now: Timestamp) -> Result<String, Error> {
    let pipeline = &loaded.pipeline;
    let lake = Lake::open(pipeline)?;
    let present = lake.present().await?;
    let run_type = options.run_type.unwrap_or(RunType::Incremental);
    let mut text = format!("{} run of `{}` into {}\n", run_type, pipeline.name, lake.objects().url_of(""));
    for resource in &pipeline.resources {
        if !options.resources.is_empty() && !options.resources.contains(&resource.name) {
            continue;
        }
        let state = present.state.resources.get(&resource.name);
        let base = pipeline.source.base_url.trim_end_matches('/');
        let url = match url::Url::parse(&format!("{base}{}", resource.path)) {
            Ok(url) => public_url(&url, &loaded.secrets).replace("%7B", "{").replace("%7D", "}"),
            Err(_) => resource.path.clone(),
        };
        let mut words = vec![format!("{} {url}", if resource.method == Method::Post { "POST" } else { "GET" })];
        if let Some(cursor) = resource.incremental.cursor() {
            let saved = state.and_then(|state| state.cursor).filter(|_| run_type == RunType::Incremental);
            let from = match (&options.from, saved) {
                (Some(from), _) => Some(from.clone()),
                (None, Some(Cursor::At(at))) => Some(at.minus(cursor.lookback.0).to_string()),
                (None, Some(number)) => Some(number.to_string()),
                (None, None) => cursor.start.map(|start| start.to_string()),
            };
            words.push(match from {
                Some(from) => format!("{} from {from}", cursor.cursor),
                None => format!("all of {}", cursor.cursor),
            });
        }
        words.push(format!("pages: {}", paginator_name(effective_paginator(pipeline, resource))));
        let key = primary_key(pipeline, resource);
        let key = if key.is_empty() { String::new() } else { format!(" by {}", key.join(", ")) };
        words.push(format!("{:?}{key}", write_mode(pipeline, resource)).to_lowercase());
        if let Some(parent) = parent(resource) {
            words.push(format!("one stream for each row of {parent}"));
        }
        let rows = state.map_or(0, |state| state.rows);
        words.push(format!("{rows} rows in the lake"));
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}: {}", resource.name, words.join("; "));
    }
    let _ = writeln!(text, "dry run at {now}: nothing was asked for or written");
    Ok(text)
}

fn paginator_name(paginator: &crate::spec::Paginator) -> String {
    let value = serde_json::to_value(paginator).unwrap_or_default();
    value["type"].as_str().unwrap_or("none").to_owned()
}
