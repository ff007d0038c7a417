//! What a ride costs.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tessera_kernel::{Currency, Money, Timestamp};

/// The tariff. Amounts in minor units of the currency (cents).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tariff {
    /// ISO 4217.
    pub currency: Currency,
    /// For getting in.
    pub base: i64,
    /// For a kilometre.
    pub per_km: i64,
    /// For a minute.
    pub per_minute: i64,
    /// No ride costs less, surge apart.
    pub minimum: i64,
    /// For a ride that is cancelled by the rider after a driver set out: from this many seconds after the acceptance on.
    pub cancel_after_s: u32,
    /// What is due then.
    pub cancel_fee: i64,
    /// For a rider who does not come: how long the driver must have waited, seconds.
    pub no_show_after_s: u32,
}

impl Default for Tariff {
    /// Made up, in the order of magnitude of a southern European town.
    fn default() -> Self {
        Self {
            currency: Currency::EUR,
            base: 120,
            per_km: 75,
            per_minute: 12,
            minimum: 300,
            cancel_after_s: 120,
            cancel_fee: 250,
            no_show_after_s: 300,
        }
    }
}

/// A multiple of the price by demand, in hundredths: 100 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Surge(pub u16);

impl Surge {
    /// No surge.
    pub const NONE: Self = Self(100);
}

impl Tariff {
    /// The price of a ride. Rounded up to the whole minor unit once, at the end.
    ///
    /// `None` where it does not fit into an amount, which no ride on the earth reaches.
    pub fn price(&self, distance_m: f64, seconds: f64, surge: Surge) -> Option<Money> {
        let plain =
            self.base as f64 + self.per_km as f64 * distance_m / 1_000.0 + self.per_minute as f64 * seconds / 60.0;
        let priced = plain.max(self.minimum as f64) * f64::from(surge.0) / 100.0;
        // A nine in the tenth place is a float's dust, not a cent.
        let amount = (priced - 1e-6).ceil();
        (amount.is_finite() && amount.abs() < 9e15).then(|| Money::new(amount as i64, self.currency))
    }

    /// What a rider owes who cancels so many seconds after the acceptance; `None` where no driver had accepted.
    pub fn cancellation(&self, since_accepted_s: Option<u64>) -> Money {
        let due = since_accepted_s.is_some_and(|seconds| seconds >= u64::from(self.cancel_after_s));
        Money::new(if due { self.cancel_fee } else { 0 }, self.currency)
    }

    /// What a rider owes who cancels late, and from when on that is.
    pub fn late_cancellation(&self, accepted: Timestamp) -> (Money, Timestamp) {
        let from = accepted.plus(Duration::from_secs(u64::from(self.cancel_after_s)));
        (Money::new(self.cancel_fee, self.currency), from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price(distance_m: f64, seconds: f64, surge: u16) -> i64 {
        Tariff::default().price(distance_m, seconds, Surge(surge)).unwrap().amount
    }

    #[test]
    fn a_price_is_base_distance_time_and_surge() {
        assert_eq!(price(5_000.0, 600.0, 100), 120 + 375 + 120);
        assert_eq!(price(5_000.0, 600.0, 150), 923, "922.5 rounded up");
        assert_eq!(price(10.0, 5.0, 100), 300, "the minimum");
        assert_eq!(price(10.0, 5.0, 200), 600, "which surges too");
        assert_eq!(Tariff::default().price(f64::INFINITY, 0.0, Surge::NONE), None);
    }

    #[test]
    fn a_rider_who_cancels_late_pays() {
        let fee = |seconds| Tariff::default().cancellation(seconds).amount;
        assert_eq!([fee(None), fee(Some(119)), fee(Some(120))], [0, 0, 250]);
    }
}
