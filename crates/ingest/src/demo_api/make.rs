//! How each row is made, from its id and the moment.

use tessera_kernel::Timestamp;

use super::calendar::{DAY, MINUTE, SECOND};
use super::draw::Dice;
use super::lifecycle::{Change, Era, Status};
use super::rows::{
    Address, Card, Customer, CustomerSummary, Dimensions, Event, EventPayload, Item, ItemOptions, LineSummary,
    Location, Order, Payment, Product, Refund, Review, Shipment, Stock, Weight, event_key, key,
};
use super::shop::{Version, View, What, whole_second};
use super::words::{
    CARRIERS, CHANNELS, COLOURS, COUNTRIES, CountryWords, FIRST_NAMES, GIFT_NOTES, KINDS, LAST_NAMES, NOTES, REVIEWS,
    TAGS, THINGS, TOWNS, WAREHOUSES,
};

const SALT_CUSTOMER: u64 = 101;
const SALT_PROFILE: u64 = 102;
const SALT_PRODUCT: u64 = 103;
const SALT_ORDER: u64 = 104;
const SALT_LINE: u64 = 105;
const SALT_PAYMENT: u64 = 106;
const SALT_SHIPMENT: u64 = 107;
const SALT_REVIEW: u64 = 108;
const SALT_STOCK: u64 = 109;

/// One name and home, from a customer's id.
struct Person {
    first_name: &'static str,
    last_name: &'static str,
    town: (usize, &'static str, &'static str, &'static str),
}

const fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

const fn percent(tenths: u64) -> f64 {
    tenths as f64 / 10.0
}

impl View<'_> {
    fn person(&self, id: u64) -> Person {
        let mut dice = Dice::new(self.shop.seed, SALT_CUSTOMER, id);
        Person { first_name: dice.pick(&FIRST_NAMES), last_name: dice.pick(&LAST_NAMES), town: dice.pick(&TOWNS) }
    }

    /// When a customer last changed something, none where that is yet to come or never will.
    fn profile_change(&self, id: u64) -> Option<i64> {
        let mut dice = Dice::new(self.shop.seed, SALT_PROFILE, id);
        if !dice.percent(30) {
            return None;
        }
        let delay = match self.shop.customers.locate(id).0 {
            Era::History => dice.between(1, 200).cast_signed() * DAY,
            Era::Live => dice.between(60, 600).cast_signed() * SECOND,
        };
        Some(whole_second(self.shop.customers.created_at(id) + delay)).filter(|&change| change <= self.now)
    }

    /// When a customer was last updated.
    pub(super) fn customer_updated_at(&self, id: u64) -> i64 {
        self.profile_change(id).unwrap_or_else(|| whole_second(self.shop.customers.created_at(id)))
    }

    pub(super) fn customer(&self, id: u64) -> Customer {
        let person = self.person(id);
        let change = self.profile_change(id);
        let mut dice = Dice::new(self.shop.seed, SALT_CUSTOMER + 1000, id);
        let created_at = whole_second(self.shop.customers.created_at(id));
        let birthday = (1950 + dice.below(55), 1 + dice.below(12), 1 + dice.below(28));
        let born = dice.percent(60);
        Customer {
            id,
            email: email(id),
            first_name: person.first_name,
            last_name: person.last_name,
            phone: dice.percent(70).then(|| format!("+{:02} {:07}", dice.between(1, 99), dice.below(10_000_000))),
            birthday: born.then(|| format!("{:04}-{:02}-{:02}", birthday.0, birthday.1, birthday.2)),
            loyalty_points: dice.below(5000) + if change.is_some() { 250 } else { 0 },
            marketing_opt_in: dice.percent(40),
            tags: tags(&mut dice),
            address: address(&mut dice, format!("{} {}", person.first_name, person.last_name), person.town),
            created_at: at(created_at),
            updated_at: at(change.unwrap_or(created_at)),
        }
    }

