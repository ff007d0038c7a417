//! The documentation says what the code does: every key of the pipeline file is in the reference, the published schema is
//! the present one, and every pipeline that is shown can be used.

use std::fs;
use std::path::{Path, PathBuf};

use tessera_testkit::reference::{self, text};

use super::{Environment, json_schema, load};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every variable that a shown pipeline names without a default.
fn environment() -> Environment {
    Environment::from([
        ("API_CLIENT_ID", "client"),
        ("API_CLIENT_SECRET", "client-secret"),
        ("API_URL", "https://api.example.com"),
        ("GITHUB_TOKEN", "token-of-github"),
        ("LAKE_BUCKET", "lake"),
        ("PAGERDUTY_KEY", "routing-key"),
        ("SHOP_TOKEN", "token-of-the-shop"),
        ("SLACK_WEBHOOK", "https://hooks.example.com/x"),
        ("WAREHOUSE_URL", "postgres://loader:password@db.example.com/warehouse"),
    ])
}

#[test]
fn every_key_has_a_row_in_the_reference() {
    reference::has_a_row_for_every_key("docs/ingest.md", &json_schema(), 101);
}

#[test]
fn the_published_schema_is_the_present_one() {
    reference::is_published("docs/pipeline.schema.json", &json_schema());
}

#[test]
fn every_example_is_valid_and_has_no_secret_in_plain_text() {
    let mut seen = 0;
    for entry in fs::read_dir(root().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let loaded = load(&fs::read_to_string(&path).unwrap(), &path.display().to_string(), &environment());
            let loaded = loaded.unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(loaded.warnings, Vec::<String>::new());
            seen += 1;
        }
    }
    assert!(seen >= 5, "examples/ has {seen} pipelines");
}

#[test]
fn every_whole_pipeline_in_the_documentation_is_valid() {
    let mut seen = 0;
    for file in ["README.md", "docs/ingest.md"] {
        let document = text(file);
        for block in document.split("```yaml\n").skip(1) {
            let block = block.split("```").next().unwrap_or_default();
            if block.contains("\nresources:") {
                load(block, file, &environment()).unwrap_or_else(|error| panic!("{error}\n{block}"));
                seen += 1;
            }
        }
    }
    assert!(seen >= 2, "the documentation shows {seen} pipelines");
}
