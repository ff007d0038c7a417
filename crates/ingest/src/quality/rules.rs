//! Rules: those that each row keeps or breaks, checked as rows go by, and those about the whole resource, at the end.

use std::collections::HashSet;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, FieldRef, TimeUnit};
use regex::Regex;
use tessera_kernel::Timestamp;

use super::{Check, CheckStatus, Profile, QualityReport};
use crate::lake::{Cursor, column};
use crate::spec::{OnFail, QualityRules};

/// The rules that a single row can break.
#[derive(Debug, Default)]
pub struct RowRules {
    rules: Vec<RowRule>,
}

#[derive(Debug)]
struct RowRule {
    name: &'static str,
    column: String,
    test: Test,
}

#[derive(Debug)]
enum Test {
    NotNull,
    Range { min: f64, max: f64 },
    Accepted(HashSet<String, ahash::RandomState>),
    Matches(Regex),
}

/// Rows of a batch that break a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Which rule: `not_null id`.
    pub label: String,
    /// Row numbers, ascending.
    pub rows: Vec<usize>,
}

impl RowRules {
    /// The row rules among these.
    pub fn new(rules: &QualityRules) -> Self {
        let mut found = Vec::new();
        let mut add = |name, column: &String, test| found.push(RowRule { name, column: column.clone(), test });
        for column in &rules.not_null {
            add("not_null", column, Test::NotNull);
        }
        for (column, range) in &rules.range {
            let (min, max) = (range.min.unwrap_or(f64::NEG_INFINITY), range.max.unwrap_or(f64::INFINITY));
            add("range", column, Test::Range { min, max });
        }
        for (column, values) in &rules.accepted_values {
            add("accepted_values", column, Test::Accepted(values.iter().cloned().collect()));
        }
        for (column, pattern) in &rules.matches {
            // A pattern that does not compile was refused with the pipeline file.
            if let Ok(pattern) = Regex::new(pattern) {
                add("matches", column, Test::Matches(pattern));
            }
        }
        Self { rules: found }
    }

    /// Every rule's label, in order.
    pub fn labels(&self) -> impl Iterator<Item = (String, &'static str, &str)> {
        self.rules.iter().map(|rule| (rule.label(), rule.name, rule.column.as_str()))
    }

    /// The rows of a batch that break rules.
    pub fn check(&self, batch: &RecordBatch) -> Vec<Broken> {
        self.rules.iter().filter_map(|rule| rule.check(batch)).collect()
    }
}

impl RowRule {
    fn label(&self) -> String {
        format!("{} {}", self.name, self.column)
    }

    fn check(&self, batch: &RecordBatch) -> Option<Broken> {
        let rows: Vec<usize> = match column(batch, &self.column) {
            // Without the column every value is missing, which only `not_null` minds.
            None if matches!(self.test, Test::NotNull) => (0..batch.num_rows()).collect(),
            None => vec![],
            Some(column) => match &self.test {
                Test::NotNull if column.null_count() == 0 => vec![],
                Test::NotNull => (0..column.len()).filter(|row| column.is_null(*row)).collect(),
                Test::Range { min, max } => failing_number(&column, |value| value >= *min && value <= *max),
                Test::Accepted(values) => failing_text(&column, |value| values.contains(value)),
                Test::Matches(pattern) => failing_text(&column, |value| pattern.is_match(value)),
            },
        };
        (!rows.is_empty()).then(|| Broken { label: self.label(), rows })
    }
}

/// Rows with a value that does not pass.
fn failing(column: &ArrayRef, passes: impl Fn(usize) -> bool) -> Vec<usize> {
    let rows = 0..column.len();
    match column.nulls() {
        None => rows.filter(|row| !passes(*row)).collect(),
        Some(nulls) => rows.filter(|row| nulls.is_valid(*row) && !passes(*row)).collect(),
    }
}

fn failing_text(column: &ArrayRef, passes: impl Fn(&str) -> bool) -> Vec<usize> {
    match column.as_string_opt::<i32>() {
        Some(texts) => failing(column, |row| passes(texts.value(row))),
        None => failing(column, |row| passes(&text(column.as_ref(), row))),
    }
}

/// What is no number passes.
fn failing_number(column: &ArrayRef, passes: impl Fn(f64) -> bool) -> Vec<usize> {
    match column.data_type() {
        DataType::Int64 => {
            let numbers = column.as_primitive::<Int64Type>();
            failing(column, |row| passes(numbers.value(row) as f64))
        }
        DataType::Float64 => {
            let numbers = column.as_primitive::<Float64Type>();
            failing(column, |row| passes(numbers.value(row)))
        }
        DataType::Utf8 => {
            let texts = column.as_string::<i32>();
            failing(column, |row| texts.value(row).parse().ok().is_none_or(&passes))
        }
        _ => vec![],
    }
}

