//! What is kept, and how it is voided.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use tessera_service::{Identity, Problem};

use super::{Admin, ROLES};
use crate::Error;
use crate::cache::{Sizes, everything, place, route, tag};
use crate::domain::path::normalise;
use crate::snapshot::bare_host;

/// Tags and places that one purge may name.
const MOST_NAMES: usize = 1_000;

/// What is voided: everything that any of these is true of.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
pub(super) struct Purge {
    /// It has one of these tags.
    tags: Vec<String>,
    /// It was asked for under one of these URLs; the query does not count.
    urls: Vec<String>,
    /// One of these routes keeps it.
    routes: Vec<String>,
    /// It is kept.
    everything: bool,
}

#[derive(Serialize)]
pub(super) struct Purged {
    /// How many names were voided.
    names: usize,
}

pub(super) async fn sizes(identity: Identity, State(admin): State<Admin>) -> Result<Json<Sizes>, Problem> {
    identity.require(ROLES)?;
    let snapshot = admin.engine.snapshot();
    Ok(Json(snapshot.cache.as_ref().map(|store| store.sizes()).unwrap_or_default()))
}

pub(super) async fn purge(
    identity: Identity,
    State(admin): State<Admin>,
    tessera_service::http::Json(purge): tessera_service::http::Json<Purge>,
) -> Result<Json<Purged>, Problem> {
    identity.require(ROLES)?;
    let snapshot = admin.engine.snapshot();
    let mut marks = Vec::new();
    marks.extend(purge.tags.iter().map(|name| tag(name)));
    for url in &purge.urls {
        marks.push(place_of(url)?);
    }
    for name in &purge.routes {
        if !snapshot.routes.iter().any(|known| *known.name == **name && known.cache.is_some()) {
            return Err(Error::NotFound(format!("there is no route `{name}` with a cache")).into());
        }
        marks.push(route(name));
    }
    if purge.everything {
        marks.push(everything());
    }
    if marks.is_empty() || marks.len() > MOST_NAMES {
        let detail =
            format!("a purge names 1 to {MOST_NAMES} of `tags`, `urls` and `routes`, or says `everything: true`");
        return Err(Error::BadPurge(detail).into());
    }
    if let Some(store) = &snapshot.cache {
        marks.iter().for_each(|mark| store.void(*mark));
        if purge.everything {
            store.empty_memory();
        }
    }
    tracing::info!(account = %identity.subject, names = marks.len(), "kept answers were purged");
    Ok(Json(Purged { names: marks.len() }))
}

fn place_of(text: &str) -> Result<u64, Error> {
    let wrong = || Error::BadPurge(format!("`{text}` is not a URL; write one such as https://api.example.com/orders"));
    let url = url::Url::parse(text).map_err(|_| wrong())?;
    let host = url.host_str().ok_or_else(wrong)?;
    let path = normalise(url.path()).map_err(|_| wrong())?;
    Ok(place(&bare_host(host), &path))
}
