//! Requests as their clients saw them, and what they did to each seat.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::books::Books;
use super::seat::{Contradiction, Micros, Op, Rules, Step, explain};

/// What a client asked for, and what it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Did {
    /// These tickets are held.
    Held {
        /// By this hold.
        hold: String,
        /// Which.
        tickets: Vec<String>,
    },
    /// These were asked for, and there was no answer ever.
    MaybeHeld {
        /// Which.
        tickets: Vec<String>,
    },
    /// These were named as taken.
    Refused {
        /// Which.
        tickets: Vec<String>,
    },
    /// A hold was paid for, with an order that has been made.
    Paid {
        /// Which hold.
        hold: String,
        /// The order.
        order: String,
        /// Whether the buyer was told that the seats are booked and the money is taken. What is booked alone a bank may
        /// still let go.
        booked: bool,
    },
    /// A hold was given back, and seats of it were freed.
    Released {
        /// Which hold.
        hold: String,
    },
    /// A hold was perhaps given back.
    MaybeReleased {
        /// Which hold.
        hold: String,
    },
    /// Tickets were given back.
    Returned {
        /// Of this order.
        order: String,
        /// By whom, who must own them; nobody where it was who sells them.
        owner: Option<String>,
        /// Which.
        tickets: Vec<String>,
    },
    /// Tickets were perhaps given back.
    MaybeReturned {
        /// Of this order.
        order: String,
        /// By whom, who must own them; nobody where it was who sells them.
        owner: Option<String>,
        /// Which.
        tickets: Vec<String>,
    },
    /// A ticket was passed on.
    Passed {
        /// Which.
        ticket: String,
        /// By whom.
        from: String,
        /// To whom.
        to: String,
    },
    /// A ticket was perhaps passed on.
    MaybePassed {
        /// Which.
        ticket: String,
        /// By whom.
        from: String,
        /// To whom.
        to: String,
    },
}

/// A request with its times; one that was repeated under its key counts from the first to the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Who asked.
    pub client: String,
    /// When it was first sent.
    pub began: Micros,
    /// When it was answered; [`Micros::MAX`] where it never was.
    pub ended: Micros,
    /// What it was.
    pub did: Did,
}

/// The terms of the sale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long a hold lasts.
    pub ttl: Micros,
    /// How long it is extended when it is paid.
    pub window: Micros,
    /// What is promised beyond.
    pub rules: Rules,
}

/// A history that is being written by many clients.
#[derive(Debug)]
pub struct Recorder {
    start: Instant,
    entries: Mutex<Vec<Entry>>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self { start: Instant::now(), entries: Mutex::default() }
    }
}

impl Recorder {
    /// The present moment of the history.
    pub fn now(&self) -> Micros {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(Micros::MAX)
    }

    /// Keeps what came of a request that was first sent at `began`, and is answered now.
    pub fn answered(&self, client: &str, began: Micros, did: Did) {
        let ended = self.now();
        self.entries().push(Entry { client: client.to_owned(), began, ended, did });
    }

    /// Keeps a request that nobody will ever answer.
    pub fn unanswered(&self, client: &str, began: Micros, did: Did) {
        self.entries().push(Entry { client: client.to_owned(), began, ended: Micros::MAX, did });
    }

