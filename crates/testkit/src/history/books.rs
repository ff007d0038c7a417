//! Orders, tickets and the provider's ledger at the end of a history: money and seats agree, to the unit.

use std::collections::BTreeMap;

use serde_json::Value;

/// An order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Its id.
    pub id: String,
    /// Who bought.
    pub buyer: String,
    /// Where it stands.
    pub state: String,
    /// What it costs, in minor units, as all amounts here.
    pub total: i64,
    /// What was taken.
    pub captured: i64,
    /// What of it went back.
    pub refunded: i64,
    /// Why it came to nothing.
    pub failure: Option<String>,
    /// What was bought, and what each cost.
    pub tickets: Vec<(String, i64)>,
}

/// A ticket that somebody has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sold {
    /// Which.
    pub ticket: String,
    /// With which order.
    pub order: String,
    /// Whose it is.
    pub owner: String,
    /// What it cost.
    pub price: i64,
}

/// A payment as the provider knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// For which order.
    pub order: String,
    /// Where it stands.
    pub status: String,
    /// What was taken.
    pub captured: i64,
    /// What of it went back.
    pub refunded: i64,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// Every order.
    pub orders: Vec<Order>,
    /// Every ticket that somebody has.
    pub tickets: Vec<Sold>,
    /// Every payment.
    pub ledger: Vec<Payment>,
}

impl Order {
    /// Whether its seats were its buyer's for certain, at some time at least.
    pub fn was_booked(&self) -> bool {
        matches!(self.state.as_str(), "captured" | "refunded") && self.failure.is_none()
    }

    /// Whether they may have been: money that was let go may have been let go by the bank after the seats were booked.
    pub fn may_have_been_booked(&self) -> bool {
        self.was_booked() || matches!(self.state.as_str(), "captured" | "refunded" | "voided")
    }
}

