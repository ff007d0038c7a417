//! What is wrong with a pipeline at this moment, as the book compares it.

use std::collections::BTreeSet;

use super::SlaStatus;
use crate::quality::{Check, CheckStatus, QualityReport};
use crate::spec::AlertEvent;

/// Causes an alert lists in full; more are counted. An alert is read on a phone.
const LISTED: usize = 10;

/// Something that is wrong, or that changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// What kind of thing.
    pub event: AlertEvent,
    /// Why, in words; may say another number each time.
    pub cause: String,
    /// The same while the cause is the same: this is what decides whether it is news. For
    /// [`AlertEvent::SchemaDrift`] one change, told once.
    pub fingerprint: String,
    /// The resources concerned.
    pub resources: Vec<String>,
    /// The run that found it.
    pub run_id: Option<String>,
}

impl Finding {
    /// A run that failed: the error's `code()` and text, and the resources it failed in.
    pub fn run_failed(run_id: &str, code: &str, detail: &str, resources: &[String]) -> Self {
        Self {
            event: AlertEvent::RunFailed,
            cause: detail.to_owned(),
            fingerprint: format!("{code} {}", resources.join(",")),
            resources: resources.to_vec(),
            run_id: Some(run_id.to_owned()),
        }
    }

    /// A promise that is not kept.
    pub fn sla_missed(status: &SlaStatus) -> Option<Self> {
        let SlaStatus::Missed { what, since, broken } = status else { return None };
        let broken: Vec<String> = broken.iter().map(|promise| format!("{promise:?}")).collect();
        Some(Self {
            event: AlertEvent::SlaMissed,
            cause: what.clone(),
            fingerprint: format!("{} since {since}", broken.join("+")),
            resources: vec![],
            run_id: None,
        })
    }

    /// The rules that rows or resources broke, warnings too; `None` where all held.
    pub fn quality_failed<'a>(
        run_id: &str,
        reports: impl IntoIterator<Item = (&'a str, &'a QualityReport)>,
    ) -> Option<Self> {
        let broken = reports.into_iter().flat_map(|(resource, report)| {
            let broken = report.checks.iter().filter(|check| check.status != CheckStatus::Passed);
            broken.map(move |check| (resource, check))
        });
        let (mut causes, mut prints, mut resources) = (vec![], BTreeSet::new(), BTreeSet::new());
        for (resource, check) in broken {
            causes.push(format!("{resource}: {}", said(check)));
            let column = check.column.as_deref().unwrap_or_default();
            prints.insert(format!("{resource} {} {column} {:?}", check.rule, check.status));
            resources.insert(resource.to_owned());
        }
        (!causes.is_empty()).then(|| Self {
            event: AlertEvent::QualityFailed,
            cause: listed(&causes),
            fingerprint: prints.into_iter().collect::<Vec<_>>().join("; "),
            resources: resources.into_iter().collect(),
            run_id: Some(run_id.to_owned()),
        })
    }

    /// One finding per schema change.
    pub fn schema_drift<'a>(
        run_id: &str,
        reports: impl IntoIterator<Item = (&'a str, &'a QualityReport)>,
    ) -> Vec<Self> {
        let changes = reports.into_iter().flat_map(|(resource, report)| {
            report.schema_changes.iter().map(move |change| (resource, format!("{resource}: {change}")))
        });
        let finding = |(resource, change): (&str, String)| Self {
            event: AlertEvent::SchemaDrift,
            cause: change.clone(),
            fingerprint: change,
            resources: vec![resource.to_owned()],
            run_id: Some(run_id.to_owned()),
        };
        changes.map(finding).collect()
    }
}

fn said(check: &Check) -> String {
    let verdict = match check.status {
        CheckStatus::Passed => "passed",
        CheckStatus::Warned => "warning",
        CheckStatus::Failed => "failed, not committed",
        CheckStatus::Quarantined => "rows quarantined",
    };
    let column = check.column.as_ref().map(|column| format!(" {column}")).unwrap_or_default();
    let detail = if check.detail.is_empty() { format!("{} bad rows", check.bad_rows) } else { check.detail.clone() };
    format!("{}{column} ({verdict}): {detail}", check.rule)
}

/// The first causes a line each, and how many more there are.
pub(super) fn listed(causes: &[String]) -> String {
    let mut lines: Vec<String> = causes.iter().take(LISTED).cloned().collect();
    if causes.len() > LISTED {
        lines.push(format!("and {} more", causes.len() - LISTED));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: &str, status: CheckStatus, bad_rows: u64) -> Check {
        Check { rule: rule.into(), column: Some("id".into()), status, bad_rows, detail: String::new() }
    }

    #[test]
    fn the_same_broken_rule_has_one_fingerprint_whatever_the_count() {
        let report = |bad| QualityReport {
            checks: vec![check("not_null", CheckStatus::Warned, bad), check("unique", CheckStatus::Passed, 0)],
            ..QualityReport::default()
        };
        let (one, two) = (report(1), report(2));
        let found = |report| Finding::quality_failed("run_1", [("orders", report)]).unwrap();
        assert_eq!(found(&one).fingerprint, found(&two).fingerprint);
        assert_eq!(found(&two).cause, "orders: not_null id (warning): 2 bad rows");
        assert_eq!(Finding::quality_failed("run_1", [("orders", &QualityReport::default())]), None);
    }

    #[test]
    fn each_schema_change_is_a_finding() {
        let changes = vec!["added column a: int".to_owned(), "added column b: int".to_owned()];
        let report = QualityReport { schema_changes: changes, ..QualityReport::default() };
        let found = Finding::schema_drift("run_1", [("orders", &report), ("items", &report)]);
        let causes: Vec<_> = found.iter().map(|finding| finding.cause.as_str()).collect();
        assert_eq!(causes[0], "orders: added column a: int");
        assert_eq!(causes.len(), 4);
    }

    #[test]
    fn a_long_list_is_cut_and_counted() {
        let causes: Vec<String> = (0..25).map(|n| n.to_string()).collect();
        assert!(listed(&causes).ends_with("9\nand 15 more"));
    }
}