    /// All of it so far.
    pub fn history(&self) -> Vec<Entry> {
        self.entries().clone()
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everything that is wrong with a history and the books at its end, which were read from `closed` on; nothing where both
/// are right.
pub fn faults(history: &[Entry], books: &Books, closed: Micros, terms: &Terms) -> Vec<String> {
    let mut faults = books.faults();
    let known: BTreeSet<&str> = books.orders.iter().map(|order| order.id.as_str()).collect();
    let mut told: BTreeMap<&str, bool> = BTreeMap::new();
    for entry in history {
        let Did::Paid { order, booked, .. } = &entry.did else { continue };
        *told.entry(order).or_default() |= booked;
        if !known.contains(order.as_str()) {
            faults.push(format!("order {order}, of which {} was told, is lost", entry.client));
        }
    }
    for order in &books.orders {
        match told.get(order.id.as_str()) {
            None => faults.push(format!("nobody asked for order {}", order.id)),
            Some(true) if !order.was_booked() => {
                faults.push(format!("order {} was said to be booked, and is {}", order.id, order.state));
            }
            Some(_) => {}
        }
    }
    for (ticket, ops) in steps(history, books, closed, terms) {
        if let Err(contradiction) = explain(&ops, &terms.rules) {
            faults.push(lines(&ticket, &contradiction));
        }
    }
    faults
}

fn lines(ticket: &str, contradiction: &Contradiction) -> String {
    format!("{ticket}: {contradiction}")
}

/// What was done to each ticket.
fn steps(history: &[Entry], books: &Books, closed: Micros, terms: &Terms) -> BTreeMap<String, Vec<Op>> {
    let mut steps: BTreeMap<String, Vec<Op>> = BTreeMap::new();
    let mut held: HashMap<&str, (&[String], &str)> = HashMap::new();
    for entry in history {
        if let Did::Held { hold, tickets } = &entry.did {
            held.insert(hold, (tickets, &entry.client));
        }
    }
    let orders: HashMap<&str, &super::books::Order> =
        books.orders.iter().map(|order| (order.id.as_str(), order)).collect();
    for (number, entry) in history.iter().enumerate() {
        let Entry { began, ended, .. } = *entry;
        // A server may lag behind for so long.
        let lag = terms.rules.grace.unwrap_or_default();
        let mut add = |ticket: &String, step: Step, ended: Micros, certain: bool| {
            let began = if step == Step::Refused { began.saturating_sub(lag) } else { began };
            steps.entry(ticket.clone()).or_default().push(Op { step, began, ended, certain });
        };
        match &entry.did {
            Did::Held { hold, tickets } => {
                let hold = || Step::Hold { hold: hold.clone(), ttl: terms.ttl };
                tickets.iter().for_each(|ticket| add(ticket, hold(), ended, true));
            }
            Did::MaybeHeld { tickets } => {
                let hold = || Step::Hold { hold: format!("unanswered {number}"), ttl: terms.ttl };
                tickets.iter().for_each(|ticket| add(ticket, hold(), Micros::MAX, false));
            }
            Did::Refused { tickets } => {
                if terms.rules.grace.is_some() {
                    tickets.iter().for_each(|ticket| add(ticket, Step::Refused, ended, true));
                }
            }
            Did::Paid { hold, order, booked } => {
                let Some((tickets, owner)) = held.get(hold.as_str()) else { continue };
                for ticket in *tickets {
                    let (hold, id) = (hold.clone(), order.clone());
                    add(ticket, Step::Extend { hold: hold.clone(), window: terms.window }, ended, true);
                    let Some(order) = orders.get(order.as_str()) else { continue };
                    let book = Step::Book { hold, order: id.clone(), owner: (*owner).to_owned() };
                    // What is answered otherwise may be booked by the reconciler, until all was settled.
                    if order.was_booked() {
                        add(ticket, book, if *booked { ended } else { closed }, true);
                    } else if order.may_have_been_booked() {
                        add(ticket, book, Micros::MAX, false);
                        add(ticket, Step::Return { order: id, owner: None }, Micros::MAX, false);
                    }
                }
            }
            Did::Released { hold } | Did::MaybeReleased { hold } => {
                let Some((tickets, _)) = held.get(hold.as_str()) else { continue };
                let certain = matches!(entry.did, Did::Released { .. });
                let ended = if certain { ended } else { Micros::MAX };
                tickets.iter().for_each(|ticket| add(ticket, Step::Release { hold: hold.clone() }, ended, certain));
            }
            Did::Returned { order, owner, tickets } | Did::MaybeReturned { order, owner, tickets } => {
                let certain = matches!(entry.did, Did::Returned { .. });
                let ended = if certain { ended } else { Micros::MAX };
                let back = || Step::Return { order: order.clone(), owner: owner.clone() };
                tickets.iter().for_each(|ticket| add(ticket, back(), ended, certain));
            }
            Did::Passed { ticket, from, to } | Did::MaybePassed { ticket, from, to } => {
                let certain = matches!(entry.did, Did::Passed { .. });
                let ended = if certain { ended } else { Micros::MAX };
                add(ticket, Step::Pass { from: from.clone(), to: to.clone() }, ended, certain);
            }
        }
    }
    for (ticket, ops) in &mut steps {
        let sold = books.tickets.iter().find(|sold| sold.ticket == *ticket);
        let seen = Step::Seen(sold.map(|sold| (sold.order.clone(), sold.owner.clone())));
        ops.push(Op { step: seen, began: closed, ended: closed, certain: true });
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::super::books::{Order, Payment, Sold};
    use super::*;

    fn entry(client: &str, began: Micros, ended: Micros, did: Did) -> Entry {
        Entry { client: client.into(), began, ended, did }
    }

    fn terms() -> Terms {
        Terms { ttl: 1_000_000, window: 500_000, rules: Rules::default() }
    }

    fn held(hold: &str) -> Did {
        Did::Held { hold: hold.into(), tickets: vec!["t".into()] }
    }

    fn paid(hold: &str, order: &str, booked: bool) -> Did {
        Did::Paid { hold: hold.into(), order: order.into(), booked }
    }

    fn order(id: &str, buyer: &str, state: &str, captured: i64, refunded: i64) -> Order {
        let tickets = vec![("t".to_owned(), 100)];
        let (id, buyer, state) = (id.to_owned(), buyer.to_owned(), state.to_owned());
        Order { id, buyer, state, total: 100, captured, refunded, failure: None, tickets }
    }

    fn payment(order: &str, status: &str, captured: i64, refunded: i64) -> Payment {
        Payment { order: order.into(), status: status.into(), captured, refunded }
    }

    fn sold(order: &str, owner: &str) -> Sold {
        Sold { ticket: "t".into(), order: order.into(), owner: owner.into(), price: 100 }
    }

    #[test]
    fn a_purchase_and_a_refusal_are_in_order() {
        let history = [
            entry("ana", 0, 10, held("h1")),
            entry("bob", 5, 9, Did::Refused { tickets: vec!["t".into()] }),
            entry("ana", 20, 30, paid("h1", "o1", true)),
        ];
        let books = Books {
            orders: vec![order("o1", "ana", "captured", 100, 0)],
            tickets: vec![sold("o1", "ana")],
            ledger: vec![payment("o1", "captured", 100, 0)],
        };
        assert_eq!(faults(&history, &books, 100, &terms()), Vec::<String>::new());
        // The order is nowhere, though its buyer was told.
        let lost = faults(&history, &Books::default(), 100, &terms());
        assert!(lost.iter().any(|fault| fault.contains("order o1, of which ana was told, is lost")), "{lost:?}");
        // Somebody else has the ticket.
        let stolen = Books { tickets: vec![sold("o1", "eve")], ..books.clone() };
        assert!(!faults(&history, &stolen, 100, &terms()).is_empty());
        // An order that came from nowhere.
        let strange = faults(&history[..2], &books, 100, &terms());
        assert!(strange.iter().any(|fault| fault.contains("nobody asked for order o1")), "{strange:?}");
    }

    #[test]
    fn two_buyers_told_of_one_seat_are_found_however_the_books_look() {
        let history = [
            entry("ana", 0, 10, held("h1")),
            entry("ana", 20, 30, paid("h1", "o1", true)),
            entry("bob", 40, 50, held("h2")),
            entry("bob", 60, 70, paid("h2", "o2", true)),
        ];
        let books = Books {
            orders: vec![order("o1", "ana", "captured", 100, 0), order("o2", "bob", "captured", 100, 0)],
            tickets: vec![sold("o2", "bob")],
            ledger: vec![payment("o1", "captured", 100, 0), payment("o2", "captured", 100, 0)],
        };
        let faults = faults(&history, &books, 100, &terms());
        assert!(faults.iter().any(|fault| fault.starts_with("t: no order explains it")), "{faults:?}");
        assert!(faults.iter().any(|fault| fault.contains("o1")), "{faults:?}");
    }

    #[test]
    fn a_payment_settled_later_is_booked_at_some_time_before_the_end() {
        let history = [
            entry("ana", 0, 10, held("h1")),
            entry("ana", 20, 30, paid("h1", "o1", false)),
            entry("bob", 40, 50, Did::MaybeHeld { tickets: vec!["t".into()] }),
        ];
        let books = Books {
            orders: vec![order("o1", "ana", "captured", 100, 0)],
            tickets: vec![sold("o1", "ana")],
            ledger: vec![payment("o1", "captured", 100, 0)],
        };
        assert_eq!(faults(&history, &books, 100, &terms()), Vec::<String>::new());
    }
}
