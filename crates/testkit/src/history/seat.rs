//! One seat: the model, and the search for an order in which everything that was answered could have happened.

use std::collections::HashSet;
use std::fmt;

/// Microseconds since the history began, by the clients' one clock.
pub type Micros = u64;

/// How much earlier than it should a hold may end by our clock: servers round to milliseconds.
const SLACK: Micros = 5_000;
/// What a search looks at before it gives up: some seconds.
const MOST_LOOKS: usize = 4_000_000;

/// What an operation did to the seat, as far as its answer tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It was free and is held from now on, for at least `ttl`.
    Hold {
        /// By this hold.
        hold: String,
        /// How long.
        ttl: Micros,
    },
    /// It was not free.
    Refused,
    /// It was held, and stays so at least for `window`, at most `window` longer than without.
    Extend {
        /// By this hold.
        hold: String,
        /// How long.
        window: Micros,
    },
    /// It was held by this hold and is sold.
    Book {
        /// By this hold.
        hold: String,
        /// With this order.
        order: String,
        /// To this customer.
        owner: String,
    },
    /// It was held and is free.
    Release {
        /// By this hold.
        hold: String,
    },
    /// It was sold with this order and is free.
    Return {
        /// With this order.
        order: String,
        /// It was this one's; anybody's where not set.
        owner: Option<String>,
    },
    /// It was `from`'s and is `to`'s.
    Pass {
        /// Whose it was.
        from: String,
        /// Whose it is.
        to: String,
    },
    /// It was looked at: sold with this order to this customer, or not sold.
    Seen(Option<(String, String)>),
}

/// One operation on the seat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// What it did.
    pub step: Step,
    /// When it was asked for.
    pub began: Micros,
    /// When it was known to be done; [`Micros::MAX`] where it never was.
    pub ended: Micros,
    /// Whether it did it. What is not certain may have happened or not.
    pub certain: bool,
}

/// What the system promises beyond: never sold twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// When all claims were lost, from and to. Who held a seat before may then find it held by somebody else, and who comes
    /// first with the money has it.
    pub lost: Vec<(Micros, Micros)>,
    /// What is free for so long is free to everybody: a refusal must have had its reason in that time. Not set where
    /// servers may lag behind each other for longer.
    pub grace: Option<Micros>,
}

/// How a seat stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Seat {
    Free,
    Held {
        hold: String,
        /// It cannot lapse before.
        from: Micros,
        /// It has lapsed after.
        until: Micros,
        /// Its claim may have been lost.
        doubtful: bool,
    },
    Booked {
        order: String,
        owner: String,
    },
}

/// There is no order that explains what was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contradiction {
    /// The longest explanation that was found, operation by operation.
    pub explained: Vec<Op>,
    /// What could not follow any more: those that were due next.
    pub stuck: Vec<Op>,
    /// Whether the search was given up before all was tried.
    pub gave_up: bool,
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |f: &mut fmt::Formatter<'_>, op: &Op| {
            let ended = if op.ended == Micros::MAX { "?".to_owned() } else { op.ended.to_string() };
            let certain = if op.certain { "" } else { " (perhaps)" };
            writeln!(f, "  {:>10} … {ended:>10}  {:?}{certain}", op.began, op.step)
        };
        let gave_up = if self.gave_up { " (the search was given up)" } else { "" };
        writeln!(f, "no order explains it{gave_up}; after")?;
        let skipped = self.explained.len().saturating_sub(30);
        self.explained.iter().skip(skipped).try_for_each(|op| line(f, op))?;
        writeln!(f, "none of these can be next:")?;
        self.stuck.iter().try_for_each(|op| line(f, op))
    }
}

