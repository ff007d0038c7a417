//! Spans of time, sizes and rates as people write them: `30s`, `10MiB`, `100/s`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::domain::cidr::Cidr;

const SPANS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// A span of time: a number and `ms`, `s`, `m`, `h` or `d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// Of so many seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// Of so many milliseconds.
    pub const fn millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// In microseconds.
    pub fn micros(self) -> u64 {
        u64::try_from(self.0.as_micros()).unwrap_or(u64::MAX)
    }
}

fn number_and_unit(text: &str) -> (&str, &str) {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    (number, unit.trim())
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a span of time: write it as 500ms, 30s, 5m or 1h");
        let (number, unit) = number_and_unit(text);
        let (_, size) = SPANS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let millis = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*size)).ok_or_else(wrong)?;
        Ok(Self::millis(millis))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let fits = |(_, size): &&(&str, u64)| millis >= *size && millis.is_multiple_of(*size);
        let (unit, size) = SPANS.iter().rev().find(fits).unwrap_or(&("ms", 1));
        write!(f, "{}{unit}", millis / size)
    }
}

/// A size: a number and `B`, `KiB`, `MiB` or `GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a size: write it as 64KiB, 10MiB or 1GiB");
        let (number, unit) = number_and_unit(text);
        let (_, size) = SIZES.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        number.parse::<u64>().ok().and_then(|number| number.checked_mul(*size)).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, size): &&(&str, u64)| self.0 >= *size && self.0.is_multiple_of(*size);
        let (unit, size) = SIZES.iter().find(fits).unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / size)
    }
}

/// A rate: a number, `/`, and `s`, `m`, `h` or `d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerTime {
    /// How many.
    pub count: u64,
    /// In what time.
    pub period: Span,
}

impl FromStr for PerTime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a rate: write it as 100/s, 600/m or 10000/d");
        let (count, unit) = text.split_once('/').ok_or_else(wrong)?;
        let count = count.parse().ok().filter(|count| (1..=1_000_000_000).contains(count)).ok_or_else(wrong)?;
        let period = format!("1{unit}").parse().map_err(|_| wrong())?;
        Ok(Self { count, period })
    }
}

impl fmt::Display for PerTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.period.to_string().trim_start_matches('1'))
    }
}

macro_rules! text_on_the_wire {
    ($type:ident, $pattern:literal, $example:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "examples": [$example] })
            }
        }
    };
}
pub(super) use text_on_the_wire;

text_on_the_wire!(Span, "^[0-9]+ *(ms|s|m|h|d)$", "30s");
text_on_the_wire!(Bytes, "^[0-9]+ *([KMG]i)?B$", "10MiB");
text_on_the_wire!(PerTime, "^[0-9]+/(ms|s|m|h|d)$", "100/s");
text_on_the_wire!(Cidr, "^[0-9a-fA-F.:]+(/[0-9]+)?$", "10.0.0.0/8");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_read_back_as_written() {
        for text in ["500ms", "30s", "5m", "1h", "2d"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        for text in ["7B", "64KiB", "10MiB", "1GiB"] {
            assert_eq!(text.parse::<Bytes>().unwrap().to_string(), text);
        }
        for text in ["100/s", "600/m", "5/d"] {
            assert_eq!(text.parse::<PerTime>().unwrap().to_string(), text);
        }
        for text in ["", "5", "s", "5 minutes", "99999999999999999999s"] {
            assert!(text.parse::<Span>().is_err() && text.parse::<Bytes>().is_err(), "{text}");
        }
        for text in ["0/s", "x/s", "5", "5/w", "5/"] {
            assert!(text.parse::<PerTime>().unwrap_err().contains(text), "{text}");
        }
    }
}
