//! Lists in the order of time, read at any offset without making what comes before.
//!
//! A *lane* is a run of changes whose times rise with their position and whose position is computable from a time: the
//! orders of one class that are at one step of their life, say. An order has exactly one present version, so the present
//! orders are the disjoint union of some hundred lanes, and "sorted by `updated_at`, then id" is their merge. The number of rows before a
//! time is a sum over lanes; the time at an offset is found by bisection on it; a page is then merged from there. So a
//! page costs O(lanes · log(time) + rows · log(lanes)), whatever its offset.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::calendar::{DAY, MINUTE, SECOND};
use super::lifecycle::{CLASSES, Change, Era, REVIEWED, Status};
use super::shop::{Shop, Version, View, What, whole_second};

/// How rows with the same time are ordered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ties {
    ById,
    /// By the kind of change: for the event log, where one order may stand in a lane many times.
    ByLane,
}

#[derive(Clone, Copy)]
enum Source {
    /// Orders of a class reach a step, `extra` after its time.
    Step { era: Era, class: u64, step: usize, extra: i64 },
    /// A series of touches.
    Touch { series: usize },
}

/// Positions `from..to` of a source.
struct Lane {
    source: Source,
    from: u64,
    to: u64,
}

/// A list in the order of time.
pub(super) struct Stream<'a> {
    shop: &'a Shop,
    lanes: Vec<Lane>,
    ties: Ties,
}

impl<'a> View<'a> {
    /// The present versions of the orders for which `wanted(status, deleted)` holds, by `updated_at`, then id.
    pub(super) fn order_stream(&self, wanted: impl Fn(Status, bool) -> bool) -> Stream<'a> {
        let mut stream = self.step_stream(|_, _| Some(0), Some(&wanted));
        for (series, touches) in self.shop.touches.iter().enumerate() {
            if !wanted(Status::Delivered, touches.change == Change::Deleted) {
                continue;
            }
            // Each order's latest touch is among the last `orders` ones. Cut where the series begins anew, so that ids rise within a lane.
            let to = self.touched(series);
            let from = to.saturating_sub(touches.orders);
            let middle = if touches.orders == 0 { to } else { (from.next_multiple_of(touches.orders)).min(to) };
            stream.push(Source::Touch { series }, from, middle);
            stream.push(Source::Touch { series }, middle, to);
        }
        stream
    }

    /// One row per order that reached a change, for good: payments, refunds, shipments.
    pub(super) fn change_stream(&self, wanted: impl Fn(Change) -> bool) -> Stream<'a> {
        self.step_stream(|_, change| wanted(change).then_some(0), None)
    }

    /// Reviews: some classes write one a while after the delivery.
    pub(super) fn review_stream(&self) -> Stream<'a> {
        self.step_stream(
            |(class, era), change| {
                (change == Change::Delivered && REVIEWED.contains(&class)).then(|| review_after(era))
            },
            None,
        )
    }

    /// Everything that ever happened to an order.
    pub(super) fn event_stream(&self) -> Stream<'a> {
        let mut stream = self.step_stream(|_, _| Some(0), None);
        stream.ties = Ties::ByLane;
        for series in 0..self.shop.touches.len() {
            stream.push(Source::Touch { series }, 0, self.touched(series));
        }
        stream
    }

    /// The steps for which `extra` gives a delay. With `present`, only the orders whose present version that step is.
    fn step_stream(
        &self,
        extra: impl Fn((u64, Era), Change) -> Option<i64>,
        present: Option<&dyn Fn(Status, bool) -> bool>,
    ) -> Stream<'a> {
        let mut stream = Stream { shop: self.shop, lanes: Vec::new(), ties: Ties::ById };
        for era in [Era::History, Era::Live] {
            let calendar = self.shop.orders.of(era);
            for class in 0..CLASSES {
                let steps = &self.shop.steps[class as usize];
                // Orders of this class that are past a delay.
                let past = |delay: i64| self.shop.members(era, class, calendar.until(self.now.saturating_sub(delay)));
                for (number, step) in steps.iter().enumerate() {
                    let Some(extra) = extra((class, era), step.change) else { continue };
                    let to = past(step.after(era) + extra);
                    let mut from = 0;
                    if let Some(wanted) = present {
                        if !wanted(step.status, step.change == Change::Deleted) {
                            continue;
                        }
                        from = steps.get(number + 1).map_or(0, |next| past(next.after(era)));
                        if era == Era::History {
                            let series = self.shop.touches.iter().position(|touches| touches.class == class);
                            from = from.max(series.map_or(0, |series| self.touched(series)));
                        }
                    }
                    stream.push(Source::Step { era, class, step: number, extra }, from, to);
                }
            }
        }
        stream
    }
}

