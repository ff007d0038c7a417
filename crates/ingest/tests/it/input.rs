//! A wrong pipeline file or command line: refused with its place and the remedy, exit code 2, before anything is asked.

use tessera_ingest::spec::{Environment, load};
use tessera_testkit::ScratchDir;

use crate::support::{finish, one};

fn refusal(text: &str) -> String {
    let scratch = ScratchDir::new();
    let file = scratch.write("bad.yaml", text);
    let ended = finish(&file, &[], &[]);
    assert_eq!(ended.code(), Some(2), "{}", ended.stderr);
    let line =
        ended.stderr.lines().find(|line| line.starts_with("tessera: ")).unwrap_or_else(|| panic!("{}", ended.stderr));
    assert_eq!(ended.stdout, "");
    line.replace(scratch.path().to_str().unwrap(), "")
}

const GOOD: &str = "version: 1
name: t
source:
  base_url: http://127.0.0.1:9
resources:
  - name: orders
    path: /orders
destination: { url: /tmp/never-made-by-a-test }
";

#[test]
fn a_wrong_file_is_refused_by_line() {
    for (from, to, wanted) in [
        ("name: t\n", "name: [t\n", &["/bad.yaml:"][..]),
        ("source:\n", "source: { base_url\n", &["/bad.yaml:"]),
        (
            "    path: /orders\n",
            "    path: /orders\n    paht: /orders\n",
            &["bad.yaml:8", "unknown key `paht`", "`path`"],
        ),
        ("name: t\n", "name: t\nresource: []\n", &["bad.yaml:3", "unknown key `resource`", "`resources`"]),
        ("version: 1", "version: 2", &["bad.yaml:1", "version 2 is not known"]),
        ("http://127.0.0.1:9", "${NO_SUCH_VARIABLE}", &["bad.yaml:4", "NO_SUCH_VARIABLE", "export it"]),
        ("http://127.0.0.1:9", "127.0.0.1", &["bad.yaml:4", "not an http or https URL"]),
        ("    path: /orders\n", "    path: /orders\n    primary_key: 5\n", &["bad.yaml:8"]),
        ("    path: /orders\n", "    path: /orders/{customers.id}\n", &["names no resource above"]),
        ("    path: /orders\n", "    path: /orders\n    write: merge\n", &["merge needs a primary_key"]),
        ("destination:", "destinations:", &["unknown key `destinations`", "`destination`"]),
        (
            "/tmp/never-made-by-a-test",
            "\"ftp://host/lake\"",
            &["bad.yaml:8", "`ftp://host/lake`", "s3://bucket/prefix"],
        ),
        ("/tmp/never-made-by-a-test", "\"s3:///lake\"", &["bad.yaml:8", "`s3:///lake`", "s3://bucket/prefix"]),
        (
            "    path: /orders\n",
            "    path: /orders\n    paginator:\n      param: p\n      type: pages\n",
            &["bad.yaml:10", "unknown value `pages`", "did you mean `page`?"],
        ),
        (
            "/tmp/never-made-by-a-test }",
            "/tmp/x, format: parqet }",
            &["bad.yaml:8", "`parqet`", "did you mean `parquet`?"],
        ),
        (
            "    path: /orders\n",
            "    path: /orders\n    write: everything\n",
            &["bad.yaml:8", "unknown value `everything`", "known values are replace, append, merge"],
        ),
        (
            "  base_url: http://127.0.0.1:9\n",
            "  base_url: http://127.0.0.1:9\n  auth: { type: beerer, token: \"${TOKEN:-t}\" }\n",
            &["bad.yaml:5", "unknown value `beerer`; did you mean `bearer`?"],
        ),
        (
            "  base_url: http://127.0.0.1:9\n",
            "  base_url: http://127.0.0.1:9\n  auth: { type: bearer, tokn: \"${TOKEN:-t}\" }\n",
            &["bad.yaml:5", "unknown key `tokn`; did you mean `token`?"],
        ),
        (
            "  base_url: http://127.0.0.1:9\n",
            "  base_url: http://127.0.0.1:9\n  rate_limit: 5\n",
            &["bad.yaml:5", "keys and values are expected here"],
        ),
        (
            "  base_url: http://127.0.0.1:9\n",
            "  base_url: http://127.0.0.1:9\n  concurrency: many\n",
            &["bad.yaml:5", "a whole number of 0 or more is expected here"],
        ),
        ("    path: /orders\n", "", &["key `path` is missing here; add it"]),
        ("    path: /orders\n", "    path: /orders\n    method: PUT\n", &["bad.yaml:8", "known values are GET, POST"]),
    ] {
        assert!(GOOD.contains(from), "{from}");
        let message = refusal(&GOOD.replace(from, to));
        for wanted in wanted {
            assert!(message.contains(wanted), "{to}: `{wanted}` is not in: {message}");
        }
    }
}

