//! The rows of every resource as they are on the wire, and their ids.

use serde::Serialize;
use tessera_kernel::Timestamp;
use utoipa::ToSchema;

use super::lifecycle::Status;
use super::shop::{Version, What};
use super::words::{COUNTRIES, CountryWords};

/// A customer.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Customer {
    pub(super) id: u64,
    pub(super) email: String,
    pub(super) first_name: &'static str,
    pub(super) last_name: &'static str,
    pub(super) phone: Option<String>,
    #[schema(value_type = Option<String>, format = Date)]
    pub(super) birthday: Option<String>,
    pub(super) loyalty_points: u64,
    pub(super) marketing_opt_in: bool,
    pub(super) tags: Vec<&'static str>,
    pub(super) address: Address,
    #[schema(value_type = String, format = DateTime)]
    pub(super) created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    pub(super) updated_at: Timestamp,
}

/// A postal address.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Address {
    pub(super) name: String,
    pub(super) line1: String,
    pub(super) line2: Option<&'static str>,
    pub(super) city: &'static str,
    pub(super) postcode: String,
    pub(super) country: &'static str,
    pub(super) location: Option<Location>,
}

/// A place in degrees.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Location {
    pub(super) lat: f64,
    pub(super) lon: f64,
}

/// What an order says of its customer.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CustomerSummary {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) email: String,
    pub(super) country: &'static str,
}

/// What an order says of its items.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LineSummary {
    pub(super) line: u64,
    pub(super) product_id: u64,
    pub(super) sku: String,
    pub(super) quantity: u64,
    pub(super) unit_price_minor: u64,
}

/// A number that the API began to send with decimals at some time.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Weight {
    /// As early rows have it.
    Whole(u64),
    /// As later rows have it.
    Decimal(f64),
}

/// An order.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Order {
    pub(super) id: u64,
    pub(super) number: String,
    #[schema(value_type = String)]
    pub(super) status: Status,
    /// A deleted order stays in the list, with `updated_at` moved.
    pub(super) deleted: bool,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(super) deleted_at: Option<Timestamp>,
    pub(super) customer: Option<CustomerSummary>,
    pub(super) shipping: Address,
    pub(super) lines: Vec<LineSummary>,
    pub(super) item_count: u64,
    /// In the smallest unit of the currency.
    pub(super) total_minor: u64,
    pub(super) currency: &'static str,
    pub(super) discount_percent: Option<f64>,
    pub(super) weight_kg: Weight,
    pub(super) channel: &'static str,
    pub(super) tags: Vec<&'static str>,
    pub(super) note: Option<String>,
    /// Absent from the first 60 % of the orders that were there at the opening.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub(super) gift_note: Option<Option<&'static str>>,
    /// Rises with every update.
    pub(super) revision: u64,
    #[schema(value_type = String, format = DateTime)]
    pub(super) created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    pub(super) updated_at: Timestamp,
}

/// An item of an order.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Item {
    pub(super) id: String,
    pub(super) order_id: u64,
    pub(super) line: u64,
    pub(super) product_id: u64,
    pub(super) sku: String,
    pub(super) title: String,
    pub(super) quantity: u64,
    pub(super) unit_price_minor: u64,
    pub(super) currency: &'static str,
    pub(super) tax_percent: Option<f64>,
    pub(super) options: Option<ItemOptions>,
}

/// What was chosen for an item.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ItemOptions {
    pub(super) colour: &'static str,
    pub(super) engraving: Option<&'static str>,
}

/// A product.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Product {
    pub(super) id: u64,
    pub(super) sku: String,
    pub(super) title: String,
    pub(super) category: &'static str,
    pub(super) price_minor: u64,
    pub(super) currency: &'static str,
    pub(super) weight_kg: Weight,
    pub(super) in_stock: bool,
    pub(super) colours: Vec<&'static str>,
    pub(super) dimensions_mm: Option<Dimensions>,
    #[schema(value_type = String, format = DateTime)]
    pub(super) updated_at: Timestamp,
}

