//! Which pages exist, as paths: the list that decides between a redirect and 404.

/// The pages, as in the routes of `assets/main.js`; `*` is any one part, such as a pipeline's name.
pub(crate) const PAGES: &[&[&str]] = &[
    &["ingest", "pipelines"],
    &["ingest", "pipelines", "*"],
    &["ingest", "pipelines", "*", "files"],
    &["ingest", "pipelines", "*", "schema"],
    &["ingest", "pipelines", "*", "quality"],
    &["ingest", "runs"],
    &["ingest", "runs", "*"],
    &["tickets"],
    &["tickets", "events", "*"],
    &["tickets", "events", "*", "waiting-room"],
    &["tickets", "checkout", "*"],
    &["tickets", "orders"],
    &["tickets", "orders", "*"],
    &["tickets", "organiser"],
    &["tickets", "organiser", "venues"],
    &["tickets", "organiser", "plans"],
    &["tickets", "organiser", "new"],
    &["tickets", "organiser", "events", "*"],
    &["tickets", "organiser", "events", "*", "edit"],
    &["tickets", "door"],
    &["rides"],
    &["rides", "driver"],
    &["rides", "operator"],
    &["rides", "operator", "rides", "*"],
    &["gateway"],
    &["sign-in"],
    &["sign-up"],
    &["account"],
    &["authorize"],
];

/// The fragment of the page at `path` (still percent-encoded, no leading slash), when there is such a page.
pub(crate) fn fragment(path: &str) -> Option<String> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let parts: Vec<&str> = path.split('/').collect();
    let fits = |page: &&[&str]| {
        page.len() == parts.len()
            && page.iter().zip(&parts).all(|(want, part)| if *want == "*" { is_name(part) } else { want == part })
    };
    PAGES.iter().any(fits).then(|| parts.join("/"))
}

/// One part of an address that can be a name: not empty, and not a way up the tree, in whatever spelling.
fn is_name(part: &str) -> bool {
    let dots = part.to_ascii_lowercase().replace("%2e", ".");
    !matches!(dots.as_str(), "" | "." | "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_keep_their_encoded_names() {
        assert_eq!(fragment("ingest/pipelines/").as_deref(), Some("ingest/pipelines"));
        assert_eq!(fragment("ingest/pipelines/a%2Fb/quality").as_deref(), Some("ingest/pipelines/a%2Fb/quality"));
        assert_eq!(fragment("ingest/runs/run_1").as_deref(), Some("ingest/runs/run_1"));
        assert_eq!(fragment("tickets/").as_deref(), Some("tickets"));
    }

    #[test]
    fn what_is_no_page_has_no_fragment() {
        for path in [
            "",
            "ingest",
            "ingest/other",
            "ingest/pipelines/a/b",
            "ingest/pipelines//files",
            "ingest/runs/%2E.",
            "tickets/other",
            "tickets/events",
            "tickets/checkout/..",
        ] {
            assert_eq!(fragment(path), None, "{path}");
        }
    }
}
