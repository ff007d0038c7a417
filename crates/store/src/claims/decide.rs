//! What becomes of commands, given the rows they touch: pure, so that a batch is decided as if its commands came one
//! after the other.

use std::collections::{BTreeMap, HashMap};

use tessera_kernel::Timestamp;
use uuid::Uuid;

use super::{Acquire, Acquired, Answer, Claim, Command};

/// A resource's row. A free one has lapsed; its token stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    pub holder: Uuid,
    pub token: i64,
    pub expires_at: i64,
    pub limit_at: i64,
}

/// The rows of a batch, as read and as changed.
#[derive(Debug, Default)]
pub(super) struct Rows {
    now: i64,
    rows: HashMap<Uuid, Row>,
    /// The rows that changed, with the token they had when read.
    changed: BTreeMap<Uuid, i64>,
    last_token: i64,
}

impl Rows {
    pub(super) fn new(now: Timestamp, rows: HashMap<Uuid, Row>) -> Self {
        Self { now: now.micros(), rows, ..Self::default() }
    }

    /// What to write: the id, the token that must still be there, the row.
    pub(super) fn changes(&self) -> impl ExactSizeIterator<Item = (Uuid, i64, Row)> {
        self.changed.iter().map(|(id, token)| (*id, *token, self.rows.get(id).copied().unwrap_or_default()))
    }

    pub(super) fn decide(&mut self, command: &Command) -> Answer {
        match command {
            Command::Acquire(wish) => Answer::Acquired(self.acquire(wish)),
            Command::Extend { claim, ttl } => Answer::Extended(self.extend(claim, micros(*ttl))),
            Command::Release { claim } => Answer::Released(self.release(claim)),
        }
    }

    fn acquire(&mut self, wish: &Acquire) -> Acquired {
        let held = wish.resources.iter().filter_map(|id| self.living(*id).map(|row| (*id, row)));
        let held: Vec<(Uuid, Row)> = held.collect();
        if let Some((_, first)) = held.first() {
            let same = held.len() == wish.resources.len()
                && held.iter().all(|(_, row)| row.holder == wish.holder && row.token == first.token);
            if same {
                return Acquired::Claim(claim(wish, first.token, first.expires_at));
            }
            let until = held.iter().map(|(_, row)| row.expires_at).max().unwrap_or_default();
            let resources = held.into_iter().map(|(id, _)| id).collect();
            return Acquired::Taken { resources, until: Timestamp::from_micros(until) };
        }
        let before = wish.resources.iter().filter_map(|id| self.rows.get(id)).map(|row| row.token);
        let token = before.max().unwrap_or(0).max(self.last_token).saturating_add(1).max(self.now);
        self.last_token = token;
        let limit_at = self.now.saturating_add(micros(wish.longest));
        let expires_at = self.now.saturating_add(micros(wish.ttl)).min(limit_at);
        let row = Row { holder: wish.holder, token, expires_at, limit_at };
        wish.resources.iter().for_each(|id| self.put(*id, row));
        Acquired::Claim(claim(wish, token, expires_at))
    }

    fn extend(&mut self, claim: &Claim, ttl: i64) -> Option<Timestamp> {
        let rows: Vec<Row> = claim.resources.iter().filter_map(|id| self.held_under(*id, claim)).collect();
        let first = *rows.first().filter(|_| rows.len() == claim.resources.len())?;
        let expires_at = self.now.saturating_add(ttl).min(first.limit_at).max(first.expires_at);
        if expires_at > first.expires_at {
            claim.resources.iter().for_each(|id| self.put(*id, Row { expires_at, ..first }));
        }
        Some(Timestamp::from_micros(expires_at))
    }

    fn release(&mut self, claim: &Claim) -> bool {
        let mut any = false;
        for id in &claim.resources {
            if let Some(row) = self.held_under(*id, claim) {
                self.put(*id, Row { expires_at: 0, ..row });
                any = true;
            }
        }
        any
    }

    fn living(&self, id: Uuid) -> Option<Row> {
        self.rows.get(&id).copied().filter(|row| row.expires_at > self.now)
    }

    fn held_under(&self, id: Uuid, claim: &Claim) -> Option<Row> {
        self.living(id).filter(|row| row.token == claim.token && row.holder == claim.holder)
    }

    fn put(&mut self, id: Uuid, row: Row) {
        let before = self.rows.insert(id, row).map_or(0, |row| row.token);
        self.changed.entry(id).or_insert(before);
    }
}

fn claim(wish: &Acquire, token: i64, expires_at: i64) -> Claim {
    Claim {
        partition: wish.partition,
        resources: wish.resources.clone(),
        holder: wish.holder,
        token,
        expires_at: Timestamp::from_micros(expires_at),
    }
}

