//! The books at the end: seats, orders, payments and capacity must agree to the unit, by what anyone can read.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tessera_kernel::Timestamp;
use tokio::time::{Instant, sleep};

use super::stage::Stage;
use crate::Error;
use crate::api::{Counts, Order, Report, Ticket, seat_of};
use crate::client::{Ask, Call};
use crate::domain::fan::MAX_QUANTITY;

/// How often it is asked whether everything is settled.
const ASKS_EVERY: Duration = Duration::from_millis(500);
/// An event's page may be this old.
const PAGE_AGE: Duration = Duration::from_millis(1_500);

/// What the books say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// What the event's page counts.
    pub seats: Counts,
    /// Orders by how they ended.
    pub captured: u64,
    /// Orders that were not paid, let go or refunded.
    pub unpaid: u64,
    /// Tickets that exist.
    pub tickets: u64,
    /// What was taken and not returned, minor units.
    pub revenue: i64,
    /// What does not agree.
    pub findings: Vec<String>,
}

/// What was read.
struct Books {
    counts: Counts,
    orders: HashMap<String, Order>,
    tickets: Vec<Ticket>,
    report: Report,
    capacity: u32,
}

/// Waits until all payments are settled, then compares.
///
/// # Errors
/// Those of the client.
pub async fn check(
    stage: &Stage,
    organiser: &str,
    since: Timestamp,
    settles_in: Duration,
    capacity: u32,
) -> Result<Audit, Error> {
    let (orders, unsettled) = settled_orders(stage, organiser, since, settles_in).await?;
    let tickets = stage.client.tickets(&stage.event, organiser).await?;
    let path = format!("/organiser/events/{}/report", stage.event);
    let report: Report = stage.client.fetch(&Ask::get(Call::Office, &path, Some(organiser))).await?;
    sleep(PAGE_AGE).await;
    let counts = stage.client.event(&stage.event).await?.seats;
    let books = Books { counts, orders, tickets, report, capacity };
    let mut audit = compare(&books);
    audit.findings.extend(compare_with_buyers(&books, stage));
    audit.findings.extend(unsettled);
    Ok(audit)
}

/// All orders, none of which may still change by itself, or what does not come to rest.
async fn settled_orders(
    stage: &Stage,
    organiser: &str,
    since: Timestamp,
    settles_in: Duration,
) -> Result<(HashMap<String, Order>, Option<String>), Error> {
    let deadline = Instant::now() + settles_in;
    loop {
        let orders = stage.client.orders(&stage.event, since, organiser).await?;
        let open = orders.values().filter(|order| order.state.is_open()).count();
        if open == 0 {
            return Ok((orders, None));
        }
        if Instant::now() >= deadline {
            let waited = settles_in.as_secs();
            return Ok((orders, Some(format!("{open} orders are still being paid or refunded after {waited} s"))));
        }
        sleep(ASKS_EVERY).await;
    }
}

/// The books against each other.
fn compare(books: &Books) -> Audit {
    let Books { counts, orders, tickets, report, capacity } = books;
    let mut findings = Vec::new();
    let mut must = |holds: bool, finding: String| {
        if !holds {
            findings.push(finding);
        }
    };
    let sold: Vec<&Order> = orders.values().filter(|order| order.state.has_seats()).collect();
    let ordered: u64 = sold.iter().map(|order| u64::from(order.count)).sum();
    let Counts { total, free, held, booked } = *counts;
    must(total == *capacity, format!("the event has {total} seats and places, {capacity} were put on sale"));
    must(free + held + booked == total, format!("{free} free + {held} held + {booked} sold are not {total}"));
    must(ordered == u64::from(booked), format!("orders have {ordered} seats, the event counts {booked} as sold"));
    must(
        tickets.len() == booked as usize,
        format!("{} tickets exist, the event counts {booked} as sold", tickets.len()),
    );
    must(report.tickets.sold == booked, format!("the report says {} sold, the event {booked}", report.tickets.sold));

    let distinct: HashSet<&str> = tickets.iter().map(|ticket| ticket.id.as_str()).collect();
    must(distinct.len() == tickets.len(), format!("{} tickets were sold twice", tickets.len() - distinct.len()));
    let outside = tickets.iter().filter(|ticket| seat_of(&ticket.id).is_none_or(|seat| seat >= *capacity)).count();
    must(outside == 0, format!("{outside} tickets are for seats that the event does not have"));
    let mut by_order: HashMap<&str, (u64, i64)> = HashMap::new();
    let mut by_owner: HashMap<&str, u32> = HashMap::new();
    for Ticket { order, owner, price, .. } in tickets {
        let entry = by_order.entry(order).or_default();
        *entry = (entry.0 + 1, entry.1 + price.amount);
        *by_owner.entry(owner).or_default() += 1;
    }
    for order in &sold {
        let (count, price) = by_order.remove(order.id.as_str()).unwrap_or_default();
        let (wanted, total) = (u64::from(order.count), order.total.amount);
        must(count == wanted, format!("order `{}` is for {wanted} tickets and has {count}", order.id));
        must(price == total, format!("order `{}` cost {total}, its tickets {price}", order.id));
    }
    must(by_order.is_empty(), format!("{} orders have tickets and were not paid", by_order.len()));
    let greedy = by_owner.values().filter(|count| **count > MAX_QUANTITY).count();
    must(greedy == 0, format!("{greedy} customers have more than {MAX_QUANTITY} tickets"));

    for order in orders.values() {
        let (id, captured, refunded) = (&order.id, order.captured.amount, order.refunded.amount);
        let total = order.total.amount;
        match order.state.has_seats() {
            true => must(captured == total, format!("order `{id}` has its seats for {total}, {captured} was paid")),
            false => must(captured == refunded, format!("order `{id}` has no seats, {captured} - {refunded} was kept")),
        }
    }
    let taken: i64 = sold.iter().map(|order| order.total.amount).sum();
    let returned: i64 = sold.iter().map(|order| order.refunded.amount).sum();
    let (gross, back) = (report.revenue.gross.amount, report.revenue.refunded.amount);
    must(gross - back == taken - returned, format!("the report has {gross} - {back}, orders {taken} - {returned}"));
    Audit {
        seats: *counts,
        captured: sold.len() as u64,
        unpaid: orders.len() as u64 - sold.len() as u64,
        tickets: tickets.len() as u64,
        revenue: taken - returned,
        findings,
    }
}

