//! Clients that all want the same few seats: they hold, hesitate, pay with cards of every kind, give back, pass on, and
//! ask again under the same key when they are not answered. What each does is drawn from a seed; what comes of it is
//! recorded.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tessera_testkit::history::record::{Did, Recorder};
use tokio::time::{Instant, sleep};

/// How long a client asks again for an answer: longer than any fault lasts.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often it is tried to give back what may be booked yet.
const TRIES: usize = 6;
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(60);

/// Cards, and how many in a hundred pay with each; see `tickets::payment::test`.
const CARDS: &[(u64, &str)] = &[
    (46, "4242424242424242"),
    (12, "4000000000000002"),
    (8, "4000000000010001"),
    (9, "4000000000010027"),
    (8, "4000000000010068"),
    (6, "4000000000010076"),
    (3, "4000000000010050"),
    (8, SECOND_STEP),
];
const SECOND_STEP: &str = "4000002760003184";
const GOOD: &str = "4242424242424242";

/// Random numbers that a seed repeats (SplitMix64, Steele et al. 2014).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64, client: u64) -> Self {
        Self(seed ^ client.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn in_a_hundred(&mut self, share: u64) -> bool {
        self.below(100) < share
    }
}

/// What all clients share.
pub struct Arena {
    /// Where the servers are.
    pub bases: Vec<String>,
    pub client: reqwest::Client,
    pub recorder: Recorder,
    /// The event's tickets, by number.
    pub tickets: Vec<String>,
    pub ttl: Duration,
    /// One of each client, and the promoter's.
    pub tokens: Vec<String>,
    pub promoter: String,
    /// Set when it is time to go.
    pub over: AtomicBool,
    /// What was answered that must not be.
    pub outrages: Mutex<Vec<String>>,
    /// Holds of anybody.
    pub holds: Mutex<Vec<(usize, String)>>,
}

/// An answer, and whether the request was sent more than once for it.
struct Answer {
    status: u16,
    body: Value,
    again: bool,
}

impl Answer {
    fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }
}

impl Arena {
    /// One try; nothing where there is no answer, or none that says what was done.
    async fn try_once(
        &self,
        dice: &mut Dice,
        path: &str,
        token: &str,
        key: &str,
        body: &Value,
    ) -> Option<(u16, Value)> {
        let base = &self.bases[dice.below(self.bases.len() as u64) as usize];
        let ask = self.client.post(format!("{base}{path}")).bearer_auth(token).header("idempotency-key", key);
        let ask = ask.header("content-type", "application/json").body(body.to_string());
        let answer = ask.send().await.ok()?;
        let status = answer.status().as_u16();
        let body: Value = serde_json::from_str(&answer.text().await.ok()?).unwrap_or_default();
        let says = status < 500 || body["code"] == "tickets.payment_unknown";
        // A handler's deadline, or a full queue, is no answer either.
        (says && status != 429).then_some((status, body))
    }

    /// Asks under one key until there is an answer.
    async fn ask(&self, dice: &mut Dice, path: &str, token: &str, key: &str, body: &Value) -> Option<Answer> {
        let began = Instant::now();
        let mut again = false;
        while began.elapsed() < PATIENCE {
            if let Some((status, body)) = self.try_once(dice, path, token, key, body).await {
                return Some(Answer { status, body, again });
            }
            again = true;
            sleep(PAUSE).await;
        }
        self.outrage(format!("no answer to {path} {body}"));
        None
    }

    fn outrage(&self, what: String) {
        self.outrages.lock().unwrap().push(what);
    }
}

/// One client.
pub struct Rival {
    pub arena: Arc<Arena>,
    pub number: usize,
    pub dice: Dice,
    pub keys: u64,
    /// Keeps what it buys, as this is its last round.
    pub keeps: bool,
}

impl Rival {
    pub fn new(arena: &Arc<Arena>, seed: u64, number: usize) -> Self {
        Self { arena: arena.clone(), number, dice: Dice::new(seed, number as u64 + 1), keys: 0, keeps: false }
    }

    /// As its token says.
    fn name(&self) -> String {
        name(self.number)
    }

    fn key(&mut self) -> String {
        self.keys += 1;
        format!("{}-{}", self.number, self.keys)
    }