    pub(super) fn product(&self, id: u64) -> Product {
        let mut dice = Dice::new(self.shop.seed, SALT_PRODUCT, id);
        let (thing, category) = dice.pick(&THINGS);
        let price_minor = self.price(id);
        let colours = (0..dice.below(4)).map(|_| dice.pick(&COLOURS)).collect();
        Product {
            id,
            sku: sku(id),
            title: format!("{thing}, {}", dice.pick(&KINDS)),
            category,
            price_minor,
            currency: "EUR",
            weight_kg: weight(&mut dice, id, self.shop.products),
            in_stock: dice.percent(85),
            colours,
            dimensions_mm: dice.percent(70).then(|| Dimensions {
                width: dice.between(20, 900),
                height: dice.between(20, 900),
                depth: dice.between(20, 900),
            }),
            updated_at: at(self.product_updated_at(id)),
        }
    }

    /// When a product was last updated: some time in the year before the opening.
    pub(super) fn product_updated_at(&self, id: u64) -> i64 {
        let seconds = Dice::new(self.shop.seed, SALT_PRODUCT + 1000, id).below(365 * 86_400);
        self.shop.opened_at - seconds.cast_signed() * SECOND
    }

    fn price(&self, product: u64) -> u64 {
        Dice::new(self.shop.seed, SALT_PRODUCT + 2000, product).between(2, 400) * 100 - 5
    }

    fn customer_of(&self, order: u64) -> Option<u64> {
        let customers = self.shop.customers.until(self.shop.orders.created_at(order));
        (customers > 0).then(|| 1 + Dice::new(self.shop.seed, SALT_ORDER + 1000, order).below(customers))
    }

