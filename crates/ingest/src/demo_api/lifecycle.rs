//! What becomes of an order. Each order belongs to one of twenty classes; a class fixes the steps of its life and how
//! long after its creation each comes. Orders of the history take days, those placed after the opening minutes, so that a
//! demo sees updates soon.

use serde::Serialize;
use utoipa::ToSchema;

use super::calendar::{DAY, MINUTE, SECOND};

/// How many classes there are; every block of twenty orders holds one order of each.
pub(super) const CLASSES: u64 = 20;
/// Collected in the shop; those of the history are corrected again and again after the opening.
pub(super) const CORRECTED_LATE: u64 = 18;
/// Collected in the shop; those of the history are deleted one after the other after the opening.
pub(super) const DELETED_LATE: u64 = 19;
/// The classes whose customers write a review.
pub(super) const REVIEWED: [u64; 3] = [1, 5, 9];

/// Whether an order was placed before or after the opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Era {
    History,
    Live,
}

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = OrderStatus)]
pub(super) enum Status {
    Pending,
    Paid,
    OnHold,
    Shipped,
    Delivered,
    Returned,
    Cancelled,
}

impl Status {
    pub(super) const ALL: [Self; 7] =
        [Self::Pending, Self::Paid, Self::OnHold, Self::Shipped, Self::Delivered, Self::Returned, Self::Cancelled];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Paid => "paid",
            Self::OnHold => "on_hold",
            Self::Shipped => "shipped",
            Self::Delivered => "delivered",
            Self::Returned => "returned",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What happened to an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Created,
    Paid,
    Held,
    Shipped,
    Delivered,
    Returned,
    Cancelled,
    Corrected,
    Deleted,
}

impl Change {
    /// Its name in the event log.
    pub(super) const fn event(self) -> &'static str {
        match self {
            Self::Created => "order.created",
            Self::Paid => "order.paid",
            Self::Held => "order.held",
            Self::Shipped => "order.shipped",
            Self::Delivered => "order.delivered",
            Self::Returned => "order.returned",
            Self::Cancelled => "order.cancelled",
            Self::Corrected => "order.corrected",
            Self::Deleted => "order.deleted",
        }
    }
}

/// One step of a life: what changes, the status from then on, and how long after the creation it comes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) change: Change,
    pub(super) status: Status,
    history: i64,
    live: i64,
}

impl Step {
    /// The delay after the creation.
    pub(super) const fn after(&self, era: Era) -> i64 {
        match era {
            Era::History => self.history,
            Era::Live => self.live,
        }
    }
}

/// The steps of a class, in the order of their delays.
pub(super) fn steps(class: u64) -> Vec<Step> {
    let class = i64::try_from(class).unwrap_or(0);
    let step = |change, status, history, live| Step { change, status, history, live };
    // Odd minutes and seconds, so that the classes do not march in step.
    let shipped = (DAY + class * (151 * MINUTE + 37 * SECOND), (30 + 3 * class) * SECOND);
    let delivered = (shipped.0 + 2 * DAY + class * (307 * MINUTE + 11 * SECOND), shipped.1 + (45 + 2 * class) * SECOND);

    let mut steps =
        vec![step(Change::Created, Status::Pending, 0, 0), step(Change::Paid, Status::Paid, 30 * MINUTE, 10 * SECOND)];
    let ship = step(Change::Shipped, Status::Shipped, shipped.0, shipped.1);
    let deliver = step(Change::Delivered, Status::Delivered, delivered.0, delivered.1);
    match class {
        11 => steps.extend([
            step(Change::Held, Status::OnHold, 2 * DAY, 2 * MINUTE),
            step(Change::Shipped, Status::Shipped, 5 * DAY, 4 * MINUTE),
            step(Change::Delivered, Status::Delivered, 8 * DAY, 7 * MINUTE),
        ]),
        12 | 13 => steps.extend([
            ship,
            deliver,
            step(Change::Returned, Status::Returned, (20 + 9 * (class - 12)) * DAY, (10 + 2 * (class - 12)) * MINUTE),
        ]),
        14 => steps.extend([ship, deliver, step(Change::Corrected, Status::Delivered, 60 * DAY, 20 * MINUTE)]),
        15 => steps.push(step(Change::Cancelled, Status::Cancelled, 6 * 60 * MINUTE, 40 * SECOND)),
        16 => steps.extend([
            step(Change::Shipped, Status::Shipped, 90 * DAY, 30 * MINUTE),
            step(Change::Delivered, Status::Delivered, 93 * DAY, 33 * MINUTE),
        ]),
        17 => steps.extend([ship, deliver, step(Change::Deleted, Status::Delivered, 16 * DAY, 5 * MINUTE)]),
        18 | 19 => steps.push(step(Change::Delivered, Status::Delivered, 45 * MINUTE, 25 * SECOND)),
        _ => steps.extend([ship, deliver]),
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_come_one_after_the_other_in_both_eras() {
        for class in 0..CLASSES {
            let steps = steps(class);
            assert_eq!(steps[0].change, Change::Created);
            for pair in steps.windows(2) {
                for era in [Era::History, Era::Live] {
                    assert!(pair[0].after(era) < pair[1].after(era), "class {class}: {pair:?}");
                }
            }
        }
    }
}
