//! `tessera config print` and `tessera version`.

use tessera_service::VERSION;
use tessera_testkit::ScratchDir;
use tessera_testkit::bin::{Finished, Process, tessera_command};

use crate::tessera;

fn print(arguments: &[&str], environment: &[(&str, &str)]) -> Finished {
    let mut command = tessera_command(tessera());
    command.args(["config", "print"]).args(arguments).envs(environment.iter().copied());
    Process::spawn(&mut command).wait()
}

#[test]
fn it_shows_where_each_setting_is_from_and_no_secret() {
    let scratch = ScratchDir::new();
    let file = scratch.write(
        "tessera.toml",
        "[http]\nbody_limit_bytes = 1000\n[telemetry]\notlp_endpoint = 'https://me:hunter2@collector:4318'\n",
    );
    let environment =
        [("TESSERA__HTTP__REQUEST_TIMEOUT_S", "7"), ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer hunter3")];
    let finished = print(&["--config", file.to_str().unwrap(), "--listen", "127.0.0.1:9"], &environment);
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    let shown = |key: &str| finished.stdout.lines().find(|line| line.starts_with(key)).unwrap_or_default().to_owned();
    for (key, value, origin) in [
        ("listen", r#""127.0.0.1:9""#, "# flag --listen"),
        ("body_limit_bytes", "1000", "tessera.toml`"),
        ("request_timeout_s", "7", "# environment TESSERA__HTTP__REQUEST_TIMEOUT_S"),
        ("otlp_endpoint", r#""https://me:***@collector:4318""#, "tessera.toml`"),
        ("otlp_headers", r#""***""#, "# environment OTEL_EXPORTER_OTLP_HEADERS"),
        ("data_dir", r#""./data""#, "# default"),
    ] {
        let line = shown(key);
        assert!(line.starts_with(&format!("{key} = {value} ")) && line.ends_with(origin), "{key}: {line}");
    }
    assert!(!finished.stdout.contains("hunter"), "{}", finished.stdout);
    let again = scratch.write("again.toml", &finished.stdout);
    assert_eq!(print(&["--config", again.to_str().unwrap()], &[]).code(), Some(0), "what it prints is a config file");
}

#[test]
fn the_section_of_tickets_is_shown_and_knows_its_keys() {
    let finished = print(&[], &[("TESSERA__TICKETS__STORE", "postgres://shop:hunter2@db/tickets")]);
    let (_, section) = finished.stdout.split_once("[tickets]\n").unwrap_or_default();
    assert!(section.contains(r#"store = "postgres://shop:***@db/tickets""#), "{finished:?}");
    assert!(section.contains("# environment TESSERA__TICKETS__STORE") && !section.contains("hunter2"), "{finished:?}");
    let finished = print(&[], &[("TESSERA__TICKETS__STOER", "x")]);
    assert!(finished.code() == Some(2) && finished.stderr.contains("did you mean `tickets.store`?"), "{finished:?}");
}

#[test]
fn an_unknown_variable_is_refused() {
    let finished = print(&[], &[("TESSERA__HTTP__LISTNE", "x")]);
    assert_eq!((finished.code(), finished.stderr.lines().count()), (Some(2), 1), "{finished:?}");
    assert!(finished.stderr.contains("TESSERA__HTTP__LISTNE"), "{finished:?}");
    assert!(finished.stderr.contains("did you mean `http.listen`?"), "{finished:?}");
}

#[test]
fn a_variable_with_a_bad_value_says_why() {
    let finished = print(&[], &[("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318")]);
    let expected = "environment OTEL_EXPORTER_OTLP_ENDPOINT: setting `telemetry.otlp_endpoint` cannot be \
        \"localhost:4318\": not a URL; give one such as http://localhost:4318";
    assert!(finished.code() == Some(2) && finished.stderr.contains(expected), "{finished:?}");
}

#[test]
fn the_version_is_printed() {
    let finished = Process::tessera(tessera(), ["version"]).wait();
    assert_eq!((finished.code(), finished.stdout), (Some(0), format!("tessera {VERSION}\n")));
}