    async fn ask(&mut self, path: &str, body: &Value) -> Option<Answer> {
        let key = self.key();
        let arena = self.arena.clone();
        arena.ask(&mut self.dice, path, &arena.tokens[self.number], &key, body).await
    }

    async fn pause(&mut self, up_to: Duration) {
        let micros = self.dice.below(up_to.as_micros() as u64 + 1);
        sleep(Duration::from_micros(micros)).await;
    }

    /// Goes on until it is over, or for so many rounds.
    pub async fn run(mut self, rounds: usize) {
        for round in 1..=rounds {
            self.keeps = round == rounds;
            if self.arena.over.load(Ordering::Relaxed) {
                return;
            }
            if let Some((hold, tickets)) = self.reserve().await {
                self.use_hold(&hold, &tickets).await;
            } else {
                self.pause(Duration::from_millis(120)).await;
            }
        }
    }

    async fn reserve(&mut self) -> Option<(String, Vec<String>)> {
        let arena = self.arena.clone();
        let first = self.dice.below(arena.tickets.len() as u64) as usize;
        let count = if self.dice.in_a_hundred(35) { 2 } else { 1 };
        let wanted: Vec<String> =
            (0..count).map(|n| arena.tickets[(first + n) % arena.tickets.len()].clone()).collect();
        let body = json!({ "ticket_ids": wanted });
        let (began, key) = (arena.recorder.now(), self.key());
        let answer = if self.dice.in_a_hundred(15) {
            // Does not come back where the answer is lost.
            let token = &arena.tokens[self.number];
            match arena.try_once(&mut self.dice, "/booking/reserve", token, &key, &body).await {
                Some((status, body)) => Answer { status, body, again: false },
                None => {
                    arena.recorder.unanswered(&self.name(), began, Did::MaybeHeld { tickets: wanted });
                    return None;
                }
            }
        } else {
            arena.ask(&mut self.dice, "/booking/reserve", &arena.tokens[self.number], &key, &body).await?
        };
        let ids = |tickets: &Value, name: Option<&str>| -> Vec<String> {
            let tickets = tickets.as_array().into_iter().flatten();
            let id = |ticket: &Value| name.map_or(ticket, |name| &ticket[name]).as_str().unwrap().to_owned();
            tickets.map(id).collect()
        };
        match (answer.status, answer.code()) {
            (200, _) => {
                let hold = answer.body["hold_id"].as_str().unwrap().to_owned();
                let tickets = ids(&answer.body["tickets"], Some("id"));
                let mut sorted = wanted.clone();
                sorted.sort();
                if tickets != sorted {
                    arena.outrage(format!("asked for {sorted:?}, held {tickets:?}"));
                }
                let did = Did::Held { hold: hold.clone(), tickets: tickets.clone() };
                arena.recorder.answered(&self.name(), began, did);
                arena.holds.lock().unwrap().push((self.number, hold.clone()));
                Some((hold, tickets))
            }
            (409, "tickets.seat_taken") => {
                let tickets = ids(&answer.body["taken"], None);
                // What others took meanwhile is no reason for the answer to the first try.
                if !answer.again && tickets.len() == 1 {
                    arena.recorder.answered(&self.name(), began, Did::Refused { tickets });
                }
                None
            }
            _ => {
                arena.outrage(format!("a reservation was answered {} {}", answer.status, answer.body));
                None
            }
        }
    }

    async fn use_hold(&mut self, hold: &str, tickets: &[String]) {
        let hesitation = if self.dice.in_a_hundred(12) { self.arena.ttl * 3 / 2 } else { self.arena.ttl / 4 };
        self.pause(hesitation).await;
        if self.dice.in_a_hundred(6) {
            self.meddle().await;
        }
        match self.dice.below(100) {
            0..12 => {}
            12..30 => self.release(hold).await,
            30..36 => {
                // Two tabs: one gives back, the other pays.
                let mut other = self.twin();
                let (hold, tickets) = (hold.to_owned(), tickets.to_owned());
                tokio::join!(self.release(&hold), async { other.pay(&hold, &tickets, GOOD).await });
            }
            36..42 => {
                // Two tabs: both pay.
                let mut other = self.twin();
                let (hold, tickets) = (hold.to_owned(), tickets.to_owned());
                let card = self.card();
                tokio::join!(self.pay(&hold, &tickets, card), async { other.pay(&hold, &tickets, GOOD).await });
            }
            _ => {
                let card = self.card();
                if !self.pay(hold, tickets, card).await {
                    self.pay(hold, tickets, GOOD).await;
                }
            }
        }
    }