fn micros(span: std::time::Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn wish(resources: &[u128], holder: u128, ttl: u64) -> Command {
        let resources = resources.iter().map(|id| Uuid::from_u128(*id)).collect();
        let (ttl, longest) = (Duration::from_micros(ttl), Duration::from_micros(100));
        Command::Acquire(Acquire { partition: Uuid::nil(), resources, holder: Uuid::from_u128(holder), ttl, longest })
    }

    fn given(answer: Answer) -> Option<Claim> {
        match answer {
            Answer::Acquired(Acquired::Claim(claim)) => Some(claim),
            _ => None,
        }
    }

    proptest! {
        /// Whatever is asked in whatever batches: nobody is given what another holds, and tokens grow.
        #[test]
        fn one_living_holder_each(
            steps in prop::collection::vec((prop::collection::btree_set(0u128..5, 1..4), 0u8..4, 1u64..60, 0i64..30), 1..80),
        ) {
            let (mut now, mut stored) = (1_000i64, HashMap::new());
            let mut claims: Vec<Claim> = Vec::new();
            let mut tokens: HashMap<Uuid, i64> = HashMap::new();
            for (n, batch) in steps.chunks(4).enumerate() {
                now += batch[0].3;
                let mut rows = Rows::new(Timestamp::from_micros(now), stored);
                for (at, (resources, kind, ttl, _)) in batch.iter().enumerate() {
                    let resources: Vec<u128> = resources.iter().copied().collect();
                    let last = claims.last().cloned();
                    match (kind, last) {
                        (0, Some(claim)) => {
                            let lived = claim.expires_at.micros() > now;
                            prop_assert_eq!(rows.decide(&Command::Release { claim }), Answer::Released(lived));
                            claims.pop();
                        }
                        (1, Some(claim)) => {
                            let ttl = Duration::from_micros(*ttl);
                            let extended = rows.decide(&Command::Extend { claim: claim.clone(), ttl });
                            let lived = claim.expires_at.micros() > now;
                            let Answer::Extended(end) = extended else { panic!("{extended:?}") };
                            prop_assert_eq!(end.is_some(), lived);
                            if let (Some(end), Some(last)) = (end, claims.last_mut()) {
                                prop_assert!(end >= last.expires_at);
                                last.expires_at = end;
                            }
                        }
                        _ => {
                            let holder = 1_000 * n as u128 + at as u128;
                            if let Some(claim) = given(rows.decide(&wish(&resources, holder, *ttl))) {
                                let clash = claims.iter().find(|other| {
                                    other.expires_at.micros() > now
                                        && other.resources.iter().any(|id| claim.resources.contains(id))
                                });
                                prop_assert!(clash.is_none(), "{:?} beside {:?}", claim, clash);
                                for id in &claim.resources {
                                    let before = tokens.insert(*id, claim.token).unwrap_or(0);
                                    prop_assert!(claim.token > before);
                                }
                                claims.push(claim);
                            }
                        }
                    }
                }
                stored = rows.rows;
            }
        }
    }

    #[test]
    fn a_batch_is_decided_in_order() {
        let mut rows = Rows::new(Timestamp::from_micros(50), HashMap::new());
        let first = given(rows.decide(&wish(&[1, 2], 1, 10))).unwrap();
        let taken = Acquired::Taken { resources: vec![Uuid::from_u128(2)], until: Timestamp::from_micros(60) };
        assert_eq!(rows.decide(&wish(&[2, 3], 2, 10)), Answer::Acquired(taken));
        let third = given(rows.decide(&wish(&[3], 3, 10))).unwrap();
        assert!(third.token > first.token);
        assert_eq!(given(rows.decide(&wish(&[1, 2], 1, 99))).unwrap(), first, "the same wish again");
        assert!(given(rows.decide(&wish(&[1], 1, 99))).is_some(), "a part of it is the same claim too");
        assert_eq!(rows.decide(&Command::Release { claim: first }), Answer::Released(true));
        assert!(given(rows.decide(&wish(&[2], 4, 10))).is_some());
        let changed: Vec<(Uuid, i64)> = rows.changes().map(|(id, before, _)| (id, before)).collect();
        assert_eq!(changed, [1, 2, 3].map(|id| (Uuid::from_u128(id), 0)));
    }

    #[test]
    fn an_extension_is_bounded_and_never_shortens() {
        let mut rows = Rows::new(Timestamp::from_micros(0), HashMap::new());
        let claim = given(rows.decide(&wish(&[1], 1, 50))).unwrap();
        let mut extend = |ttl| rows.decide(&Command::Extend { claim: claim.clone(), ttl: Duration::from_micros(ttl) });
        assert_eq!(extend(10), Answer::Extended(Some(Timestamp::from_micros(50))));
        assert_eq!(extend(70), Answer::Extended(Some(Timestamp::from_micros(70))));
        assert_eq!(extend(500), Answer::Extended(Some(Timestamp::from_micros(100))));
    }
}