    /// The country that an order goes to.
    fn country_of(&self, order: u64) -> &'static CountryWords {
        let town = self.customer_of(order).map_or(TOWNS[0], |customer| self.person(customer).town);
        &COUNTRIES[town.0]
    }

    fn lines(&self, order: u64) -> Vec<LineSummary> {
        let line = |line| {
            let mut dice = Dice::new(self.shop.seed, SALT_LINE, order * 8 + line);
            let product_id = 1 + dice.below(self.shop.products);
            let quantity = dice.between(1, 4);
            LineSummary { line, product_id, sku: sku(product_id), quantity, unit_price_minor: self.price(product_id) }
        };
        (1..=self.shop.items_of(order)).map(line).collect()
    }

    fn total(lines: &[LineSummary]) -> u64 {
        lines.iter().map(|line| line.quantity * line.unit_price_minor).sum()
    }

    pub(super) fn order_row(&self, version: &Version) -> Order {
        let id = version.id;
        let (status, deleted, revision, corrected) = match version.what {
            What::Step { class, step, .. } => {
                let taken = self.shop.steps[class as usize][step];
                let (deleted, corrected) = (taken.change == Change::Deleted, taken.change == Change::Corrected);
                (taken.status, deleted, step as u64 + 1, corrected)
            }
            What::Touch { series, round } => {
                let change = self.shop.touches[series].change;
                (Status::Delivered, change == Change::Deleted, 10 + round, change == Change::Corrected)
            }
        };
        let created_at = whole_second(self.shop.orders.created_at(id));
        let mut dice = Dice::new(self.shop.seed, SALT_ORDER, id);
        let customer = self.customer_of(id).map(|customer| {
            let person = self.person(customer);
            let name = format!("{} {}", person.first_name, person.last_name);
            (
                CustomerSummary { id: customer, name, email: email(customer), country: COUNTRIES[person.town.0].0 },
                person,
            )
        });
        let (name, town) = customer
            .as_ref()
            .map_or_else(|| ("—".to_owned(), TOWNS[0]), |(summary, person)| (summary.name.clone(), person.town));
        let lines = self.lines(id);
        let note = dice.percent(20).then(|| dice.pick(&NOTES).to_owned());
        let note = if corrected { Some(format!("address corrected by support, revision {revision}")) } else { note };
        let gift_note = dice.percent(25).then(|| dice.pick(&GIFT_NOTES));
        Order {
            id,
            number: format!("S{:04}-{id:07}", self.shop.seed % 10_000),
            status,
            deleted,
            deleted_at: deleted.then(|| at(version.updated_at)),
            customer: customer.map(|(summary, _)| summary),
            shipping: address(&mut dice, name, town),
            item_count: lines.len() as u64,
            total_minor: Self::total(&lines),
            lines,
            currency: COUNTRIES[town.0].3,
            discount_percent: dice.percent(30).then(|| percent(dice.below(300))),
            weight_kg: weight(&mut dice, id, self.shop.orders.history.limit()),
            channel: dice.pick(&CHANNELS),
            tags: tags(&mut dice),
            note,
            gift_note: late(id, self.shop.orders.history.limit()).then_some(gift_note),
            revision,
            created_at: at(created_at),
            updated_at: at(version.updated_at),
        }
    }

    pub(super) fn item_rows(&self, order: u64) -> Vec<Item> {
        let country = self.country_of(order);
        let item = |summary: LineSummary| {
            let mut dice = Dice::new(self.shop.seed, SALT_LINE + 1000, order * 8 + summary.line);
            Item {
                id: format!("{order}-{}", summary.line),
                order_id: order,
                line: summary.line,
                product_id: summary.product_id,
                title: self.product(summary.product_id).title,
                sku: summary.sku,
                quantity: summary.quantity,
                unit_price_minor: summary.unit_price_minor,
                currency: country.3,
                tax_percent: country.5,
                options: dice.percent(50).then(|| ItemOptions {
                    colour: dice.pick(&COLOURS),
                    engraving: dice.percent(20).then(|| dice.pick(&GIFT_NOTES)),
                }),
            }
        };
        self.lines(order).into_iter().map(item).collect()
    }

    pub(super) fn payment(&self, version: &Version) -> Payment {
        let mut dice = Dice::new(self.shop.seed, SALT_PAYMENT, version.id);
        let method = dice.pick(&["card", "card", "bank_transfer", "wallet", "invoice"]);
        Payment {
            id: key("pay", version.id),
            order_id: version.id,
            method,
            amount_minor: Self::total(&self.lines(version.id)),
            currency: self.country_of(version.id).3,
            card: (method == "card").then(|| Card {
                brand: dice.pick(&["Visa", "Mastercard", "Amex", "JCB"]),
                last4: format!("{:04}", dice.below(10_000)),
            }),
            created_at: at(version.updated_at),
        }
    }

    pub(super) fn refund(&self, version: &Version) -> Refund {
        let returned = matches!(version.what, What::Step { class, .. } if class != 15);
        Refund {
            id: key("ref", version.id),
            order_id: version.id,
            payment_id: key("pay", version.id),
            amount_minor: Self::total(&self.lines(version.id)),
            currency: self.country_of(version.id).3,
            reason: if returned { "returned" } else { "cancelled" },
            created_at: at(version.updated_at),
        }
    }

    /// When a parcel arrived.
    fn delivered_at(&self, order: u64) -> Option<i64> {
        let (era, index) = self.shop.orders.locate(order);
        let (class, _) = self.shop.class_of(era, index);
        let delivered = self.shop.steps[class as usize].iter().find(|step| step.change == Change::Delivered)?;
        let arrived = self.shop.orders.of(era).at(index) + delivered.after(era);
        (arrived <= self.now).then(|| whole_second(arrived))
    }

    /// When a shipment was last updated, from its order and when it was shipped.
    pub(super) fn shipment_updated_at(&self, version: &Version) -> i64 {
        self.delivered_at(version.id).unwrap_or(version.updated_at)
    }

    pub(super) fn shipment(&self, version: &Version) -> Shipment {
        let mut dice = Dice::new(self.shop.seed, SALT_SHIPMENT, version.id);
        let delivered_at = self.delivered_at(version.id);
        let carrier = dice.pick(&CARRIERS);
        let tracking_number = format!("{:012}", dice.below(1_000_000_000_000));
        Shipment {
            id: key("shp", version.id),
            order_id: version.id,
            carrier,
            tracking_number,
            status: if delivered_at.is_some() { "delivered" } else { "in_transit" },
            destination: self.order_row(version).shipping,
            shipped_at: at(version.updated_at),
            delivered_at: delivered_at.map(at),
            updated_at: at(self.shipment_updated_at(version)),
        }
    }

    pub(super) fn review(&self, version: &Version) -> Review {
        let mut dice = Dice::new(self.shop.seed, SALT_REVIEW, version.id);
        let (language, rating, title, text) = dice.pick(&REVIEWS);
        Review {
            id: key("rev", version.id),
            order_id: version.id,
            product_id: self.lines(version.id).first().map(|line| line.product_id),
            rating,
            language,
            title,
            text,
            helpful: dice.below(40),
            reply: dice.percent(10).then_some("Thank you! 🙏 — the shop"),
            created_at: at(version.updated_at),
        }
    }

    pub(super) fn event(&self, version: &Version) -> Event {
        let (change, status, round) = match version.what {
            What::Step { class, step, .. } => {
                let taken = self.shop.steps[class as usize][step];
                (taken.change, taken.status, None)
            }
            What::Touch { series, round } => (self.shop.touches[series].change, Status::Delivered, Some(round)),
        };
        Event {
            id: event_key(version),
            kind: change.event(),
            order_id: version.id,
            occurred_at: at(version.updated_at),
            payload: EventPayload { status, round },
        }
    }

    /// The stock of a product: one row per warehouse, counted again every ten minutes after the opening.
    pub(super) fn stock(&self, product: u64) -> impl Iterator<Item = Stock> {
        let count = (self.now - self.shop.opened_at).max(0) / (10 * MINUTE);
        let counted_at = at(self.shop.opened_at + count * 10 * MINUTE);
        let seed = self.shop.seed;
        WAREHOUSES.into_iter().enumerate().map(move |(number, warehouse)| {
            let number = product * WAREHOUSES.len() as u64 + number as u64;
            let mut dice = Dice::new(seed, SALT_STOCK + count.cast_unsigned(), number);
            Stock {
                id: format!("{}/{warehouse}", sku(product)),
                sku: sku(product),
                product_id: product,
                warehouse,
                quantity: dice.below(500),
                reserved: dice.percent(40).then(|| dice.below(20)),
                counted_at,
            }
        })
    }
}