    /// The same person in another tab.
    fn twin(&mut self) -> Self {
        let seed = self.dice.next();
        Self { arena: self.arena.clone(), number: self.number, dice: Dice::new(seed, 0), keys: seed, keeps: self.keeps }
    }

    fn card(&mut self) -> &'static str {
        let mut draw = self.dice.below(100);
        for (share, card) in CARDS {
            if draw < *share {
                return card;
            }
            draw -= share;
        }
        GOOD
    }

    async fn release(&mut self, hold: &str) {
        let began = self.arena.recorder.now();
        let Some(answer) = self.ask("/booking/release", &json!({ "hold_id": hold })).await else { return };
        let hold = hold.to_owned();
        match (answer.status, answer.body["released"].as_u64()) {
            (200, Some(1..)) => self.arena.recorder.answered(&self.name(), began, Did::Released { hold }),
            // A try before may have done it.
            (200, _) | (409, _) if answer.again => {
                self.arena.recorder.unanswered(&self.name(), began, Did::MaybeReleased { hold });
            }
            (200, _) => {}
            (409, _) if answer.code() == "tickets.not_now" => {}
            _ => self.arena.outrage(format!("a release was answered {} {}", answer.status, answer.body)),
        }
    }

    /// Pays; whether the seats are booked, or nothing more is to be tried.
    async fn pay(&mut self, hold: &str, tickets: &[String], card: &str) -> bool {
        let arena = self.arena.clone();
        let began = arena.recorder.now();
        let card = json!({ "number": card, "exp_month": 12, "exp_year": 2090, "cvc": "123" });
        let body = json!({ "hold_id": hold, "payment_details": { "card": card } });
        let Some(answer) = self.ask("/booking/confirm", &body).await else { return true };
        let order = answer.body["order"]["id"].as_str().or(answer.body["order"].as_str()).map(str::to_owned);
        let record = |order: &str, booked: bool| {
            let did = Did::Paid { hold: hold.to_owned(), order: order.to_owned(), booked };
            arena.recorder.answered(&name(self.number), began, did);
        };
        match (answer.status, answer.code(), order) {
            (200, _, Some(order)) => {
                let state = answer.body["order"]["state"].as_str().unwrap_or_default().to_owned();
                record(&order, state == "captured");
                self.after_purchase(&order, tickets).await;
                true
            }
            (202, _, Some(order)) => {
                record(&order, false);
                let url = answer.body["next_action"]["url"].as_str().unwrap_or_default().to_owned();
                self.second_step(&url).await;
                self.after_purchase(&order, tickets).await;
                true
            }
            (409, "tickets.payment_declined", Some(order)) => {
                record(&order, false);
                false
            }
            (409, "tickets.seats_gone", Some(order)) => {
                record(&order, false);
                true
            }
            (503, "tickets.payment_unknown", Some(order)) => {
                record(&order, false);
                self.after_purchase(&order, tickets).await;
                true
            }
            // Paid in another tab, given back, or over.
            (409, "tickets.not_now", _) | (410, "tickets.hold_over", _) => true,
            _ => {
                arena.outrage(format!("a payment was answered {} {}", answer.status, answer.body));
                true
            }
        }
    }

    async fn second_step(&mut self, url: &str) {
        let path = url.find("/payments/").map_or(url, |at| &url[at..]);
        match self.dice.below(4) {
            0 => {}
            choice => {
                let (arena, agreed) = (self.arena.clone(), choice != 1);
                let path = format!("{path}?agree={agreed}");
                self.pause(arena.ttl / 2).await;
                let began = Instant::now();
                // A page, which redirects: nothing that it says is of interest.
                while began.elapsed() < PATIENCE {
                    let base = &arena.bases[self.dice.below(arena.bases.len() as u64) as usize];
                    let sent = arena.client.post(format!("{base}{path}")).header("content-length", "0").send().await;
                    if sent.is_ok_and(|answer| answer.status().as_u16() < 500) {
                        return;
                    }
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Tickets are given back, so that there is something to rival for, but for those of the last round.
    async fn after_purchase(&mut self, order: &str, tickets: &[String]) {
        let arena = self.arena.clone();
        self.pause(arena.ttl / 3).await;
        let mut by_promoter = false;
        if self.dice.in_a_hundred(20) {
            by_promoter = true;
            let to = self.dice.below(arena.tokens.len() as u64) as usize;
            if to != self.number {
                self.pass_on(&tickets[0], to).await;
            }
        }
        let parts = match tickets.split_first() {
            Some((first, rest)) if !rest.is_empty() && self.dice.in_a_hundred(40) => {
                vec![std::slice::from_ref(first), rest]
            }
            _ => vec![tickets],
        };
        for part in parts {
            for _ in 0..TRIES {
                if self.keeps || arena.over.load(Ordering::Relaxed) || self.give_back(order, part, by_promoter).await {
                    break;
                }
                self.pause(arena.ttl / 2).await;
            }
        }
    }

    /// Gives tickets back; nothing more to be tried where it has worked, or cannot work.
    async fn give_back(&mut self, order: &str, tickets: &[String], by_promoter: bool) -> bool {
        let arena = self.arena.clone();
        let began = arena.recorder.now();
        let (key, path) = (self.key(), format!("/orders/{order}/refund"));
        let token = if by_promoter { &arena.promoter } else { &arena.tokens[self.number] };
        let body = json!({ "ticket_ids": tickets });
        let Some(answer) = arena.ask(&mut self.dice, &path, token, &key, &body).await else { return true };
        let (order, tickets) = (order.to_owned(), tickets.to_owned());
        let owner = (!by_promoter).then(|| self.name());
        match (answer.status, answer.code()) {
            (200, _) => arena.recorder.answered(&self.name(), began, Did::Returned { order, owner, tickets }),
            _ if answer.again => {
                arena.recorder.unanswered(&self.name(), began, Did::MaybeReturned { order, owner, tickets });
            }
            // Captured later, or never.
            (409, "tickets.not_now") => return false,
            // Not booked yet, or let go by the bank.
            (404, _) => return false,
            _ => arena.outrage(format!("a refund was answered {} {}", answer.status, answer.body)),
        }
        true
    }

    async fn pass_on(&mut self, ticket: &str, to: usize) {
        let began = self.arena.recorder.now();
        let (from, to, ticket) = (self.name(), name(to), ticket.to_owned());
        let path = format!("/tickets/{ticket}/transfer");
        let Some(answer) = self.ask(&path, &json!({ "to": to })).await else { return };
        match answer.status {
            200 => self.arena.recorder.answered(&self.name(), began, Did::Passed { ticket, from, to }),
            _ if answer.again => {
                self.arena.recorder.unanswered(&self.name(), began, Did::MaybePassed { ticket, from, to });
            }
            // The bank let go of the money meanwhile.
            404 => {}
            _ => self.arena.outrage(format!("a transfer was answered {} {}", answer.status, answer.body)),
        }
    }

    /// Tries what somebody else holds: it is not there.
    async fn meddle(&mut self) {
        let foreign = {
            let holds = self.arena.holds.lock().unwrap();
            let at = self.dice.below(holds.len() as u64) as usize;
            holds.get(at).filter(|(of, _)| *of != self.number).map(|(_, hold)| hold.clone())
        };
        let Some(hold) = foreign else { return };
        let card = json!({ "number": GOOD, "exp_month": 12, "exp_year": 2090, "cvc": "123" });
        let pay = json!({ "hold_id": hold, "payment_details": { "card": card } });
        for (path, body) in [("/booking/confirm", pay), ("/booking/release", json!({ "hold_id": hold }))] {
            if let Some(answer) = self.ask(path, &body).await
                && answer.status != 404
            {
                self.arena.outrage(format!("a foreign hold: {path} was answered {} {}", answer.status, answer.body));
            }
        }
    }
}

/// The subject of a client's token.
pub fn name(number: usize) -> String {
    format!("rival{number}")
}
