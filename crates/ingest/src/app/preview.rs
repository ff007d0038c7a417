//! One page of a resource: for `preview` and `check`.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use tessera_kernel::Clock;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::init::detect::{Detected, Sample, detect};
use super::run::{Unit, first_request};
use crate::Error;
use crate::shape::{Decoder, Meta, Shape, infer};
use crate::source::{Client, Paths, Place, Plan, Traffic};
use crate::spec::{Loaded, Paginator, Resource, ResponseFormat, SchemaPolicy, effective_paginator, parent};

/// The first page of a resource.
pub struct Preview {
    /// Its rows.
    pub batch: RecordBatch,
    /// Their shape.
    pub shape: Shape,
    /// The API's own total.
    pub total: Option<u64>,
    /// What `paginator: auto` found.
    pub detected: Option<Detected>,
}

/// Reads the first page of a resource. A resource with a parent takes its first parent row.
///
/// # Errors
/// What the API did.
pub async fn preview(loaded: &Loaded, resource: &Resource, clock: Arc<dyn Clock>) -> Result<Preview, Error> {
    let client = Client::new(loaded, None, Arc::clone(&clock), CancellationToken::new())?;
    let mut values = BTreeMap::from([
        ("run.started_at".to_owned(), clock.now().to_string()),
        ("run.date".to_owned(), clock.now().to_utc().format("%Y-%m-%d").to_string()),
        ("run.id".to_owned(), "run_preview".to_owned()),
    ]);
    for (name, partition) in &resource.partitions {
        values.extend(partition.first().map(|value| (name.clone(), value.clone())));
    }
    if let Some(name) = parent(resource) {
        let above = loaded.pipeline.resources.iter().find(|resource| resource.name == name);
        let above = above.ok_or_else(|| Error::NotFound(format!("there is no resource `{name}`")))?;
        let parents = Box::pin(preview(loaded, above, Arc::clone(&clock))).await?;
        for reference in crate::spec::references(resource) {
            let Some((_, path)) = reference.split_once('.').filter(|(parent, _)| *parent == name) else { continue };
            let column =
                crate::lake::column(&parents.batch, path).filter(|column| !column.is_empty() && column.is_valid(0));
            let column = column.ok_or_else(|| Error::NotFound(format!("the first row of `{name}` has no `{path}`")))?;
            values.insert(reference.clone(), crate::quality::text(column.as_ref(), 0));
        }
    }
    let unit = Unit { values: values.clone(), from: None, until: None };
    let first = first_request(&client, &loaded.pipeline, resource, &unit)?;
    let defaults = &loaded.pipeline.defaults;
    let paginator = effective_paginator(&loaded.pipeline, resource);
    let records = resource.records.as_deref().or(defaults.records.as_deref());
    let total = resource.total.as_deref().or(defaults.total.as_deref());
    let plan = Plan::new(paginator.clone(), first.clone());
    let request = plan.request(&client, &Place::Start)?.unwrap_or(first);
    let traffic = Traffic::default();
    let mut detected = None;
    let mut paths = Plan::paths(paginator, records, total);
    if *paginator == Paginator::Auto {
        let found = found(&client, &request, &traffic).await?;
        paths =
            Plan::paths(&found.paginator, records.or(Some(found.records.as_str())), total.or(found.total.as_deref()));
        detected = Some(found);
    }
    let answer = client.fetch(&request, &Arc::new(paths), resource.format, &traffic).await?;
    let unreadable = |detail: String| Error::BadResponse {
        resource: resource.name.clone(),
        url: client.public(&request.url),
        detail,
    };
    let shape = infer(&answer.page.records).map_err(unreadable)?.shape;
    let include: Vec<String> = resource.include.keys().cloned().collect();
    let decoder = Decoder::new(Arc::new(shape.clone()), SchemaPolicy::Evolve, Arc::new([]), include.into());
    let filled = resource.include.values().map(|reference| values.get(reference).cloned().unwrap_or_default());
    let meta = Meta { source: answer.source.clone(), include: filled.collect(), ..Meta::default() };
    let batch = decoder.decode(&answer.page.records, &meta).map_err(unreadable)?.batch;
    Ok(Preview { batch, shape, total: answer.page.total, detected })
}

/// What the whole body of a first response tells of its paginator.
async fn found(client: &Client, request: &crate::source::Request, traffic: &Traffic) -> Result<Detected, Error> {
    let whole = Arc::new(Paths { records: Some("$".into()), ..Paths::default() });
    let answer = client.fetch(request, &whole, ResponseFormat::Auto, traffic).await?;
    let url: &Url = &request.url;
    Ok(detect(&Sample { url, status: 200, headers: &answer.headers, body: &answer.page.records }))
}
