//! How far a table is behind the lake, and what brings it there.

use std::collections::{BTreeMap, HashSet};

use futures::{StreamExt, TryStreamExt, stream};

use crate::Error;
use crate::lake::Lake;

/// A table that is further behind than this is loaded anew, rather than from so many manifests.
const MAX_BEHIND: u64 = 1000;
/// Manifests read at once.
const READS: usize = 8;

/// What `_tessera_loads` says of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Loaded {
    /// The commit that it is at.
    pub commit: u64,
    /// The run that made this commit: another one under the same number is another lake.
    pub run_id: String,
    /// How rows meet those in the table.
    pub written_as: String,
}

/// What has to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The table has everything.
    Nothing,
    /// Everything anew.
    Full,
    /// The rows of these runs.
    Runs(HashSet<String>),
}

/// A commit, as far as loads care.
pub(super) struct Commit {
    /// The run that made it.
    pub run_id: String,
    by_hand: bool,
    /// By resource, whether everything before was replaced. Those held back are left out.
    replaced: BTreeMap<String, bool>,
}

/// The commits from the oldest that a table is at.
pub(super) async fn commits(
    lake: &Lake,
    loaded: impl Iterator<Item = &Loaded>,
    present: u64,
) -> Result<BTreeMap<u64, Commit>, Error> {
    let near = loaded.map(|loaded| loaded.commit).filter(|commit| present.saturating_sub(*commit) <= MAX_BEHIND);
    let first = near.min().unwrap_or(present).clamp(1, present.max(1));
    let commits = stream::iter(first..=present).map(|number| async move {
        let manifest = lake.manifest(number).await?;
        let touched = manifest.resources.into_iter().filter(|(_, commit)| !commit.held_back);
        let replaced = touched.map(|(name, commit)| (name, commit.replaced)).collect();
        Ok::<_, Error>((number, Commit { run_id: manifest.run_id, by_hand: manifest.kind == "state", replaced }))
    });
    commits.buffered(READS).try_collect().await
}

/// What brings a table from where it is to the last of `commits`. `touching` are the resources that it is made of.
pub(super) fn step(
    loaded: Option<&Loaded>,
    written_as: &str,
    touching: &[&str],
    commits: &BTreeMap<u64, Commit>,
) -> Step {
    let Some(loaded) = loaded else { return Step::Full };
    let same_lake = commits.get(&loaded.commit).is_some_and(|commit| commit.run_id == loaded.run_id);
    if !same_lake || loaded.written_as != written_as {
        return Step::Full;
    }
    let mut runs = HashSet::new();
    for commit in commits.range(loaded.commit + 1..).map(|(_, commit)| commit) {
        let touched: Vec<bool> = touching.iter().filter_map(|name| commit.replaced.get(*name)).copied().collect();
        // A state set by hand may have left out files that the table still has the rows of.
        if commit.by_hand || touched.contains(&true) {
            return Step::Full;
        }
        if !touched.is_empty() {
            runs.insert(commit.run_id.clone());
        }
    }
    if runs.is_empty() { Step::Nothing } else { Step::Runs(runs) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(run: &str, replaced: &[(&str, bool)]) -> Commit {
        let replaced = replaced.iter().map(|(name, replaced)| ((*name).to_owned(), *replaced)).collect();
        Commit { run_id: run.into(), by_hand: run.starts_with("state"), replaced }
    }

    #[test]
    fn a_table_goes_from_where_it_is() {
        let commits = BTreeMap::from([
            (3, commit("c", &[("a", false)])),
            (4, commit("d", &[("b", false)])),
            (5, commit("e", &[("a", false), ("b", true)])),
        ]);
        let at = |commit, run: &str| Loaded { commit, run_id: run.into(), written_as: "append".into() };
        let go = |loaded: Option<&Loaded>, names: &[&str]| step(loaded, "append", names, &commits);
        assert_eq!(go(None, &["a"]), Step::Full);
        assert_eq!(go(Some(&at(5, "e")), &["a"]), Step::Nothing);
        assert_eq!(go(Some(&at(3, "c")), &["a"]), Step::Runs(HashSet::from(["e".to_owned()])));
        assert_eq!(go(Some(&at(3, "c")), &["x"]), Step::Nothing);
        assert_eq!(go(Some(&at(3, "c")), &["b"]), Step::Full, "it was replaced");
        assert_eq!(go(Some(&at(3, "z")), &["a"]), Step::Full, "another lake");
        assert_eq!(go(Some(&at(9, "e")), &["a"]), Step::Full, "the lake began anew");
        assert_eq!(step(Some(&at(5, "e")), "merge(id)", &["a"], &commits), Step::Full, "another way to write");
    }

    #[test]
    fn a_state_set_by_hand_is_loaded_whole() {
        let commits = BTreeMap::from([(1, commit("a", &[("r", false)])), (2, commit("state-reset", &[]))]);
        let at = Loaded { commit: 1, run_id: "a".into(), written_as: "append".into() };
        assert_eq!(step(Some(&at), "append", &["r"], &commits), Step::Full);
    }
}