impl Books {
    /// From the items of the lists `/orders`, `/tickets` and `/payments/test`.
    ///
    /// # Panics
    /// Where they are something else.
    pub fn read(orders: &[Value], tickets: &[Value], ledger: &[Value]) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("a text, not {value}")).to_owned();
        let amount = |value: &Value| value.as_i64().unwrap_or_else(|| panic!("an amount, not {value}"));
        let order = |order: &Value| Order {
            id: text(&order["id"]),
            buyer: text(&order["buyer"]),
            state: text(&order["state"]),
            total: amount(&order["total"]["amount"]),
            captured: amount(&order["captured"]["amount"]),
            refunded: amount(&order["refunded"]["amount"]),
            failure: order["failure"]["code"].as_str().map(str::to_owned),
            tickets: order["tickets"]
                .as_array()
                .map(|tickets| tickets.iter().map(|one| (text(&one["id"]), amount(&one["price"]["amount"]))).collect())
                .unwrap_or_default(),
        };
        let sold = |ticket: &Value| Sold {
            ticket: text(&ticket["id"]),
            order: text(&ticket["order"]),
            owner: text(&ticket["owner"]),
            price: amount(&ticket["price"]["amount"]),
        };
        let payment = |payment: &Value| Payment {
            order: text(&payment["order"]),
            status: text(&payment["state"]),
            captured: amount(&payment["captured"]["amount"]),
            refunded: amount(&payment["refunded"]["amount"]),
        };
        Self {
            orders: orders.iter().map(order).collect(),
            tickets: tickets.iter().map(sold).collect(),
            ledger: ledger.iter().map(payment).collect(),
        }
    }

    /// What is still on its way: orders that have something left to do, and money that is set aside.
    pub fn unsettled(&self) -> Vec<String> {
        let settled = |state: &str| matches!(state, "captured" | "failed" | "voided" | "refunded");
        let orders = self.orders.iter().filter(|order| !settled(&order.state));
        let orders = orders.map(|order| format!("order {} is {}", order.id, order.state));
        let open = |status: &str| matches!(status, "authorised" | "needs_action" | "pending");
        let money = self.ledger.iter().filter(|payment| open(&payment.status));
        let money = money.map(|payment| format!("the payment for order {} is {}", payment.order, payment.status));
        orders.chain(money).collect()
    }

    /// Everything that does not agree once all is settled.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.unsettled();
        let mut worth: BTreeMap<&str, i64> = BTreeMap::new();
        let mut owners: BTreeMap<&str, &Sold> = BTreeMap::new();
        for sold in &self.tickets {
            *worth.entry(&sold.order).or_default() += sold.price;
            if let Some(other) = owners.insert(&sold.ticket, sold) {
                faults.push(format!("ticket {} is sold twice: to {} and to {}", sold.ticket, other.owner, sold.owner));
            }
            let order = self.orders.iter().find(|order| order.id == sold.order);
            match order {
                None => faults.push(format!("ticket {} is of order {}, which there is not", sold.ticket, sold.order)),
                Some(order) if order.state != "captured" => {
                    faults.push(format!(
                        "a seat without money: ticket {} of an order that is {}",
                        sold.ticket, order.state
                    ));
                }
                Some(order) if !order.tickets.contains(&(sold.ticket.clone(), sold.price)) => {
                    faults
                        .push(format!("ticket {} at {} is not what order {} says", sold.ticket, sold.price, order.id));
                }
                Some(_) => {}
            }
        }
        let mut taken: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
        for payment in &self.ledger {
            let sums = taken.entry(&payment.order).or_default();
            sums.0 += payment.captured;
            sums.1 += payment.refunded;
            if !self.orders.iter().any(|order| order.id == payment.order) {
                faults.push(format!("money without an order: {payment:?}"));
            }
        }
        for order in &self.orders {
            let (captured, refunded) = taken.get(order.id.as_str()).copied().unwrap_or_default();
            if (captured, refunded) != (order.captured, order.refunded) {
                faults.push(format!(
                    "order {} says {} taken and {} returned, the provider {captured} and {refunded}",
                    order.id, order.captured, order.refunded
                ));
            }
            let worth = worth.get(order.id.as_str()).copied().unwrap_or_default();
            if captured - refunded != worth {
                let kept = captured - refunded;
                faults.push(format!("order {} ({}) keeps {kept} for seats worth {worth}", order.id, order.state));
            }
        }
        let kept: i64 = self.ledger.iter().map(|payment| payment.captured - payment.refunded).sum();
        let sold: i64 = self.tickets.iter().map(|sold| sold.price).sum();
        if kept != sold {
            faults.push(format!("the provider keeps {kept}, the sold seats are worth {sold}"));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn books() -> Books {
        let order = |id: &str, state: &str, captured, refunded, tickets: &[(&str, i64)]| Order {
            id: id.into(),
            buyer: "ana".into(),
            state: state.into(),
            total: tickets.iter().map(|(_, price)| price).sum(),
            captured,
            refunded,
            failure: None,
            tickets: tickets.iter().map(|(ticket, price)| ((*ticket).to_owned(), *price)).collect(),
        };
        let sold = |ticket: &str, order: &str, price| Sold {
            ticket: ticket.into(),
            order: order.into(),
            owner: "ana".into(),
            price,
        };
        let payment = |order: &str, status: &str, captured, refunded| Payment {
            order: order.into(),
            status: status.into(),
            captured,
            refunded,
        };
        Books {
            orders: vec![
                order("o1", "captured", 300, 100, &[("t1", 100), ("t2", 200)]),
                order("o2", "refunded", 100, 100, &[("t1", 100)]),
                order("o3", "failed", 0, 0, &[("t3", 100)]),
            ],
            tickets: vec![sold("t2", "o1", 200)],
            ledger: vec![
                payment("o1", "captured", 300, 100),
                payment("o2", "captured", 100, 100),
                payment("o3", "declined", 0, 0),
            ],
        }
    }

    #[track_caller]
    fn says(change: impl FnOnce(&mut Books), fault: &str) {
        let mut books = books();
        change(&mut books);
        let faults = books.faults();
        assert!(faults.iter().any(|found| found.contains(fault)), "{faults:?}");
    }

    #[test]
    fn good_books_have_no_faults() {
        assert_eq!(books().faults(), Vec::<String>::new());
    }

    #[test]
    fn what_does_not_agree_is_named() {
        says(|books| books.tickets.push(books.tickets[0].clone()), "ticket t2 is sold twice");
        says(|books| books.tickets.clear(), "order o1 (captured) keeps 200 for seats worth 0");
        says(|books| books.ledger[0].refunded = 0, "the provider keeps 300, the sold seats are worth 200");
        says(|books| books.ledger[0].refunded = 0, "order o1 says 300 taken and 100 returned, the provider 300 and 0");
        says(|books| books.orders[0].state = "failed".into(), "a seat without money: ticket t2");
        says(|books| books.orders[0].state = "booked".into(), "order o1 is booked");
        says(|books| books.ledger[2].status = "authorised".into(), "the payment for order o3 is authorised");
        says(|books| books.ledger[2].order = "o9".into(), "money without an order");
        says(|books| books.tickets[0].order = "o9".into(), "which there is not");
        says(|books| books.tickets[0].price = 150, "is not what order o1 says");
        says(
            |books| books.ledger.push(books.ledger[0].clone()),
            "order o1 says 300 taken and 100 returned, the provider 600",
        );
    }
}
