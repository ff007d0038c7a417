//! Promotion codes: what they take off, how often, and when.

use serde::{Deserialize, Serialize};
use tessera_kernel::{Money, Timestamp};
use utoipa::ToSchema;

use super::ids::{EventId, PromoId};
use crate::Error;

/// The longest code.
pub const MAX_CODE_CHARS: usize = 40;
/// All of the price, in basis points.
const WHOLE: i64 = 10_000;

/// What a code takes off an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Discount {
    /// A share of the total in basis points: 2500 is a quarter.
    BasisPoints(i64),
    /// Minor units of the event's currency, down to nothing left to pay.
    Amount(i64),
}

/// A promotion code of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Promo {
    /// Its id.
    #[schema(value_type = String)]
    pub id: PromoId,
    /// Of which event.
    #[schema(value_type = String)]
    pub event: EventId,
    /// As buyers type it, in capitals.
    pub code: String,
    /// What it takes off.
    pub discount: Discount,
    /// How many orders may use it; any number where not set.
    pub max_uses: Option<i64>,
    /// How many did.
    pub uses: i64,
    /// From when.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub valid_from: Option<Timestamp>,
    /// Until when.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub valid_until: Option<Timestamp>,
    /// Goes up with every change by the organiser.
    pub version: i64,
    /// When it was last changed or used.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
    /// Since when it does not count any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub deleted_at: Option<Timestamp>,
}

/// A promotion code as an organiser writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PromoInput {
    /// 3 to 40 letters, digits, `-` or `_`; capitals and small letters are the same.
    pub code: String,
    /// What it takes off.
    pub discount: Discount,
    /// How many orders may use it.
    #[serde(default)]
    pub max_uses: Option<i64>,
    /// From when.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub valid_from: Option<Timestamp>,
    /// Until when.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub valid_until: Option<Timestamp>,
}

/// A code as it is compared: in capitals, without blanks around it.
///
/// # Errors
/// [`Error::BadRequest`] where it cannot be one.
pub fn normal_code(code: &str) -> Result<String, Error> {
    let code = code.trim().to_ascii_uppercase();
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if !(3..=MAX_CODE_CHARS).contains(&code.len()) || !code.chars().all(fits) {
        let reason = format!("a promotion code has 3 to {MAX_CODE_CHARS} letters, digits, `-` or `_`");
        return Err(Error::BadRequest { reason });
    }
    Ok(code)
}

impl PromoInput {
    /// The code, checked.
    ///
    /// # Errors
    /// [`Error::BadRequest`], which names the field.
    pub fn promo(self, id: PromoId, event: EventId, version: i64) -> Result<Promo, Error> {
        let bad = |reason: String| Err(Error::BadRequest { reason });
        match self.discount {
            Discount::BasisPoints(share) if !(1..=WHOLE).contains(&share) => {
                return bad(format!("`basis_points` is {share}; give 1 to {WHOLE}"));
            }
            Discount::Amount(amount) if amount < 1 => {
                return bad(format!("`amount` is {amount}; give at least 1 minor unit"));
            }
            Discount::BasisPoints(_) | Discount::Amount(_) => {}
        }
        if let Some(uses) = self.max_uses.filter(|uses| *uses < 1) {
            return bad(format!("`max_uses` is {uses}; give at least 1, or leave it out"));
        }
        if let (Some(from), Some(until)) = (self.valid_from, self.valid_until)
            && from >= until
        {
            return bad("`valid_from` is not before `valid_until`".into());
        }
        Ok(Promo {
            id,
            event,
            code: normal_code(&self.code)?,
            discount: self.discount,
            max_uses: self.max_uses,
            uses: 0,
            valid_from: self.valid_from,
            valid_until: self.valid_until,
            version,
            updated_at: Timestamp::from_micros(0),
            deleted_at: None,
        })
    }
}

impl Promo {
    /// Why it cannot be used at this moment, if it cannot.
    pub fn objection(&self, now: Timestamp) -> Option<String> {
        let code = &self.code;
        if let Some(from) = self.valid_from.filter(|from| now < *from) {
            return Some(format!("promotion code `{code}` counts from {from} on"));
        }
        if let Some(until) = self.valid_until.filter(|until| now >= *until) {
            return Some(format!("promotion code `{code}` ended at {until}"));
        }
        let used_up = self.max_uses.is_some_and(|most| self.uses >= most);
        used_up.then(|| format!("promotion code `{code}` is used up"))
    }

