//! A card's data, on its way from the buyer to the provider: checked, never stored, never shown.

use std::fmt;

use serde::Deserialize;

/// A card. Its number has 12 to 19 digits and passes the check of ISO/IEC 7812 (Luhn).
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Wire")]
pub struct Card {
    number: String,
    exp_month: u8,
    exp_year: u16,
    cvc: String,
}

/// As it is sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    number: String,
    exp_month: u8,
    exp_year: u16,
    cvc: String,
}

impl TryFrom<Wire> for Card {
    type Error = String;

    fn try_from(wire: Wire) -> Result<Self, String> {
        Self::new(&wire.number, wire.exp_month, wire.exp_year, &wire.cvc)
    }
}

impl Card {
    /// A card from what its owner has typed; spaces and dashes in the number are left out.
    ///
    /// # Errors
    /// Which field is wrong, without its value.
    pub fn new(number: &str, exp_month: u8, exp_year: u16, cvc: &str) -> Result<Self, String> {
        let number: String = number.chars().filter(|c| !matches!(c, ' ' | '-')).collect();
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !(12..=19).contains(&number.len()) || !digits(&number) || !passes_luhn(&number) {
            return Err("`number` is not a card's number; check its digits".into());
        }
        if !(1..=12).contains(&exp_month) {
            return Err("`exp_month` is not a month; write 1 to 12".into());
        }
        let exp_year = if exp_year < 100 { 2000 + exp_year } else { exp_year };
        if !(2000..=2100).contains(&exp_year) {
            return Err("`exp_year` is not a card's year; write it with four digits".into());
        }
        if !(3..=4).contains(&cvc.len()) || !digits(cvc) {
            return Err("`cvc` is not a card's code; write its 3 or 4 digits".into());
        }
        Ok(Self { number, exp_month, exp_year, cvc: cvc.to_owned() })
    }

    /// The digits of its number.
    pub(crate) fn number(&self) -> &str {
        &self.number
    }

    /// The month it is good until.
    pub(crate) fn exp_month(&self) -> u8 {
        self.exp_month
    }

    /// The year of that month.
    pub(crate) fn exp_year(&self) -> u16 {
        self.exp_year
    }

    /// The code on its back.
    pub(crate) fn cvc(&self) -> &str {
        &self.cvc
    }
}

impl fmt::Debug for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Card(…)")
    }
}

fn passes_luhn(number: &str) -> bool {
    let doubled = |digit: u32| if digit > 4 { 2 * digit - 9 } else { 2 * digit };
    let digits = number.bytes().rev().map(|byte| u32::from(byte - b'0'));
    let sum: u32 = digits.enumerate().map(|(at, digit)| if at % 2 == 1 { doubled(digit) } else { digit }).sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_is_checked_and_never_shown() {
        let card = Card::new("4242 4242-4242 4242", 12, 34, "123").unwrap();
        assert_eq!((card.number(), card.exp_year()), ("4242424242424242", 2034));
        assert_eq!(format!("{card:?}"), "Card(…)");
        let read = r#"{"number":"4242424242424242","exp_month":12,"exp_year":2034,"cvc":"123"}"#;
        assert_eq!(serde_json::from_str::<Card>(read).unwrap(), card);
        for (number, month, year, cvc, field) in [
            ("4242424242424241", 12, 2034, "123", "number"),
            ("", 12, 2034, "123", "number"),
            ("４２４２４２４２４２４２４２４２", 12, 2034, "123", "number"),
            ("4242424242424242", 13, 2034, "123", "exp_month"),
            ("4242424242424242", 12, 1999, "123", "exp_year"),
            ("4242424242424242", 12, 2034, "12x", "cvc"),
        ] {
            let error = Card::new(number, month, year, cvc).unwrap_err();
            assert!(error.contains(field), "{error}");
            assert!(number.is_empty() || !error.contains(number), "{error}");
        }
    }
}