/// Finds an order in which all that is certain happened, each operation at a moment between its beginning and its end, from
/// a free seat on. Nothing where there is one.
///
/// # Errors
/// [`Contradiction`], where there is none.
pub fn explain(ops: &[Op], rules: &Rules) -> Result<(), Contradiction> {
    let mut ops = ops.to_vec();
    ops.sort_by_key(|op| (op.began, op.ended));
    let mut search = Search { ops: &ops, rules, tried: HashSet::new() };
    search.run()
}

struct Search<'a> {
    ops: &'a [Op],
    rules: &'a Rules,
    tried: HashSet<Place>,
}

/// A place of the search: what has happened, how the seat stands then, and the earliest moment at which it can.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    done: Vec<u64>,
    seat: Seat,
    at: Micros,
}

impl Place {
    fn is_done(&self, op: usize) -> bool {
        self.done[op / 64] & (1 << (op % 64)) != 0
    }
}

impl Search<'_> {
    fn run(&mut self) -> Result<(), Contradiction> {
        let first = Place { done: vec![0; self.ops.len().div_ceil(64)], seat: Seat::Free, at: 0 };
        // Each with the way there, shared by all that go on from it.
        let mut stack: Vec<(Place, Option<usize>)> = vec![(first, None)];
        let mut ways: Vec<(usize, Option<usize>)> = Vec::new();
        let (mut longest, mut longest_way, mut stuck) = (0, None, Vec::new());
        while let Some((place, way)) = stack.pop() {
            let due = self.due(&place);
            if due.iter().all(|op| !self.ops[*op].certain) {
                return Ok(());
            }
            let length = place.done.iter().map(|word| word.count_ones()).sum::<u32>();
            if length >= longest {
                (longest, longest_way, stuck) = (length, way, due.clone());
            }
            if self.tried.len() > MOST_LOOKS {
                return Err(self.contradiction(&ways, longest_way, &stuck, true));
            }
            // The last one pushed is tried first: what is certain and ended first, so that orders close to that of the
            // answers come first.
            let mut next = Vec::new();
            for op in due {
                for (seat, at) in self.after(&place, &self.ops[op]) {
                    let mut done = place.done.clone();
                    done[op / 64] |= 1 << (op % 64);
                    next.push((op, Place { done, seat, at }));
                }
            }
            next.sort_by_key(|(op, place)| {
                let op = &self.ops[*op];
                std::cmp::Reverse((!op.certain, op.ended, place.at))
            });
            for (op, place) in next {
                if self.tried.insert(place.clone()) {
                    ways.push((op, way));
                    stack.push((place, Some(ways.len() - 1)));
                }
            }
        }
        Err(self.contradiction(&ways, longest_way, &stuck, false))
    }

    /// What can be next: nothing that began after something else that is certain had ended.
    fn due(&self, place: &Place) -> Vec<usize> {
        let open = || (0..self.ops.len()).filter(|op| !place.is_done(*op));
        let first_end = open().filter(|op| self.ops[*op].certain).map(|op| self.ops[op].ended).min();
        open().filter(|op| self.ops[*op].began <= first_end.unwrap_or(0)).collect()
    }

    /// How the seat may stand after the operation, and when at the earliest; nothing where it cannot be.
    fn after(&self, place: &Place, op: &Op) -> Vec<(Seat, Micros)> {
        let mut after = Vec::new();
        let at = place.at.max(op.began);
        if at > op.ended {
            return after;
        }
        let lives = match &place.seat {
            Seat::Held { until, .. } => at <= *until,
            _ => true,
        };
        if lives && let Some(seat) = self.step(&place.seat, op, at) {
            after.push((seat, at));
        }
        if let Seat::Held { from, .. } = &place.seat {
            // It lapsed before, without a word.
            let at = at.max(*from);
            if at <= op.ended
                && let Some(seat) = self.step(&Seat::Free, op, at)
            {
                after.push((seat, at));
            }
        }
        after
    }

    fn step(&self, seat: &Seat, op: &Op, at: Micros) -> Option<Seat> {
        match (&op.step, seat) {
            (Step::Hold { hold, ttl }, Seat::Free) => {
                let loss = self.rules.lost.iter().find(|(_, to)| at <= *to).map(|(from, _)| at.max(*from));
                let from = at.saturating_add(*ttl).saturating_sub(SLACK);
                let until = match self.rules.grace {
                    Some(grace) => op.ended.saturating_add(*ttl).saturating_add(grace),
                    None => Micros::MAX,
                };
                let (hold, doubtful) = (hold.clone(), loss.is_some());
                Some(Seat::Held { hold, from: from.min(loss.unwrap_or(from)), until, doubtful })
            }
            (Step::Refused, Seat::Held { .. } | Seat::Booked { .. }) => Some(seat.clone()),
            (Step::Extend { hold, window }, Seat::Held { hold: by, from, until, doubtful }) if hold == by => {
                let longer = at.saturating_add(*window).saturating_sub(SLACK).min(from.saturating_add(*window));
                Some(Seat::Held {
                    hold: hold.clone(),
                    from: if *doubtful { *from } else { longer.max(*from) },
                    until: until.saturating_add(*window),
                    doubtful: *doubtful,
                })
            }
            // What nobody can say any more: it may be that of a hold whose claim was lost, or of the one that came after it.
            (Step::Extend { .. }, _) if !self.rules.lost.is_empty() => Some(seat.clone()),
            (Step::Book { hold, order, owner }, Seat::Held { hold: by, .. }) if hold == by => {
                Some(Seat::Booked { order: order.clone(), owner: owner.clone() })
            }
            (Step::Book { order, owner, .. }, Seat::Free | Seat::Held { .. }) if self.is_doubtful(op) => {
                Some(Seat::Booked { order: order.clone(), owner: owner.clone() })
            }
            (Step::Release { hold }, Seat::Held { hold: by, .. }) if hold == by => Some(Seat::Free),
            (Step::Return { order, owner }, Seat::Booked { order: by, owner: of }) if order == by => {
                owner.as_ref().is_none_or(|owner| owner == of).then_some(Seat::Free)
            }
            (Step::Pass { from, to }, Seat::Booked { order, owner }) if from == owner => {
                Some(Seat::Booked { order: order.clone(), owner: to.clone() })
            }
            (Step::Seen(Some((order, owner))), Seat::Booked { order: by, owner: of }) => {
                (order == by && owner == of).then(|| seat.clone())
            }
            (Step::Seen(None), Seat::Free | Seat::Held { .. }) => Some(seat.clone()),
            _ => None,
        }
    }

    /// Whether the hold that is booked was made before claims were lost.
    fn is_doubtful(&self, op: &Op) -> bool {
        let Step::Book { hold: of, .. } = &op.step else { return false };
        let made = self.ops.iter().find(|op| matches!(&op.step, Step::Hold { hold, .. } if hold == of));
        made.is_some_and(|made| self.rules.lost.iter().any(|(_, to)| made.began <= *to))
    }

    fn contradiction(
        &self,
        ways: &[(usize, Option<usize>)],
        mut way: Option<usize>,
        stuck: &[usize],
        gave_up: bool,
    ) -> Contradiction {
        let mut explained = Vec::new();
        while let Some((op, before)) = way.map(|way| ways[way]) {
            explained.push(self.ops[op].clone());
            way = before;
        }
        explained.reverse();
        Contradiction { explained, stuck: stuck.iter().map(|op| self.ops[*op].clone()).collect(), gave_up }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Micros = 1_000_000;

    fn op(began: Micros, ended: Micros, step: Step) -> Op {
        Op { step, began, ended, certain: true }
    }

    fn perhaps(began: Micros, step: Step) -> Op {
        Op { step, began, ended: Micros::MAX, certain: false }
    }

    fn hold(hold: &str) -> Step {
        Step::Hold { hold: hold.into(), ttl: TTL }
    }

    fn book(hold: &str, order: &str) -> Step {
        Step::Book { hold: hold.into(), order: order.into(), owner: hold.into() }
    }

    fn release(hold: &str) -> Step {
        Step::Release { hold: hold.into() }
    }

    fn back(order: &str) -> Step {
        Step::Return { order: order.into(), owner: None }
    }

    fn sold(order: &str, owner: &str) -> Step {
        Step::Seen(Some((order.into(), owner.into())))
    }

    fn exact() -> Rules {
        Rules { grace: Some(10_000), ..Rules::default() }
    }

    #[track_caller]
    fn is_fine(rules: &Rules, ops: &[Op]) {
        explain(ops, rules).unwrap_or_else(|contradiction| panic!("{contradiction}"));
    }

    #[track_caller]
    fn is_refused(rules: &Rules, ops: &[Op]) {
        let contradiction = explain(ops, rules).expect_err("it cannot have happened");
        assert!(!contradiction.gave_up && contradiction.to_string().contains("none of these"), "{contradiction}");
    }

    #[test]
    fn what_happens_every_day_is_explained() {
        let ops = [
            op(0, 10, hold("a")),
            op(5, 12, Step::Refused),
            op(20, 30, release("a")),
            op(25, 40, hold("b")),
            op(50, 60, Step::Extend { hold: "b".into(), window: TTL }),
            op(70, 80, book("b", "o1")),
            op(85, 90, Step::Refused),
            op(90, 95, Step::Pass { from: "b".into(), to: "z".into() }),
            op(100, 110, back("o1")),
            op(105, 120, hold("c")),
            op(130, 140, book("c", "o2")),
            op(900, 901, sold("o2", "c")),
        ];
        is_fine(&exact(), &ops);
        is_refused(&exact(), &[ops.as_slice(), &[op(902, 903, Step::Seen(None))]].concat());
    }

    #[test]
    fn a_seat_given_back_by_who_had_passed_it_on_is_found() {
        let back = |owner: &str| Step::Return { order: "o1".into(), owner: Some(owner.into()) };
        let passed = [
            op(0, 10, hold("a")),
            op(20, 30, book("a", "o1")),
            op(40, 60, Step::Pass { from: "a".into(), to: "z".into() }),
        ];
        let then = |began: Micros, owner: &str| [passed.as_slice(), &[op(began, 90, back(owner))]].concat();
        is_refused(&Rules::default(), &then(70, "a"));
        is_fine(&Rules::default(), &then(70, "z"));
        // Nor is it explained by doing both at once.
        is_refused(&Rules::default(), &then(45, "a"));
    }

    #[test]
    fn a_seat_sold_twice_is_found() {
        let twice = [op(0, 10, hold("a")), op(20, 30, book("a", "o1")), op(25, 60, book("a", "o2"))];
        is_refused(&Rules::default(), &twice);
        let two_holders = [
            op(0, 10, hold("a")),
            op(TTL, TTL + 50, hold("b")),
            op(TTL + 60, TTL + 90, book("a", "o1")),
            op(TTL + 60, TTL + 95, book("b", "o2")),
        ];
        is_refused(&Rules::default(), &two_holders);
        // Not even when all claims are gone.
        let rules = Rules { lost: vec![(5, 2 * TTL)], ..Rules::default() };
        is_refused(&rules, &two_holders);
        is_fine(&rules, &two_holders[..3]);
    }

    #[test]
    fn a_seat_held_or_sold_while_another_holds_it_is_found() {
        let early = [op(0, 10, hold("a")), op(20, TTL / 2, hold("b"))];
        is_refused(&Rules::default(), &early);
        is_fine(&Rules { lost: vec![(15, 18)], ..Rules::default() }, &early);
        // A hold after the loss is as good as any.
        let after = [early[1].clone(), op(TTL / 2 + 9, TTL / 2 + 20, hold("c"))];
        is_refused(&Rules { lost: vec![(15, 18)], ..Rules::default() }, &after);
        // b has it; a's payment comes late and takes it all the same.
        let late = [op(0, 10, hold("a")), op(TTL, TTL + 20, hold("b")), op(TTL + 30, TTL + 40, book("a", "o1"))];
        is_refused(&Rules::default(), &late);
        // While it is paid, a hold does not lapse.
        let paying = [
            op(0, 10, hold("a")),
            op(TTL / 2, TTL / 2 + 10, Step::Extend { hold: "a".into(), window: TTL }),
            op(TTL, TTL + 20, hold("b")),
        ];
        is_refused(&Rules::default(), &paying);
    }

    #[test]
    fn a_hold_lapses_when_its_time_is_up_and_not_before() {
        is_fine(&exact(), &[op(0, 10, hold("a")), op(TTL - SLACK, TTL + 10, hold("b"))]);
        is_refused(&exact(), &[op(0, 10, hold("a")), op(TTL - 100_000, TTL - SLACK - 1, hold("b"))]);
        // Later than that nobody may be refused for it.
        let refused = op(TTL + 20_000, TTL + 30_000, Step::Refused);
        is_refused(&exact(), &[op(0, 10, hold("a")), refused.clone()]);
        is_fine(&Rules::default(), &[op(0, 10, hold("a")), refused]);
        // A lapse that was needed is not undone: the moment of what follows lies after it.
        let order = [
            op(0, 10, hold("a")),
            op(100, TTL + 900, hold("b")),
            op(200, TTL - SLACK - 20, release("a")),
            op(TTL + 905, TTL + 910, release("b")),
        ];
        is_fine(&exact(), &order);
        is_refused(&exact(), &[&order[..2], &[op(200, TTL - SLACK - 20, release("b"))]].concat());
    }

    #[test]
    fn a_release_or_a_return_that_got_lost_is_found() {
        let lost = [op(0, 10, hold("a")), op(20, 30, release("a")), op(40, 50, Step::Refused)];
        is_refused(&exact(), &lost);
        let back_and_sold =
            [op(0, 10, hold("a")), op(20, 30, book("a", "o1")), op(40, 50, back("o1")), op(60, 70, sold("o1", "a"))];
        is_refused(&exact(), &back_and_sold);
        let never_sold = [op(0, 10, hold("a")), op(20, 30, book("a", "o1")), op(60, 70, Step::Seen(None))];
        is_refused(&exact(), &never_sold);
        let passed_twice = [
            op(0, 10, hold("a")),
            op(20, 30, book("a", "o1")),
            op(40, 50, Step::Pass { from: "a".into(), to: "b".into() }),
            op(60, 70, Step::Pass { from: "a".into(), to: "c".into() }),
        ];
        is_refused(&exact(), &passed_twice);
    }

    #[test]
    fn what_was_not_answered_may_have_happened_at_any_later_time_or_not() {
        let lost_answer = [perhaps(0, hold("a")), op(10, 20, hold("b"))];
        is_fine(&exact(), &lost_answer);
        is_fine(&exact(), &[perhaps(0, hold("a")), op(10, 20, Step::Refused)]);
        is_refused(&exact(), &[perhaps(15, hold("a")), op(10, 14, Step::Refused)]);
        is_fine(
            &exact(),
            &[op(0, 10, hold("a")), perhaps(20, release("a")), op(30, 40, Step::Refused), op(50, 60, hold("b"))],
        );
        is_refused(&exact(), &[op(0, 10, hold("a")), perhaps(55, release("a")), op(40, 50, hold("b"))]);
        // Many of them at once do not make the search slow.
        let mut many: Vec<Op> = (0..20).map(|n| perhaps(n, hold(&format!("p{n}")))).collect();
        many.extend((0..40).map(|n| op(100 + 10 * n, 105 + 10 * n, if n % 2 == 0 { hold("q") } else { release("q") })));
        is_fine(&exact(), &many);
    }
}