#[test]
fn children_of_an_incremental_parent_cannot_replace() {
    let text = "version: 1
name: t
source: { base_url: http://127.0.0.1:9 }
defaults: { primary_key: [id] }
resources:
  - { name: orders, path: /orders, incremental: { cursor: updated_at, param: since } }
  - { name: items, path: \"/orders/{orders.id}/items\", write: replace }
destination: { url: /tmp/never-made-by-a-test }
";
    let message = load(text, "t.yaml", &Environment::default()).unwrap_err().to_string();
    assert!(message.contains("t.yaml:7") && message.contains("use merge or append"), "{message}");
}

#[test]
fn a_secret_in_plain_text_is_warned_of_and_not_shown() {
    let scratch = ScratchDir::new();
    let text =
        one("http://127.0.0.1:9", &scratch.file("lake"), ", auth: { type: bearer, token: plain-text-token }", "");
    let file = scratch.write("t.yaml", text);
    let ended = finish(&file, &["--dry-run"], &[]);
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("t.yaml:3") && ended.stderr.contains("secret in plain text"), "{}", ended.stderr);
    assert!(ended.stderr.contains("${TOKEN}"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("plain-text-token") && !ended.stdout.contains("plain-text-token"));
}

#[test]
fn a_wrong_command_line_names_the_flag() {
    let scratch = ScratchDir::new();
    let cursor = ", incremental: { cursor: at, param: since }";
    let file = scratch.write("t.yaml", one("http://127.0.0.1:9", &scratch.file("lake"), "", cursor));
    for (flags, wanted) in [
        (&["--run-type", "sometimes"][..], &["--run-type", "backfill or incremental"][..]),
        (&["--run-type", "full"], &["--run-type", "`full`", "backfill or incremental"]),
        (&["--resources", "r,s"], &["--resources", "there is no resource `s`", "there are r"]),
        (&["--from", "yesterday"], &["--from", "yesterday"]),
        (&["--from", "2024-02-01", "--to", "2024-01-01"], &["--to", "is not after --from"]),
        (&["--limit", "0"], &["--limit", "1 or more"]),
        (&["--replay", "/no/such/folder"], &["--replay", "/no/such/folder", "--record"]),
        (&["--record", "/dev/null/tape"], &["--record", "/dev/null/tape", "choose a folder"]),
    ] {
        let ended = finish(&file, flags, &[]);
        assert_eq!(ended.code(), Some(2), "{flags:?}: {}", ended.stderr);
        wanted.iter().for_each(|wanted| assert!(ended.stderr.contains(wanted), "{flags:?}: {}", ended.stderr));
    }
    let ended = finish(&file, &[], &[("RUN_TYPE", "weekly")]);
    assert!(ended.code() == Some(2) && ended.stderr.contains("RUN_TYPE: `weekly`"), "{}", ended.stderr);
    let ended = finish(&file, &[], &[("RUN_LIMIT", "many")]);
    assert!(ended.code() == Some(2) && ended.stderr.contains("RUN_LIMIT: `many`"), "{}", ended.stderr);
    let ended = finish(&scratch.file("none.yaml"), &[], &[]);
    assert!(ended.code() == Some(2) && ended.stderr.contains("tessera ingest init"), "{}", ended.stderr);
}