/// How long after the delivery a review is written.
pub(super) const fn review_after(era: Era) -> i64 {
    match era {
        Era::History => 4 * DAY + 95 * MINUTE,
        Era::Live => 50 * SECOND,
    }
}

impl Stream<'_> {
    fn push(&mut self, source: Source, from: u64, to: u64) {
        if from < to {
            self.lanes.push(Lane { source, from, to });
        }
    }

    /// Only what is at or after `since` and before `until`.
    pub(super) fn between(mut self, since: Option<i64>, until: Option<i64>) -> Self {
        let bounds = |lane: &Lane| {
            let from = since.map_or(lane.from, |since| self.before(lane, since));
            (from, until.map_or(lane.to, |until| self.before(lane, until)))
        };
        let clipped: Vec<(u64, u64)> = self.lanes.iter().map(bounds).collect();
        for (lane, (from, to)) in self.lanes.iter_mut().zip(clipped) {
            (lane.from, lane.to) = (from, to);
        }
        self.lanes.retain(|lane| lane.from < lane.to);
        self
    }

    /// How many rows.
    pub(super) fn len(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.to - lane.from).sum()
    }

    /// The time of the last row.
    pub(super) fn last_at(&self) -> Option<i64> {
        self.lanes.iter().map(|lane| self.version(lane, lane.to - 1).updated_at).max()
    }

    /// `limit` rows from an offset on; fewer at the end.
    pub(super) fn page(&self, offset: u64, limit: usize) -> Vec<Version> {
        if offset >= self.len() {
            return Vec::new();
        }
        let start = self.time_at(offset);
        let mut heads = BinaryHeap::with_capacity(self.lanes.len());
        let mut passed = 0;
        for (number, lane) in self.lanes.iter().enumerate() {
            let position = self.before(lane, start);
            passed += position - lane.from;
            self.enter(&mut heads, number, position);
        }
        let mut skip = offset - passed;
        let mut page = Vec::with_capacity(limit.min(10_000));
        while page.len() < limit
            && let Some(Reverse(head)) = heads.pop()
        {
            self.enter(&mut heads, head.lane, head.position + 1);
            if skip > 0 {
                skip -= 1;
            } else {
                page.push(head.version);
            }
        }
        page
    }

    /// The latest second with at most `offset` rows before it.
    fn time_at(&self, offset: u64) -> i64 {
        let first = self.lanes.iter().map(|lane| self.version(lane, lane.from).updated_at).min().unwrap_or(0);
        let last = self.last_at().unwrap_or(first);
        let (mut low, mut high) = (first / SECOND, last / SECOND);
        while low < high {
            let middle = low + (high - low + 1) / 2;
            let count: u64 = self.lanes.iter().map(|lane| self.before(lane, middle * SECOND) - lane.from).sum();
            if count <= offset { low = middle } else { high = middle - 1 }
        }
        low * SECOND
    }

    fn enter(&self, heads: &mut BinaryHeap<Reverse<Head>>, number: usize, position: u64) {
        let lane = &self.lanes[number];
        if position < lane.to {
            let version = self.version(lane, position);
            let tie = if self.ties == Ties::ById { version.id } else { number as u64 };
            heads.push(Reverse(Head { key: (version.updated_at, tie, position), lane: number, position, version }));
        }
    }

    /// The first position of a lane that is not before a moment. Times show whole seconds, so the moment is first rounded up to one.
    fn before(&self, lane: &Lane, moment: i64) -> u64 {
        let last = whole_second(moment.saturating_add(SECOND - 1)).saturating_sub(1);
        let position = match lane.source {
            Source::Step { era, class, step, extra } => {
                let delay = self.shop.steps[class as usize][step].after(era) + extra;
                self.shop.members(era, class, self.shop.orders.of(era).until(last.saturating_sub(delay)))
            }
            Source::Touch { series } => self.shop.touches[series].calendar.until(last),
        };
        position.clamp(lane.from, lane.to)
    }

    fn version(&self, lane: &Lane, position: u64) -> Version {
        match lane.source {
            Source::Step { era, class, step, extra } => {
                let index = self.shop.member(era, class, position);
                let at = self.shop.orders.of(era).at(index) + self.shop.steps[class as usize][step].after(era) + extra;
                let id = self.shop.orders.id(era, index);
                Version { id, updated_at: whole_second(at), what: What::Step { era, class, step } }
            }
            Source::Touch { series } => {
                let touches = &self.shop.touches[series];
                let (round, k) = (position / touches.orders.max(1), position % touches.orders.max(1));
                let index = self.shop.member(Era::History, touches.class, k);
                let id = self.shop.orders.id(Era::History, index);
                let updated_at = whole_second(touches.calendar.at(position));
                Version { id, updated_at, what: What::Touch { series, round } }
            }
        }
    }
}