/// A value as text, as it stands in a path or in `accepted_values`.
pub(crate) fn text(array: &dyn Array, row: usize) -> String {
    match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row).to_owned(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Float64 => array.as_primitive::<Float64Type>().value(row).to_string(),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            Timestamp::from_micros(array.as_primitive::<TimestampMicrosecondType>().value(row)).to_string()
        }
        // The display knows no zone by its name: times inside of structs and lists are shown with theirs as an offset.
        kind => {
            let shown = arrow_cast::cast(&array.slice(row, 1), &with_offsets(kind));
            let text = shown.and_then(|one| arrow_cast::display::array_value_to_string(one.as_ref(), 0));
            text.unwrap_or_else(|error| format!("({error})"))
        }
    }
}

/// The same type, with UTC written as an offset.
fn with_offsets(kind: &DataType) -> DataType {
    let field = |field: &FieldRef| -> FieldRef {
        let kind = with_offsets(field.data_type());
        Field::new(field.name(), kind, field.is_nullable()).into()
    };
    match kind {
        DataType::Timestamp(unit, Some(_)) => DataType::Timestamp(*unit, Some("+00:00".into())),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field).collect()),
        DataType::List(item) => DataType::List(field(item)),
        other => other.clone(),
    }
}

/// What the rules about a whole resource are held against.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The counts of the run.
    pub profile: &'a Profile,
    /// Rows in the lake after it.
    pub rows_total: u64,
    /// Newest cursor in the lake after it.
    pub newest: Option<Cursor>,
    /// Rows that name a row again: by the columns of `unique`.
    pub repeated: u64,
    /// What the schema gained.
    pub schema_changes: &'a [String],
    /// The end of the run.
    pub now: Timestamp,
}

/// The verdict on every rule of a resource.
pub fn judge(rules: &QualityRules, facts: &Facts<'_>) -> Vec<Check> {
    let mut checks = Vec::new();
    let whole = |holds: bool| match (holds, rules.on_fail) {
        (true, _) => CheckStatus::Passed,
        (false, OnFail::Fail) => CheckStatus::Failed,
        (false, OnFail::Warn | OnFail::Quarantine) => CheckStatus::Warned,
    };
    let by_row = |bad: u64| match (bad, rules.on_fail) {
        (0, _) => CheckStatus::Passed,
        (_, OnFail::Warn) => CheckStatus::Warned,
        (_, OnFail::Fail) => CheckStatus::Failed,
        (_, OnFail::Quarantine) => CheckStatus::Quarantined,
    };
    let mut add = |rule: &str, column: Option<&str>, status, bad_rows, detail: String| {
        checks.push(Check { rule: rule.into(), column: column.map(Into::into), status, bad_rows, detail });
    };
    if !rules.unique.is_empty() {
        let columns = rules.unique.join(", ");
        let detail = match facts.repeated {
            0 => format!("each {columns} once"),
            1 => format!("1 row repeats a {columns} of this run"),
            repeated => format!("{repeated} rows repeat a {columns} of this run"),
        };
        add("unique", Some(&columns), by_row(facts.repeated), facts.repeated, detail);
    }
    for (label, name, column) in RowRules::new(rules).labels() {
        let bad = facts.profile.broken.get(&label).copied().unwrap_or(0);
        let rows = if bad == 1 { "1 row has".to_owned() } else { format!("{bad} rows have") };
        let detail = match (bad, name) {
            (0, _) => "every row".to_owned(),
            (_, "not_null") => format!("{rows} no `{column}`"),
            (_, "range") => format!("{rows} a `{column}` out of range"),
            (_, "accepted_values") => format!("{rows} a `{column}` that is not among the accepted values"),
            (_, _) => format!("{rows} a `{column}` that does not match"),
        };
        add(name, Some(column), by_row(bad), bad, detail);
    }
    if let Some(within) = rules.fresh_within {
        let (fresh, detail) = match facts.newest {
            Some(Cursor::At(at)) => {
                (facts.now.since(at) <= within.0, format!("the newest row is of {at}; it may be {within} old"))
            }
            Some(Cursor::Number(_)) | None => {
                (false, "there is no time to tell by: no rows, or no incremental cursor that is a time".to_owned())
            }
        };
        add("fresh_within", None, whole(fresh), 0, detail);
    }
    if let Some(least) = rules.min_rows {
        let rows = facts.rows_total;
        add("min_rows", None, whole(rows >= least), 0, format!("{} of at least {least}", of_rows(rows)));
    }
    if rules.stable_schema == Some(true) {
        let detail = if facts.schema_changes.is_empty() { "no change".into() } else { facts.schema_changes.join("; ") };
        add("stable_schema", None, whole(facts.schema_changes.is_empty()), 0, detail);
    }
    if let Some(expected) = facts.profile.expected_rows().filter(|_| rules.reconcile != Some(false)) {
        let read = facts.profile.rows_read;
        // Without being asked for, the comparison only warns.
        let shrank = facts.profile.shrank > 0;
        let status = match read == expected && !shrank {
            true => CheckStatus::Passed,
            false if rules.reconcile == Some(true) => whole(false),
            false => CheckStatus::Warned,
        };
        let moved = "; rows left the list while it was read, so that others may have been missed";
        let detail = format!("{} read, the API says {expected}{}", of_rows(read), if shrank { moved } else { "" });
        add("reconcile", None, status, read.abs_diff(expected), detail);
    }
    checks
}