    /// What is left to pay of a total: between nothing and all of it.
    pub fn apply(&self, total: Money) -> Money {
        let off = match self.discount {
            // A share of at most the whole is never more than the total, so it fits.
            Discount::BasisPoints(share) => total.share(share).map_or(0, |off| off.amount),
            Discount::Amount(amount) => amount,
        };
        Money { amount: (total.amount - off.clamp(0, total.amount.max(0))).max(0), ..total }
    }
}

/// Prices that add up to `total`, each in its share of what they were: the smallest unit that is left over at a price goes
/// to the next.
pub fn spread(prices: &[i64], total: i64) -> Vec<i64> {
    let whole: i128 = prices.iter().map(|price| i128::from(*price)).sum();
    let (mut before, mut given) = (0i128, 0i128);
    let share = |price: &i64| {
        before += i128::from(*price);
        let up_to = if whole > 0 { i128::from(total) * before / whole } else { 0 };
        let share = up_to - given;
        given = up_to;
        // At most the price itself, as `total` is at most the whole.
        share as i64
    };
    prices.iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tessera_kernel::Uuid;

    use super::*;

    fn promo(discount: Discount) -> Promo {
        let input =
            PromoInput { code: "early-bird".into(), discount, max_uses: Some(2), valid_from: None, valid_until: None };
        input.promo(Uuid::nil().into(), Uuid::nil().into(), 1).unwrap()
    }

    fn euro(amount: i64) -> Money {
        Money::new(amount, "EUR".parse().unwrap())
    }

    #[test]
    fn codes_take_off_a_share_or_an_amount() {
        assert_eq!(promo(Discount::BasisPoints(2500)).apply(euro(4500)), euro(3375));
        assert_eq!(promo(Discount::Amount(1000)).apply(euro(4500)), euro(3500));
        assert_eq!(promo(Discount::Amount(1000)).apply(euro(400)), euro(0));
        assert_eq!(promo(Discount::Amount(1)).code, "EARLY-BIRD");
    }

    proptest! {
        #[test]
        fn what_is_left_is_between_nothing_and_all(total in 0..i64::MAX, share in 1..=WHOLE, amount in 1..i64::MAX) {
            for discount in [Discount::BasisPoints(share), Discount::Amount(amount)] {
                let left = promo(discount).apply(euro(total)).amount;
                prop_assert!((0..=total).contains(&left));
            }
        }
    }

    proptest! {
        #[test]
        fn a_discount_is_spread_to_the_last_unit(prices in prop::collection::vec(0i64..1_000_000_000, 1..20), share in 0.0..=1.0f64) {
            let whole: i64 = prices.iter().sum();
            let total = ((whole as f64 * share) as i64).clamp(0, whole);
            let spread = super::spread(&prices, total);
            prop_assert_eq!(spread.iter().sum::<i64>(), total);
            prop_assert!(spread.iter().zip(&prices).all(|(now, was)| (0..=was + 1).contains(now)));
        }
    }

    #[test]
    fn codes_have_their_time_and_number() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let mut promo = promo(Discount::Amount(1));
        promo.valid_from = Some(at("2026-03-01"));
        promo.valid_until = Some(at("2026-04-01"));
        assert!(promo.objection(at("2026-02-28")).unwrap().contains("2026-03-01"));
        assert_eq!(promo.objection(at("2026-03-01")), None);
        assert!(promo.objection(at("2026-04-01")).unwrap().contains("ended"));
        promo.uses = 2;
        assert!(promo.objection(at("2026-03-01")).unwrap().contains("used up"));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let input = PromoInput {
            code: "OK1".into(),
            discount: Discount::Amount(5),
            max_uses: None,
            valid_from: None,
            valid_until: None,
        };
        let refused =
            |input: PromoInput| input.promo(Uuid::nil().into(), Uuid::nil().into(), 1).unwrap_err().to_string();
        assert!(refused(PromoInput { code: "a b".into(), ..input.clone() }).contains("3 to 40"));
        assert!(refused(PromoInput { discount: Discount::BasisPoints(10_001), ..input.clone() }).contains("10001"));
        assert!(refused(PromoInput { discount: Discount::Amount(0), ..input.clone() }).contains("amount"));
        assert!(refused(PromoInput { max_uses: Some(0), ..input.clone() }).contains("max_uses"));
    }
}
