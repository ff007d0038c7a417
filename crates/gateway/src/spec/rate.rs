//! Rates as people write them: `100/s`.

use std::fmt;
use std::str::FromStr;

use tessera_kernel::{Span, text_on_the_wire};

const PERIODS: [&str; 5] = ["ms", "s", "m", "h", "d"];

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
        let period =
            PERIODS.contains(&unit).then(|| format!("1{unit}").parse()).and_then(Result::ok).ok_or_else(wrong)?;
        Ok(Self { count, period })
    }
}

impl fmt::Display for PerTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.period.to_string().trim_start_matches('1'))
    }
}

text_on_the_wire!(PerTime, "^[0-9]+/(ms|s|m|h|d)$", "100/s");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_read_back_as_written() {
        for text in ["100/s", "600/m", "5/d"] {
            assert_eq!(text.parse::<PerTime>().unwrap().to_string(), text);
        }
        for text in ["0/s", "x/s", "5", "5/w", "5/"] {
            assert!(text.parse::<PerTime>().unwrap_err().contains(text), "{text}");
        }
    }
}
