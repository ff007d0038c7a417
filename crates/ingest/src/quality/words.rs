//! How the table and the page write numbers, spans and verdicts.

use tessera_kernel::Timestamp;

use super::{Check, CheckStatus, HistoryEntry};

/// With separators: `1,234,567`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A part of a whole in percent; what is not nothing never shows as 0 %, what is not all never as 100 %.
pub(super) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 || part == 0 {
        return "0 %".into();
    }
    let percent = part as f64 / whole as f64 * 100.0;
    match percent {
        p if p < 0.1 => "<0.1 %".into(),
        p if p < 10.0 => format!("{p:.1} %"),
        p if part < whole && p > 99.0 => ">99 %".into(),
        p => format!("{p:.0} %"),
    }
}

/// A span in its natural unit: `42 s`, `3 min`, `2.5 h`, `4 d`.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{:.1} h", seconds as f64 / 3600.0).replace(".0 ", " "),
        _ => format!("{} d", count(seconds / 86_400)),
    }
}

/// To the minute, UTC.
pub(super) fn moment(at: Timestamp) -> String {
    at.to_utc().format("%Y-%m-%d %H:%M").to_string()
}

/// A sign and a word for a verdict.
pub(super) fn verdict(status: CheckStatus) -> (char, &'static str) {
    match status {
        CheckStatus::Passed => ('✓', "passed"),
        CheckStatus::Warned => ('!', "warned"),
        CheckStatus::Failed => ('✗', "failed"),
        CheckStatus::Quarantined => ('⊘', "quarantined"),
    }
}

/// The rule and its column: `not_null email`.
pub(super) fn rule(check: &Check) -> String {
    match &check.column {
        Some(column) => format!("{} {column}", check.rule),
        None => check.rule.clone(),
    }
}

/// Columns with missing values in this run, the worst first.
pub(super) fn worst_nulls(entry: &HistoryEntry) -> Vec<(&str, u64)> {
    let mut nulls: Vec<(&str, u64)> = entry.report.nulls.iter().map(|(name, nulls)| (name.as_str(), *nulls)).collect();
    nulls.retain(|(_, nulls)| *nulls > 0);
    nulls.sort_by_key(|(_, nulls)| std::cmp::Reverse(*nulls));
    nulls
}

/// How many checks came out so: `✓ 4  ✗ 1`.
pub(super) fn tally(checks: &[Check]) -> String {
    let order = [CheckStatus::Passed, CheckStatus::Warned, CheckStatus::Quarantined, CheckStatus::Failed];
    let of = |status| checks.iter().filter(|check| check.status == status).count();
    let parts: Vec<String> = order
        .into_iter()
        .filter(|status| of(*status) > 0)
        .map(|status| format!("{} {}", verdict(status).0, of(status)))
        .collect();
    parts.join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(percent(0, 0), "0 %");
        assert_eq!(
            [1, 50, 4321, 9999, 10_000].map(|n| percent(n, 10_000)),
            ["<0.1 %", "0.5 %", "43 %", ">99 %", "100 %"]
        );
        assert_eq!([5, 90, 3600, 5400, 864_000].map(span), ["5 s", "1 min", "1 h", "1.5 h", "10 d"]);
    }
}