/// Whether a row came after the API's change of format, at 60 % of the first rows.
const fn late(id: u64, rows: u64) -> bool {
    id > rows * 3 / 5
}

fn weight(dice: &mut Dice, id: u64, rows: u64) -> Weight {
    let grams = dice.between(50, 30_000);
    if late(id, rows) { Weight::Decimal(grams as f64 / 1000.0) } else { Weight::Whole(grams.div_ceil(1000)) }
}

fn tags(dice: &mut Dice) -> Vec<&'static str> {
    let first = dice.below(TAGS.len() as u64);
    (0..dice.below(4)).map(|shift| TAGS[((first + 2 * shift) % TAGS.len() as u64) as usize]).collect()
}

fn address(
    dice: &mut Dice,
    name: String,
    (country, city, street, post): (usize, &'static str, &'static str, &'static str),
) -> Address {
    Address {
        name,
        line1: format!("{street} {}", dice.between(1, 199)),
        line2: dice.percent(25).then(|| dice.pick(&["c/o Müller", "2º esq.", "Apt. #4, \"rear\"", "3階"])),
        city,
        postcode: format!("{post}{:02}", dice.below(100)),
        country: COUNTRIES[country].0,
        location: dice.percent(80).then(|| Location {
            lat: (dice.below(1_000_000) as f64 - 500_000.0) / 10_000.0,
            lon: (dice.below(3_000_000) as f64 - 1_500_000.0) / 10_000.0,
        }),
    }
}

fn email(customer: u64) -> String {
    format!("customer{customer}@example.com")
}

fn sku(product: u64) -> String {
    format!("SKU-{product:05}")
}