/// The size of a product.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Dimensions {
    pub(super) width: u64,
    pub(super) height: u64,
    pub(super) depth: u64,
}

/// A payment.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Payment {
    pub(super) id: String,
    pub(super) order_id: u64,
    pub(super) method: &'static str,
    pub(super) amount_minor: u64,
    pub(super) currency: &'static str,
    pub(super) card: Option<Card>,
    #[schema(value_type = String, format = DateTime)]
    pub(super) created_at: Timestamp,
}

/// The card of a payment.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Card {
    pub(super) brand: &'static str,
    pub(super) last4: String,
}

/// A refund.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Refund {
    pub(super) id: String,
    pub(super) order_id: u64,
    pub(super) payment_id: String,
    pub(super) amount_minor: u64,
    pub(super) currency: &'static str,
    pub(super) reason: &'static str,
    #[schema(value_type = String, format = DateTime)]
    pub(super) created_at: Timestamp,
}

/// A shipment.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Shipment {
    pub(super) id: String,
    pub(super) order_id: u64,
    pub(super) carrier: &'static str,
    pub(super) tracking_number: String,
    pub(super) status: &'static str,
    pub(super) destination: Address,
    #[schema(value_type = String, format = DateTime)]
    pub(super) shipped_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(super) delivered_at: Option<Timestamp>,
    #[schema(value_type = String, format = DateTime)]
    pub(super) updated_at: Timestamp,
}

/// A review.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Review {
    pub(super) id: String,
    pub(super) order_id: u64,
    pub(super) product_id: Option<u64>,
    pub(super) rating: u8,
    pub(super) language: &'static str,
    pub(super) title: &'static str,
    pub(super) text: &'static str,
    pub(super) helpful: u64,
    pub(super) reply: Option<&'static str>,
    #[schema(value_type = String, format = DateTime)]
    pub(super) created_at: Timestamp,
}

/// Something that happened to an order.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Event {
    pub(super) id: String,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) order_id: u64,
    #[schema(value_type = String, format = DateTime)]
    pub(super) occurred_at: Timestamp,
    pub(super) payload: EventPayload,
}

/// What an event says.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EventPayload {
    #[schema(value_type = String)]
    pub(super) status: Status,
    pub(super) round: Option<u64>,
}

/// The stock of a product in a warehouse; a line of the CSV files.
#[derive(Debug, Serialize)]
pub(super) struct Stock {
    pub(super) id: String,
    pub(super) sku: String,
    pub(super) product_id: u64,
    pub(super) warehouse: &'static str,
    pub(super) quantity: u64,
    pub(super) reserved: Option<u64>,
    pub(super) counted_at: Timestamp,
}

/// A country.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Country {
    pub(super) code: &'static str,
    pub(super) name: &'static str,
    pub(super) native_name: &'static str,
    pub(super) currency: &'static str,
    pub(super) currency_decimals: u8,
    pub(super) vat_percent: Option<f64>,
}

/// All countries.
pub(super) fn countries() -> Vec<Country> {
    let row = |&(code, name, native_name, currency, currency_decimals, vat_percent): &CountryWords| Country {
        code,
        name,
        native_name,
        currency,
        currency_decimals,
        vat_percent,
    };
    COUNTRIES.iter().map(row).collect()
}

/// The id of a payment, and so on: a prefix and the order's id, so wide that text order is number order.
pub(super) fn key(prefix: &str, order: u64) -> String {
    format!("{prefix}_{order:010}")
}

/// The id of an event.
pub(super) fn event_key(version: &Version) -> String {
    match version.what {
        What::Step { step, .. } => format!("evt_{:010}_{step}", version.id),
        What::Touch { round, .. } => format!("evt_{:010}_t{round:06}", version.id),
    }
}
