//! `/ingest/pipelines`: what there is, and what it brought.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Html;
use futures::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use tessera_kernel::Timestamp;
use tessera_service::Problem;
use tessera_service::http::{Json, List, Page, Path, Query};
use utoipa::IntoParams;

use super::wire::{self, File, Listed, Pipeline, Quality, Schemas};
use crate::Error;
use crate::app::service::{COMMITS, Entry, Service};
use crate::quality;

/// Pipelines looked at side by side.
const LOOKS: usize = 16;
/// Commits shown where the caller does not say how many.
const HISTORY: usize = 100;

/// A page of a list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "described here, read by the service's `Page`")]
pub(super) struct Paging {
    /// How many items, 1 to 1000.
    #[param(required = false, default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    #[param(required = false)]
    cursor: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Since {
    /// Only what changed at or after this time.
    #[param(required = false, value_type = Option<String>, format = DateTime)]
    updated_since: Option<Timestamp>,
}

impl Since {
    fn allows(&self, at: Timestamp) -> bool {
        self.updated_since.is_none_or(|since| at >= since)
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Depth {
    /// How many of the last commits, 1 to 500.
    #[param(required = false, default = 100)]
    limit: Option<usize>,
}

/// All pipelines, by name.
#[utoipa::path(
    get, path = "/ingest/pipelines", operation_id = "listPipelines", tag = "pipelines", params(Paging, Since),
    responses((status = 200, body = Listed<Pipeline>), (status = 400, body = wire::Problem, content_type = "application/problem+json"))
)]
pub(super) async fn list(
    State(service): State<Service>,
    Query(page): Query<Page>,
    Query(since): Query<Since>,
) -> Result<Json<Listed<Pipeline>>, Problem> {
    let after: Option<String> = page.after()?;
    let entries = service.catalogue().entries();
    let is_after = |entry: &&Arc<Entry>| after.as_ref().is_none_or(|after| entry.name > *after);
    let rest: Vec<Arc<Entry>> = entries.values().filter(is_after).cloned().collect();
    let facts = stream::iter(rest).map(|entry| service.facts(entry)).buffered(LOOKS);
    let pipelines = facts.map_ok(Pipeline::from).try_filter(|pipeline| {
        let allowed = since.allows(pipeline.updated_at);
        async move { allowed }
    });
    let items: Vec<Pipeline> = pipelines.take(page.limit() + 1).try_collect().await?;
    Ok(Json(List::new(items, page.limit(), |pipeline| pipeline.name.clone()).into()))
}

/// One pipeline.
#[utoipa::path(
    get, path = "/ingest/pipelines/{name}", operation_id = "getPipeline", tag = "pipelines",
    params(("name" = String, Path, description = "its name")),
    responses((status = 200, body = Pipeline), (status = 404, body = wire::Problem, content_type = "application/problem+json"))
)]
pub(super) async fn show(State(service): State<Service>, Path(name): Path<String>) -> Result<Json<Pipeline>, Problem> {
    let entry = service.catalogue().entry(&name)?;
    Ok(Json(service.facts(entry).await?.into()))
}

async fn histories(service: &Service, name: &str, depth: &Depth) -> Result<Vec<quality::History>, Error> {
    let entry = service.catalogue().entry(name)?;
    let look = service.look(&entry).await?;
    let mut histories = look.histories(depth.limit.unwrap_or(HISTORY).clamp(1, COMMITS as usize));
    // In the order of the file; tables that grew out of lists come last.
    let written = &entry.loaded()?.pipeline.resources;
    let place = |name: &str| written.iter().position(|resource| resource.name == name).unwrap_or(usize::MAX);
    histories.sort_by_key(|history| place(&history.name));
    Ok(histories)
}

/// What the last runs found out about each table, oldest first.
#[utoipa::path(
    get, path = "/ingest/pipelines/{name}/quality", operation_id = "getQuality", tag = "pipelines",
    params(("name" = String, Path, description = "the pipeline"), Depth),
    responses((status = 200, body = Quality), (status = 404, body = wire::Problem, content_type = "application/problem+json"))
)]
pub(super) async fn quality(
    State(service): State<Service>,
    Path(name): Path<String>,
    Query(depth): Query<Depth>,
) -> Result<Json<Quality>, Problem> {
    let resources = histories(&service, &name, &depth).await?.into_iter().map(Into::into).collect();
    Ok(Json(Quality { pipeline: name, resources }))
}

/// The same as a page of its own.
#[utoipa::path(
    get, path = "/ingest/pipelines/{name}/quality.html", operation_id = "getQualityPage", tag = "pipelines",
    params(("name" = String, Path, description = "the pipeline"), Depth),
    responses((status = 200, body = String, content_type = "text/html"), (status = 404, body = wire::Problem, content_type = "application/problem+json"))
)]
pub(super) async fn quality_page(
    State(service): State<Service>,
    Path(name): Path<String>,
    Query(depth): Query<Depth>,
) -> Result<Html<String>, Problem> {
    let histories = histories(&service, &name, &depth).await?;
    Ok(Html(quality::page(&name, service.now(), &histories)))
}

/// The files that count, newest commit first.
#[utoipa::path(
    get, path = "/ingest/pipelines/{name}/files", operation_id = "listFiles", tag = "pipelines",
    params(("name" = String, Path, description = "the pipeline"), Paging, Since),
    responses((status = 200, body = Listed<File>), (status = 404, body = wire::Problem, content_type = "application/problem+json"))
)]
pub(super) async fn files(
    State(service): State<Service>,
    Path(name): Path<String>,
    Query(page): Query<Page>,
    Query(since): Query<Since>,
) -> Result<Json<Listed<File>>, Problem> {
    let after: Option<(Timestamp, String)> = page.after()?;
    let entry = service.catalogue().entry(&name)?;
    let look = service.look(&entry).await?;
    let files = look.files().into_iter().map(File::from).filter(|file| since.allows(file.committed_at));
    let is_after = |file: &File| {
        after
            .as_ref()
            .is_none_or(|(at, path)| file.committed_at < *at || (file.committed_at == *at && file.path > *path))
    };
    let items = files.filter(is_after).take(page.limit() + 1).collect();
    Ok(Json(List::new(items, page.limit(), |file| (file.committed_at, file.path.clone())).into()))
}

/// The schemas of the tables, as the last run left them.
#[utoipa::path(
    get, path = "/ingest/pipelines/{name}/schema", operation_id = "getSchema", tag = "pipelines",
    params(("name" = String, Path, description = "the pipeline")),
    responses((status = 200, body = Schemas), (status = 404, body = wire::Problem, content_type = "application/problem+json"))
)]
pub(super) async fn schema(State(service): State<Service>, Path(name): Path<String>) -> Result<Json<Schemas>, Problem> {
    let entry = service.catalogue().entry(&name)?;
    let look = service.look(&entry).await?;
    Ok(Json(Schemas::from(look.as_ref())))
}
