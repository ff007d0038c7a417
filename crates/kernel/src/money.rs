//! Money as integer minor units and a currency; never a float.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An ISO 4217 code: three capital letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    /// The euro.
    pub const EUR: Self = Self(*b"EUR");

    /// The code.
    pub fn as_str(&self) -> &str {
        // Made from ASCII letters only.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Digits after the decimal point in this currency's usual notation (ISO 4217): 2 for most.
    pub fn decimals(self) -> u32 {
        match &self.0 {
            b"BIF" | b"CLP" | b"DJF" | b"GNF" | b"ISK" | b"JPY" | b"KMF" | b"KRW" | b"PYG" | b"RWF" | b"UGX"
            | b"VND" | b"VUV" | b"XAF" | b"XOF" | b"XPF" => 0,
            b"BHD" | b"IQD" | b"JOD" | b"KWD" | b"LYD" | b"OMR" | b"TND" => 3,
            _ => 2,
        }
    }
}

impl FromStr for Currency {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match <[u8; 3]>::try_from(text.as_bytes()) {
            Ok(code) if code.iter().all(u8::is_ascii_uppercase) => Ok(Self(code)),
            _ => Err(format!("`{text}` is not a currency: write three capital letters such as EUR")),
        }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// An amount in minor units (cents) of a currency. On the wire `{"amount": 4500, "currency": "EUR"}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Money {
    /// Minor units; negative for what is owed back.
    pub amount: i64,
    /// Of what.
    pub currency: Currency,
}

impl Money {
    /// An amount of a currency.
    pub const fn new(amount: i64, currency: Currency) -> Self {
        Self { amount, currency }
    }

    /// Nothing, in a currency.
    pub const fn zero(currency: Currency) -> Self {
        Self::new(0, currency)
    }

    /// The sum; `None` where the currencies differ or it does not fit.
    pub fn plus(self, other: Self) -> Option<Self> {
        let same = self.currency == other.currency;
        self.amount.checked_add(other.amount).filter(|_| same).map(|amount| Self { amount, ..self })
    }

    /// The difference; `None` where the currencies differ or it does not fit.
    pub fn minus(self, other: Self) -> Option<Self> {
        let same = self.currency == other.currency;
        self.amount.checked_sub(other.amount).filter(|_| same).map(|amount| Self { amount, ..self })
    }

    /// So many times the amount; `None` where it does not fit.
    pub fn times(self, count: i64) -> Option<Self> {
        self.amount.checked_mul(count).map(|amount| Self { amount, ..self })
    }

    /// A share in basis points (1/100 of a per cent), rounded half away from zero; `None` where it does not fit.
    pub fn share(self, basis_points: i64) -> Option<Self> {
        let scaled = i128::from(self.amount) * i128::from(basis_points);
        let half = if scaled < 0 { -5_000 } else { 5_000 };
        i64::try_from((scaled + half) / 10_000).ok().map(|amount| Self { amount, ..self })
    }
}

impl fmt::Display for Money {
    /// `45.00 EUR`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = self.currency.decimals();
        let unit = 10_u64.pow(decimals);
        let (sign, amount) = (if self.amount < 0 { "-" } else { "" }, self.amount.unsigned_abs());
        match decimals {
            0 => write!(f, "{sign}{amount} {}", self.currency),
            _ => {
                let width = decimals as usize;
                write!(f, "{sign}{}.{:0width$} {}", amount / unit, amount % unit, self.currency)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn money(amount: i64, currency: &str) -> Money {
        Money::new(amount, currency.parse().unwrap())
    }

    #[test]
    fn amounts_are_written_as_people_write_them() {
        assert_eq!(money(4500, "EUR").to_string(), "45.00 EUR");
        assert_eq!(money(-5, "EUR").to_string(), "-0.05 EUR");
        assert_eq!(money(1200, "JPY").to_string(), "1200 JPY");
        assert_eq!(money(1234, "KWD").to_string(), "1.234 KWD");
        assert_eq!(serde_json::to_string(&money(1, "EUR")).unwrap(), r#"{"amount":1,"currency":"EUR"}"#);
        assert!("eur".parse::<Currency>().unwrap_err().contains("`eur`"));
    }

    #[test]
    fn currencies_do_not_mix_and_sums_do_not_wrap() {
        assert_eq!(money(1, "EUR").plus(money(2, "EUR")), Some(money(3, "EUR")));
        assert_eq!(money(1, "EUR").plus(money(2, "USD")), None);
        assert_eq!(money(i64::MAX, "EUR").plus(money(1, "EUR")), None);
        assert_eq!(money(i64::MAX, "EUR").times(2), None);
    }

    #[test]
    fn shares_round_half_away_from_zero() {
        assert_eq!(money(1005, "EUR").share(1000), Some(money(101, "EUR")));
        assert_eq!(money(-1005, "EUR").share(1000), Some(money(-101, "EUR")));
        assert_eq!(money(i64::MAX, "EUR").share(10_000), Some(money(i64::MAX, "EUR")));
        assert_eq!(money(i64::MAX, "EUR").share(20_000), None);
    }
}