fn of_rows(number: u64) -> String {
    format!("{number} row{}", if number == 1 { "" } else { "s" })
}

fn are_rows(number: u64) -> String {
    format!("{} {}", of_rows(number), if number == 1 { "is" } else { "are" })
}

/// The report of a run on one table.
pub fn report(
    profile: &Profile,
    facts: &Facts<'_>,
    checks: Vec<Check>,
    duplicates: u64,
    overlap: u64,
) -> QualityReport {
    let lag_s = match profile.cursor_max {
        Some(Cursor::At(at)) => Some(facts.now.since(at).as_secs()),
        _ => None,
    };
    let mut notes = Vec::new();
    if profile.older_than_asked > 0 {
        notes.push(format!(
            "{} older than asked for; the API may ignore the cursor's parameter",
            are_rows(profile.older_than_asked)
        ));
    }
    if profile.in_the_future > 0 {
        notes.push(format!(
            "{} from the future by the run's clock; the saved cursor stays at the run's start",
            are_rows(profile.in_the_future)
        ));
    }
    if profile.dropped > 0 {
        notes
            .push(format!("{} values of unknown columns were dropped by the schema policy `discard`", profile.dropped));
    }
    QualityReport {
        rows: profile.rows,
        rows_total: facts.rows_total,
        expected_rows: profile.expected_rows(),
        duplicates,
        nulls: profile.nulls(),
        cursor_min: profile.cursor_min,
        cursor_max: profile.cursor_max,
        lag_s,
        schema_changes: facts.schema_changes.to_vec(),
        rescued: profile.rescued,
        quarantined: profile.quarantined,
        overlap,
        notes,
        checks,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Int64Array, StringArray, StructArray, TimestampMicrosecondArray};
    use arrow_schema::Schema;

    use super::*;

    fn rules() -> QualityRules {
        serde_json::from_value(serde_json::json!({
            "not_null": ["id", "gone"], "range": {"id": {"min": 1, "max": 5}},
            "accepted_values": {"s": ["new", "old"]}, "matches": {"s": "^[a-z]+$"}, "min_rows": 10, "on_fail": "fail"
        }))
        .unwrap()
    }

    #[test]
    fn each_rule_names_its_rows() {
        let ids = Int64Array::from(vec![Some(1), None, Some(9)]);
        let states = StringArray::from(vec![Some("new"), Some("X1"), None]);
        let fields = vec![Field::new("id", DataType::Int64, true), Field::new("s", DataType::Utf8, true)];
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![Arc::new(ids), Arc::new(states)]).unwrap();
        let broken = RowRules::new(&rules()).check(&batch);
        let words: Vec<String> = broken.iter().map(|b| format!("{} {:?}", b.label, b.rows)).collect();
        let expected =
            ["not_null id [1]", "not_null gone [0, 1, 2]", "range id [2]", "accepted_values s [1]", "matches s [1]"];
        assert_eq!(words, expected);
    }

    #[test]
    fn times_are_text_wherever_they_are() {
        let micros = 1_700_000_000_000_000;
        let times = TimestampMicrosecondArray::from(vec![None, Some(micros)]).with_timezone("UTC");
        assert_eq!(text(&times, 1), "2023-11-14T22:13:20Z");
        let field = Field::new("at", times.data_type().clone(), true);
        let nested = StructArray::new(vec![field].into(), vec![Arc::new(times)], None);
        assert_eq!(text(&nested, 1), "{at: 2023-11-14T22:13:20Z}");
    }

    #[test]
    fn verdicts_follow_on_fail() {
        let mut profile = Profile { rows: 3, rows_read: 3, expected: Some(4), ..Profile::default() };
        profile.broken.insert("not_null id".into(), 1);
        let facts = Facts {
            profile: &profile,
            rows_total: 3,
            newest: None,
            repeated: 0,
            schema_changes: &[],
            now: Timestamp::default(),
        };
        let checks = judge(&rules(), &facts);
        let status = |rule: &str| checks.iter().find(|check| check.rule == rule).unwrap().status;
        assert_eq!(status("not_null"), CheckStatus::Failed);
        assert_eq!(status("min_rows"), CheckStatus::Failed);
        assert_eq!(status("range"), CheckStatus::Passed);
        assert_eq!(status("reconcile"), CheckStatus::Warned);
    }
}
