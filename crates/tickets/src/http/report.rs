//! What an event sold: a report, and all its tickets as CSV.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use http::HeaderValue;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use serde::Serialize;
use tessera_kernel::{Money, Timestamp};
use tessera_service::Problem;
use tessera_service::http::{Json, Path};
use utoipa::ToSchema;

use super::organiser::Organiser;
use crate::Error;
use crate::app::App;
use crate::app::report::Report;
use crate::domain::event::{Event, Status};
use crate::domain::ids::{EventId, TicketId};
use crate::domain::inventory::{Inventory, SeatLabel};
use crate::store::Sale;

/// What an event sold.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReportBody {
    #[schema(value_type = String)]
    event: EventId,
    tickets: TicketsBody,
    levels: Vec<SoldLevelBody>,
    /// Hours with sales, by their beginning.
    hours: Vec<HourBody>,
    revenue: RevenueBody,
    orders: i64,
    checked_in: u32,
    status: Status,
    /// How far its refunds are, where the event was cancelled.
    cancellation: Option<CancellationBody>,
}

/// The refunds of a cancelled event. It is done when nothing is `left` and nothing `due`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CancellationBody {
    /// Orders that are still to be refunded.
    left: i64,
    /// Orders whose money is on its way back.
    due: i64,
    /// Orders whose money went back, before it was cancelled or since.
    refunded: i64,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TicketsBody {
    total: u32,
    sold: u32,
    held: u32,
    free: u32,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SoldLevelBody {
    key: String,
    name: String,
    #[schema(value_type = Object)]
    price: Money,
    total: u32,
    sold: u32,
    held: u32,
    free: u32,
    /// What those sold cost, before discounts.
    #[schema(value_type = Object)]
    revenue: Money,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HourBody {
    #[schema(value_type = String, format = DateTime)]
    hour: Timestamp,
    tickets: u32,
    /// Before discounts.
    #[schema(value_type = Object)]
    revenue: Money,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RevenueBody {
    /// What orders cost that were booked, after discounts.
    #[schema(value_type = Object)]
    gross: Money,
    /// What went back.
    #[schema(value_type = Object)]
    refunded: Money,
    #[schema(value_type = Object)]
    net: Money,
    /// Orders whose money is on its way back.
    refunds_due: i64,
}

impl From<Report> for ReportBody {
    fn from(report: Report) -> Self {
        let Report { event, seats, levels, hours, checked_in, sales } = report;
        let money = |amount| Money::new(amount, event.currency);
        let level =
            |(level, (counts, revenue)): (&crate::domain::event::PriceLevel, (crate::seats::states::Counts, i64))| {
                SoldLevelBody {
                    key: level.key.clone(),
                    name: level.name.clone(),
                    price: money(level.price),
                    total: counts.total,
                    sold: counts.booked,
                    held: counts.held,
                    free: counts.free,
                    revenue: money(revenue),
                }
            };
        Self {
            event: event.id,
            tickets: TicketsBody { total: seats.total, sold: seats.booked, held: seats.held, free: seats.free },
            levels: event.details.price_levels.iter().zip(levels).map(level).collect(),
            hours: hours
                .into_iter()
                .map(|(hour, tickets, revenue)| HourBody { hour, tickets, revenue: money(revenue) })
                .collect(),
            revenue: RevenueBody {
                gross: money(sales.gross),
                refunded: money(sales.refunded),
                net: money(sales.gross.saturating_sub(sales.refunded)),
                refunds_due: sales.refunds_due,
            },
            orders: sales.orders,
            checked_in,
            status: event.status,
            cancellation: (event.status == Status::Cancelled).then_some(CancellationBody {
                left: sales.open,
                due: sales.refunds_due,
                refunded: sales.returned,
            }),
        }
    }
}

/// Sales of an event by price level and hour, revenue, and what was checked in.
#[utoipa::path(
    get, path = "/organiser/events/{id}/report", params(("id" = String, Path)), responses((status = 200, body = ReportBody))
)]
pub(super) async fn report(
    State(app): State<App>,
    organiser: Organiser,
    Path(id): Path<EventId>,
) -> Result<Json<ReportBody>, Problem> {
    let event = organiser.event(&app, id).await?;
    Ok(Json(app.report(event).await?.into()))
}

const COLUMNS: [&str; 13] = [
    "ticket_id",
    "order_id",
    "section",
    "row",
    "seat",
    "area",
    "price_level",
    "price",
    "currency",
    "holder",
    "booked_at",
    "checked_in_at",
    "gate",
];

/// All sold tickets of an event, in the order of the seats. Cells that a spreadsheet would take for a formula begin with
/// an apostrophe.
#[utoipa::path(
    get, path = "/organiser/events/{id}/export.csv", params(("id" = String, Path)),
    responses((status = 200, content_type = "text/csv"))
)]
pub(super) async fn export(
    State(app): State<App>,
    organiser: Organiser,
    Path(id): Path<EventId>,
) -> Result<Response, Problem> {
    let event = organiser.event(&app, id).await?;
    let inventory = app.live.event(id).await?.inventory();
    // What a part begins after; nothing behind the last one.
    let first: Option<Option<TicketId>> = Some(None);
    let parts = stream::try_unfold((app, event, inventory, first), |(app, event, inventory, next)| async move {
        let Some(after) = next else { return Ok::<_, Error>(None) };
        let (sold, more) = app.sold_after(event.id, after).await?;
        let next = sold.last().filter(|_| more).map(|sale| Some(sale.ticket));
        let part = rows(&event, &inventory, &sold, after.is_none())?;
        Ok(Some((part, (app, event, inventory, next))))
    });
    let name = HeaderValue::from_str(&format!("attachment; filename=\"{id}.csv\""));
    let name = name.unwrap_or(HeaderValue::from_static("attachment"));
    let head = [(CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8")), (CONTENT_DISPOSITION, name)];
    Ok((head, Body::from_stream(parts)).into_response())
}

fn rows(event: &Event, inventory: &Inventory, sold: &[Sale], with_head: bool) -> Result<Bytes, Error> {
    let failed = |error: csv::Error| Error::Corrupt { what: "the export".into(), reason: error.to_string() };
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    if with_head {
        writer.write_record(COLUMNS).map_err(failed)?;
    }
    for sale in sold {
        let seat = sale.ticket.seat();
        let (section, row, label, area) = match seat.and_then(|seat| inventory.label(seat)) {
            Some(SeatLabel::Seat { section, row, seat }) => (section, row, seat, ""),
            Some(SeatLabel::Place { area }) => ("", "", "", area),
            None => ("", "", "", ""),
        };
        let level = seat.and_then(|seat| inventory.level(seat)).and_then(|level| event.details.price_levels.get(level));
        let price = Money::new(sale.price, event.currency).to_string();
        let time = |at: Option<Timestamp>| at.map(|at| at.to_string()).unwrap_or_default();
        let record = [
            sale.ticket.to_string(),
            sale.order.to_string(),
            harmless(section),
            harmless(row),
            harmless(label),
            harmless(area),
            harmless(level.map_or("", |level| &level.key)),
            price.split(' ').next().unwrap_or_default().to_owned(),
            event.currency.to_string(),
            harmless(&sale.subject),
            sale.booked_at.to_string(),
            time(sale.checked_in_at),
            harmless(sale.gate.as_deref().unwrap_or_default()),
        ];
        writer.write_record(&record).map_err(failed)?;
    }
    let bytes = writer.into_inner().map_err(|error| failed(error.into_error().into()))?;
    Ok(bytes.into())
}

/// Text that no spreadsheet takes for a formula.
fn harmless(text: &str) -> String {
    match text.chars().next() {
        Some('=' | '+' | '-' | '@' | '\t' | '\r') => format!("'{text}"),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_are_text() {
        for text in ["=HYPERLINK(\"x\")", "+1", "-1", "@SUM(A1)", "\tx"] {
            assert_eq!(harmless(text), format!("'{text}"));
        }
        assert_eq!(harmless("B12"), "B12");
    }
}