/// The next row of a lane, compared by its key alone.
struct Head {
    key: (i64, u64, u64),
    lane: usize,
    position: u64,
    version: Version,
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Head {}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Options;
    use super::*;

    /// The order list, computed the slow way: every order by itself, sorted.
    fn slow(view: &View<'_>) -> Vec<Version> {
        let mut all: Vec<Version> = (1..=view.orders()).filter_map(|id| view.order(id)).collect();
        all.sort_by_key(|version| (version.updated_at, version.id));
        all
    }

    #[test]
    fn the_merge_equals_a_sort_at_any_moment() {
        for (seed, orders, growth) in [(1, 0, 30), (2, 3, 600), (3, 333, 0), (4, 1000, 1200), (5, 41, 90)] {
            let shop = Shop::new(&Options { seed, orders, growth, ..Options::default() });
            for minutes in [-40_000_000, -400_000, -60, 0, 1, 7, 45, 300] {
                let view = shop.view(shop.opened_at + minutes * MINUTE + 345_678);
                if view.orders() > 60_000 {
                    continue;
                }
                let all = slow(&view);
                assert_eq!(all.len() as u64, view.orders());
                assert!(all.iter().all(|version| version.updated_at <= view.now));
                let stream = view.order_stream(|_, _| true);
                assert_eq!(stream.len(), view.orders(), "seed {seed}, {minutes} min");
                assert_eq!(stream.last_at(), all.last().map(|version| version.updated_at));
                assert_eq!(stream.page(0, usize::MAX), all, "seed {seed}, {minutes} min");
                for offset in (0..all.len()).step_by(all.len() / 7 + 1) {
                    assert_eq!(stream.page(offset as u64, 13), all[offset..(offset + 13).min(all.len())]);
                }
                assert_eq!(stream.page(stream.len(), 5), []);
            }
        }
    }

    #[test]
    fn filters_by_time_and_status_equal_a_filtered_sort() {
        let shop = Shop::new(&Options { seed: 7, orders: 700, growth: 240, ..Options::default() });
        let view = shop.view(shop.opened_at + 30 * MINUTE + 1);
        let all = slow(&view);
        for version in all.iter().step_by(97) {
            for shift in [-1, 0, 1, SECOND] {
                let (since, until) = (version.updated_at + shift, version.updated_at + shift + 40 * DAY);
                let expected: Vec<Version> =
                    all.iter().filter(|row| row.updated_at >= since && row.updated_at < until).copied().collect();
                let stream = view.order_stream(|_, _| true).between(Some(since), Some(until));
                assert_eq!(stream.page(0, usize::MAX), expected);
                assert_eq!(stream.len(), expected.len() as u64);
            }
        }
        let parts: u64 = Status::ALL
            .into_iter()
            .flat_map(|status| [(status, false), (status, true)])
            .map(|(status, deleted)| view.order_stream(|s, d| s == status && d == deleted).len())
            .sum();
        assert_eq!(parts, view.orders());
        assert!(view.order_stream(|_, deleted| deleted).len() > 0);
    }

    #[test]
    fn a_late_page_of_a_million_orders_is_the_end_of_the_list() {
        let shop = Shop::new(&Options { seed: 7, orders: 1_000_000, ..Options::default() });
        let stream = shop.view(shop.opened_at).order_stream(|_, _| true);
        assert_eq!(stream.len(), 1_000_000);
        let page = stream.page(999_500, 1000);
        assert_eq!(page.len(), 500);
        assert_eq!(page.last().map(|version| version.updated_at), stream.last_at());
        assert!(page.windows(2).all(|pair| (pair[0].updated_at, pair[0].id) < (pair[1].updated_at, pair[1].id)));
    }
}
