//! The page: its words, its escaping, and that no history breaks it.

use proptest::prelude::*;

use super::super::samples::{at, histories, shop};
use super::*;

fn shop_page() -> String {
    page("shop", at(72), &shop())
}

/// What a reader sees: the text between the tags, a line each, without style and what plots tell when pointed at.
fn text_of(html: &str) -> String {
    let without = |html: &str, open: &str, close: &str| {
        let mut parts = html.split(open);
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |text, part| text + part.split_once(close).map_or("", |(_, rest)| rest))
    };
    let html = without(&without(html, "<style>", "</style>"), "<title>", "</title>");
    let texts = html.split('<').filter_map(|part| Some(part.split_once('>')?.1.trim()));
    texts.filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n")
}

/// Names of all tags.
fn tags(html: &str) -> BTreeSet<&str> {
    html.split('<').skip(1).filter_map(|part| part.split([' ', '>', '/', '\n']).find(|name| !name.is_empty())).collect()
}

#[test]
fn the_page_says_everything_in_words() {
    insta::assert_snapshot!(text_of(&shop_page()));
}

#[test]
fn the_page_needs_nothing_else_and_runs_nothing() {
    let html = shop_page();
    for outside in ["http:", "https:", "src=", "@import", "url(", "<link", "javascript:", "onload"] {
        assert!(!html.contains(outside), "{outside}");
    }
    assert!(!tags(&html).contains("script"));
    assert!(html.contains("&lt;script&gt;alert(1)&lt;"), "the column is shown as text");
    assert!(html.contains("items &amp; parts"));
    assert!(html.contains("prefers-color-scheme: dark") && html.contains("width=device-width"));
}

#[test]
fn an_empty_history_says_what_to_do() {
    for histories in [vec![], vec![History { name: "orders".into(), history: vec![] }]] {
        let text = text_of(&page("shop", at(0), &histories));
        assert!(text.contains("tessera ingest run"), "{text}");
    }
}

#[test]
fn a_long_history_is_cut_to_its_latest_runs() {
    let entry = |run: u64| HistoryEntry { run_id: format!("run_{run}"), at: at(run), ..shop()[0].history[0].clone() };
    let history = History { name: "orders".into(), history: (0..500).map(entry).collect() };
    let html = page("shop", at(600), &[history]);
    assert!(html.contains("500 runs, the last 60 shown"));
    assert!(html.contains("run_499") && html.contains("run_440") && !html.contains("run_439"));
}

proptest! {
    /// Any history gives a whole page in which only our own tags stand.
    #[test]
    fn no_history_breaks_the_page(name in ".{0,12}", generated in any::<i64>(), histories in histories()) {
        let html = page(&name, Timestamp::from_micros(generated), &histories);
        prop_assert!(html.trim_end().ends_with("</html>"));
        let ours = tags(include_str!("page.html"));
        let drawn = BTreeSet::from(["svg", "rect", "path", "circle", "line", "text", "title"]);
        for tag in tags(&html) {
            prop_assert!(ours.contains(tag) || drawn.contains(tag), "<{tag}>");
        }
        prop_assert!(!html.contains("NaN"));
    }
}
