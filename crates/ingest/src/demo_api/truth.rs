//! `GET /_truth`: exactly what the API holds, so that a reader's copy can be compared with it.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tessera_kernel::Timestamp;

use super::asked::Asked;
use super::lifecycle::{Change, Status};
use super::problem::Problem;
use super::rows::{countries, event_key, key};
use super::shop::{View, whole_second};
use super::stream::Stream;
use super::{DemoApi, hex};

/// The resources, in the order of `GET /`.
pub(super) const RESOURCES: [&str; 10] = [
    "customers",
    "orders",
    "order_items",
    "products",
    "payments",
    "refunds",
    "shipments",
    "reviews",
    "events",
    "stock",
];

/// One resource's rows by id: how many, the latest change, and the checksum.
#[derive(Default)]
struct Tally {
    rows: u64,
    latest: Option<i64>,
    digest: Sha256,
}

impl Tally {
    fn add(&mut self, id: &str, at: Option<i64>) {
        self.rows += 1;
        self.latest = self.latest.max(at);
        self.digest.update(id);
        if let Some(at) = at {
            self.digest.update("\t");
            self.digest.update(Timestamp::from_micros(at).to_string());
        }
        self.digest.update("\n");
    }

    fn shown(self) -> Value {
        json!({
            "rows": self.rows,
            "max_updated_at": self.latest.map(Timestamp::from_micros),
            "checksum": format!("sha256:{}", hex(&self.digest.finalize())),
        })
    }
}

/// `GET /_truth`.
pub(super) async fn truth(
    State(api): State<DemoApi>,
    Query(asked): Query<BTreeMap<String, String>>,
) -> Result<Json<Value>, Problem> {
    let made = tokio::task::spawn_blocking(move || make(&api, &Asked(asked))).await;
    made.unwrap_or_else(|cause| Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", cause.to_string())))
        .map(Json)
}

fn make(api: &DemoApi, asked: &Asked) -> Result<Value, Problem> {
    let view = api.0.shop.view(asked.moment(api)?);
    let wanted: Option<Vec<&str>> = asked.0.get("resources").map(|names| names.split(',').map(str::trim).collect());
    if let Some(unknown) = wanted.iter().flatten().find(|name| **name != "countries" && !RESOURCES.contains(name)) {
        return Err(Problem::invalid(format!("resource `{unknown}` is none of countries, {}", RESOURCES.join(", "))));
    }
    let checked = asked.0.get("checksums").is_none_or(|text| text != "false");
    let resources: BTreeMap<&str, Value> = RESOURCES
        .into_iter()
        .chain(["countries"])
        .filter(|name| wanted.as_ref().is_none_or(|wanted| wanted.contains(name)))
        .map(|name| (name, if checked { view.tally(name).shown() } else { json!({ "rows": view.count(name) }) }))
        .collect();

    let by_status: BTreeMap<&str, u64> =
        Status::ALL.into_iter().map(|status| (status.name(), view.order_stream(|s, _| s == status).len())).collect();
    let (since, until) = (asked.time("updated_since")?, asked.time("updated_until")?);
    Ok(json!({
        "seed": api.0.shop.seed,
        "opened_at": Timestamp::from_micros(api.0.shop.opened_at),
        "as_of": Timestamp::from_micros(view.now),
        "growth_per_minute": api.0.shop.growth,
        "resources": resources,
        "orders": {
            "deleted": view.order_stream(|_, deleted| deleted).len(),
            "by_status": by_status,
            "visible": {
                "updated_since": since.map(Timestamp::from_micros),
                "updated_until": until.map(Timestamp::from_micros),
                "rows": view.order_stream(|_, _| true).between(since, until).len(),
            },
        },
    }))
}

impl<'a> View<'a> {
    /// The list behind a resource that lists changes.
    fn list(&self, resource: &str) -> Option<Stream<'a>> {
        match resource {
            "orders" => Some(self.order_stream(|_, _| true)),
            "payments" => Some(self.change_stream(|change| change == Change::Paid)),
            "refunds" => Some(self.change_stream(|change| matches!(change, Change::Returned | Change::Cancelled))),
            "shipments" => Some(self.change_stream(|change| change == Change::Shipped)),
            "reviews" => Some(self.review_stream()),
            "events" => Some(self.event_stream()),
            _ => None,
        }
    }

    /// How many rows a resource has, by formula.
    fn count(&self, resource: &str) -> u64 {
        match resource {
            "customers" => self.customers(),
            "order_items" => self.items(),
            "products" => self.shop.products,
            "stock" => self.shop.products * self.stock(1).count() as u64,
            "countries" => countries().len() as u64,
            _ => self.list(resource).map_or(0, |list| list.len()),
        }
    }

    /// Goes through all rows of a resource by id.
    fn tally(&self, resource: &str) -> Tally {
        let mut tally = Tally::default();
        match resource {
            "customers" => {
                (1..=self.customers()).for_each(|id| tally.add(&id.to_string(), Some(self.customer_updated_at(id))));
            }
            "products" => {
                (1..=self.shop.products).for_each(|id| tally.add(&id.to_string(), Some(self.product_updated_at(id))));
            }
            "order_items" => (1..=self.orders()).for_each(|id| {
                (1..=self.shop.items_of(id)).for_each(|line| tally.add(&format!("{id}-{line}"), None));
            }),
            "stock" => {
                let rows = (1..=self.shop.products).flat_map(|product| self.stock(product));
                rows.for_each(|row| tally.add(&row.id, Some(row.counted_at.micros())));
            }
            "countries" => countries().iter().for_each(|country| tally.add(country.code, None)),
            "orders" => (1..=self.orders())
                .filter_map(|id| self.order(id))
                .for_each(|version| tally.add(&version.id.to_string(), Some(version.updated_at))),
            _ => {
                let mut rows: Vec<(String, i64)> = self
                    .list(resource)
                    .map_or_else(Vec::new, |list| list.page(0, usize::MAX))
                    .iter()
                    .map(|version| match resource {
                        "payments" => (key("pay", version.id), version.updated_at),
                        "refunds" => (key("ref", version.id), version.updated_at),
                        "shipments" => (key("shp", version.id), self.shipment_updated_at(version)),
                        "reviews" => (key("rev", version.id), version.updated_at),
                        _ => (event_key(version), version.updated_at),
                    })
                    .collect();
                rows.sort_unstable();
                rows.iter().for_each(|(id, at)| tally.add(id, Some(whole_second(*at))));
            }
        }
        tally
    }
}
