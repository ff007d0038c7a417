//! The shop itself: who exists when, and what an order's present version is. All of it is computed from the seed and the
//! moment asked about; nothing is stored.
//!
//! An order's id counts in the order of creation. Ids fall into blocks of twenty; a seeded permutation of each block gives
//! every class exactly one order of it, so "order number `k` of class `c`" is computable both ways.

use super::Options;
use super::calendar::{Calendar, DAY, MINUTE, SECOND};
use super::draw::draw;
use super::lifecycle::{CLASSES, CORRECTED_LATE, Change, DELETED_LATE, Era, Step, steps};

/// Items of the order with this last digit of its id: a fixed pattern, so that their sum is a formula.
const ITEMS: [u64; 10] = [1, 2, 1, 3, 2, 5, 1, 2, 4, 1];

/// The multipliers that are invertible modulo 20, each with its inverse.
const UNITS: [(u64, u64); 8] = [(1, 1), (3, 7), (7, 3), (9, 9), (11, 11), (13, 17), (17, 13), (19, 19)];

const SALT_CUSTOMERS: u64 = 1;
const SALT_ORDERS: u64 = 3;
const SALT_CLASSES: u64 = 5;
const SALT_TOUCHES: u64 = 7;

/// Things counted from 1 up: those of the history, then those since the opening.
pub(super) struct Eras {
    pub(super) history: Calendar,
    pub(super) live: Calendar,
}

impl Eras {
    pub(super) const fn of(&self, era: Era) -> &Calendar {
        match era {
            Era::History => &self.history,
            Era::Live => &self.live,
        }
    }

    /// How many exist at a moment.
    pub(super) fn until(&self, moment: i64) -> u64 {
        self.history.until(moment) + self.live.until(moment)
    }

    /// The era of an id, and its index within the era.
    pub(super) const fn locate(&self, id: u64) -> (Era, u64) {
        let index = id.saturating_sub(1);
        if index < self.history.limit() { (Era::History, index) } else { (Era::Live, index - self.history.limit()) }
    }

    /// The id of an index within an era.
    pub(super) const fn id(&self, era: Era, index: u64) -> u64 {
        match era {
            Era::History => index + 1,
            Era::Live => self.history.limit() + index + 1,
        }
    }

    /// When the thing with this id came into being.
    pub(super) fn created_at(&self, id: u64) -> i64 {
        let (era, index) = self.locate(id);
        self.of(era).at(index)
    }
}

/// Changes to old orders, made one after the other since the opening: number `j` touches order `j mod orders` of a class.
pub(super) struct Touches {
    pub(super) class: u64,
    pub(super) change: Change,
    pub(super) orders: u64,
    pub(super) calendar: Calendar,
}

/// Everything that the rows derive from.
pub(super) struct Shop {
    pub(super) seed: u64,
    pub(super) opened_at: i64,
    pub(super) growth: u32,
    pub(super) products: u64,
    pub(super) customers: Eras,
    pub(super) orders: Eras,
    pub(super) steps: Vec<Vec<Step>>,
    pub(super) touches: [Touches; 2],
}

/// The present version of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) id: u64,
    pub(super) updated_at: i64,
    pub(super) what: What,
}

/// Which change made a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A step of its life.
    Step { era: Era, class: u64, step: usize },
    /// A touch of that series; `round` counts how often the series has come by before.
    Touch { series: usize, round: u64 },
}

impl Shop {
    pub(super) fn new(options: &Options) -> Self {
        let seed = options.seed;
        let opened_at = whole_second(options.opened_at.micros());
        let growth = options.growth;
        let live = |salt, rows, span, limit| Calendar::live(seed, salt, opened_at, rows, span, limit);
        let orders = Eras {
            history: Calendar::history(seed, SALT_ORDERS, opened_at, options.orders, 0),
            live: live(SALT_ORDERS + 1, growth, MINUTE, u64::MAX),
        };
        let customers = Eras {
            // A month ahead of the orders, so that the first order finds a customer.
            history: Calendar::history(seed, SALT_CUSTOMERS, opened_at, options.customers, 30 * DAY),
            live: live(SALT_CUSTOMERS + 1, if options.customers == 0 { 0 } else { growth }, 10 * MINUTE, u64::MAX),
        };
        let mut shop = Self {
            seed,
            opened_at,
            growth,
            products: options.products,
            customers,
            orders,
            steps: (0..CLASSES).map(steps).collect(),
            touches: [(CORRECTED_LATE, Change::Corrected), (DELETED_LATE, Change::Deleted)].map(|(class, change)| {
                Touches { class, change, orders: 0, calendar: live(SALT_TOUCHES, 0, MINUTE, 0) }
            }),
        };
        let history = options.orders;
        for (series, every) in [8, 24].into_iter().enumerate() {
            let class = shop.touches[series].class;
            let orders = shop.members(Era::History, class, history);
            // Corrections come round and round; a deletion happens once.
            let limit = if orders == 0 || series == 1 { orders } else { u64::MAX };
            let salt = SALT_TOUCHES + series as u64;
            shop.touches[series].orders = orders;
            shop.touches[series].calendar = live(salt, growth, every * MINUTE, limit);
        }
        shop
    }