/// The books against what buyers were told.
fn compare_with_buyers(books: &Books, stage: &Stage) -> Vec<String> {
    let mut findings = Vec::new();
    let owners: HashMap<u32, &Ticket> =
        books.tickets.iter().filter_map(|ticket| Some((seat_of(&ticket.id)?, ticket))).collect();
    let mut sold_to: HashMap<u32, String> = HashMap::new();
    for bought in stage.tally.purchases() {
        let (subject, id) = (&bought.subject, &bought.order);
        match books.orders.get(id) {
            None => findings.push(format!("`{subject}` was told of order `{id}`, which does not exist")),
            Some(order) if !order.state.has_seats() => {
                findings.push(format!("`{subject}` was told that order `{id}` is theirs, it is {:?}", order.state));
            }
            Some(order) if order.total.amount != bought.total => {
                findings.push(format!("order `{id}` cost {}, `{subject}` was told {}", order.total, bought.total));
            }
            Some(_) => {}
        }
        for seat in &bought.seats {
            if let Some(other) = sold_to.insert(*seat, subject.clone()) {
                findings.push(format!("seat {seat} was sold to `{other}` and to `{subject}`"));
            }
            if owners.get(seat).is_none_or(|ticket| ticket.owner != *subject || ticket.order != *id) {
                findings
                    .push(format!("seat {seat} of `{subject}`, order `{id}`, is not theirs in the list of tickets"));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::OrderState;

    fn books(change: impl FnOnce(&mut Books)) -> Audit {
        let event = "event_0199aabbccdd7eee8fffaaaa00000000";
        let euros = |amount: i64| json!({ "amount": amount, "currency": "EUR" });
        let order = |id: &str, state: &str, count: u32, refunded: i64| -> (String, Order) {
            let total = euros(i64::from(count) * 500);
            let order = json!({
                "id": id, "event": event, "state": state, "count": count, "total": total, "captured": total,
                "refunded": euros(refunded),
            });
            (id.to_owned(), serde_json::from_value(order).unwrap())
        };
        let ticket = |seat: u32, order: &str| -> Ticket {
            let id = crate::api::ticket_id(event, seat).unwrap();
            serde_json::from_value(json!({ "id": id, "order": order, "owner": "ana", "price": euros(500) })).unwrap()
        };
        let report = json!({
            "tickets": { "total": 10, "sold": 3 }, "orders": 3,
            "revenue": { "gross": euros(2_500), "refunded": euros(1_000) },
        });
        let mut books = Books {
            counts: Counts { total: 10, free: 6, held: 1, booked: 3 },
            orders: [order("a", "captured", 2, 0), order("b", "captured", 1, 0), order("c", "refunded", 2, 1_000)]
                .into(),
            tickets: vec![ticket(0, "a"), ticket(1, "a"), ticket(7, "b")],
            report: serde_json::from_value(report).unwrap(),
            capacity: 10,
        };
        change(&mut books);
        compare(&books)
    }

    #[test]
    fn books_that_agree_have_no_findings() {
        let audit = books(|_| {});
        assert_eq!(audit.findings, Vec::<String>::new());
        assert_eq!((audit.captured, audit.unpaid, audit.tickets, audit.revenue), (2, 1, 3, 1_500));
    }

    #[test]
    fn each_disagreement_is_found() {
        let found = |change: fn(&mut Books)| books(change).findings.join("; ");
        let double = found(|books| books.tickets[1] = books.tickets[0].clone());
        assert!(double.contains("1 tickets were sold twice"), "{double}");
        let lost = found(|books| drop(books.tickets.pop()));
        assert!(lost.contains("2 tickets exist") && lost.contains("order `b` is for 1 tickets and has 0"), "{lost}");
        let unpaid = found(|books| books.orders.get_mut("b").unwrap().state = OrderState::Failed);
        assert!(unpaid.contains("1 orders have tickets and were not paid"), "{unpaid}");
        let counted = found(|books| books.counts.free = 7);
        assert!(counted.contains("7 free + 1 held + 3 sold are not 10"), "{counted}");
        let oversold = found(|books| books.capacity = 7);
        assert!(oversold.contains("7 were put on sale") && oversold.contains("1 tickets are for seats"), "{oversold}");
        let kept = found(|books| books.orders.get_mut("c").unwrap().refunded.amount = 900);
        assert!(kept.contains("order `c` has no seats, 1000 - 900 was kept"), "{kept}");
        let charged = found(|books| books.orders.get_mut("a").unwrap().total.amount = 1_100);
        assert!(
            charged.contains("order `a` cost 1100, its tickets 1000") && charged.contains("1000 was paid"),
            "{charged}"
        );
    }
}