    /// The shop as it stands, or stood, at a moment; it never stands later than its opening where it does not grow.
    pub(super) fn view(&self, moment: i64) -> View<'_> {
        View { shop: self, now: self.clamp(moment) }
    }

    /// The moment that the shop shows for a reading of the clock.
    pub(super) fn present(&self, clock: i64) -> i64 {
        self.clamp(clock.max(self.opened_at))
    }

    fn clamp(&self, moment: i64) -> i64 {
        if self.growth == 0 { moment.min(self.opened_at) } else { moment }
    }

    /// How many of the first `count` orders of an era are of a class.
    pub(super) fn members(&self, era: Era, class: u64, count: u64) -> u64 {
        let block = count / CLASSES;
        block + u64::from(self.place(era, block, class) < count % CLASSES)
    }

    /// The index within the era of order number `k` of a class.
    pub(super) fn member(&self, era: Era, class: u64, k: u64) -> u64 {
        k * CLASSES + self.place(era, k, class)
    }

    /// The class of an order, and which of its class it is.
    pub(super) fn class_of(&self, era: Era, index: u64) -> (u64, u64) {
        let block = index / CLASSES;
        let (_, inverse, shift) = self.shuffle(era, block);
        ((index % CLASSES + CLASSES - shift) * inverse % CLASSES, block)
    }

    /// Where in its block the order of a class is.
    fn place(&self, era: Era, block: u64, class: u64) -> u64 {
        let (factor, _, shift) = self.shuffle(era, block);
        (factor * class + shift) % CLASSES
    }

    /// A block's permutation `class → factor·class + shift (mod 20)`, with the inverse of the factor.
    fn shuffle(&self, era: Era, block: u64) -> (u64, u64, u64) {
        let salt = SALT_CLASSES + u64::from(era == Era::Live);
        let value = draw(self.seed, salt, block);
        let (factor, inverse) = UNITS[(value % 8) as usize];
        (factor, inverse, (value >> 8) % CLASSES)
    }

    /// How many items an order has.
    pub(super) fn items_of(&self, order: u64) -> u64 {
        if self.products == 0 { 0 } else { ITEMS[(order % 10) as usize] }
    }
}

/// The shop at one moment.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) shop: &'a Shop,
    pub(super) now: i64,
}

impl View<'_> {
    pub(super) fn customers(&self) -> u64 {
        self.shop.customers.until(self.now)
    }

    pub(super) fn orders(&self) -> u64 {
        self.shop.orders.until(self.now)
    }

    /// The items of all orders together.
    pub(super) fn items(&self) -> u64 {
        let orders = self.orders();
        let rest: u64 = (1..=orders % 10).map(|id| self.shop.items_of(id)).sum();
        let block: u64 = (0..10).map(|id| self.shop.items_of(id)).sum();
        orders / 10 * block + rest
    }

    /// How many touches of a series have happened.
    pub(super) fn touched(&self, series: usize) -> u64 {
        self.shop.touches[series].calendar.until(self.now)
    }

    /// The present version of an order, none where it does not exist yet.
    pub(super) fn order(&self, id: u64) -> Option<Version> {
        if id == 0 || id > self.orders() {
            return None;
        }
        let (era, index) = self.shop.orders.locate(id);
        let (class, k) = self.shop.class_of(era, index);
        if era == Era::History
            && let Some(series) = self.shop.touches.iter().position(|touches| touches.class == class)
        {
            let done = self.touched(series);
            if done > k {
                let touches = &self.shop.touches[series];
                let round = (done - 1 - k) / touches.orders.max(1);
                let updated_at = whole_second(touches.calendar.at(round * touches.orders + k));
                return Some(Version { id, updated_at, what: What::Touch { series, round } });
            }
        }
        let created_at = self.shop.orders.of(era).at(index);
        let steps = &self.shop.steps[class as usize];
        let step = steps.iter().rposition(|step| created_at + step.after(era) <= self.now)?;
        let updated_at = whole_second(created_at + steps[step].after(era));
        Some(Version { id, updated_at, what: What::Step { era, class, step } })
    }
}

/// The second that a moment is in. What the shop shows has whole seconds, so that rows share a time as they do in real APIs.
pub(super) const fn whole_second(moment: i64) -> i64 {
    moment - moment.rem_euclid(SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_and_indexes_are_inverse() {
        let shop = Shop::new(&Options { orders: 1000, seed: 9, ..Options::default() });
        for era in [Era::History, Era::Live] {
            let mut count = vec![0; CLASSES as usize];
            for index in 0..1013 {
                let (class, k) = shop.class_of(era, index);
                assert_eq!(shop.member(era, class, k), index);
                assert_eq!(shop.members(era, class, index), k, "members before index {index}");
                count[class as usize] += 1;
                assert_eq!(shop.members(era, class, index + 1), count[class as usize]);
            }
        }
    }

    #[test]
    fn items_add_up() {
        for orders in [0, 1, 9, 10, 37] {
            let shop = Shop::new(&Options { orders, ..Options::default() });
            let view = shop.view(shop.opened_at);
            assert_eq!(view.orders(), orders);
            assert_eq!(view.items(), (1..=orders).map(|id| shop.items_of(id)).sum::<u64>());
        }
    }
}
