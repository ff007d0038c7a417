//! No secret in what is printed or written: not when the API throws them back at us, compressed or not.

use std::io::Write;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use tessera_testkit::ScratchDir;

use crate::support::{Api, files_below, finish, one, pipeline};

const SECRET: &str = "hunter2-s3cret/+value";
const ISSUED: &str = "issued-t0ken-of-the-api";

/// Gives back, in the body and in a header, all that it was sent.
async fn echo(uri: Uri, headers: HeaderMap) -> Response {
    if uri.path() == "/token" {
        return format!("{{\"access_token\":\"{ISSUED}\",\"expires_in\":600}}").into_response();
    }
    let sent: Vec<String> =
        headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    let sent = format!("{} {}", uri, sent.join("; "));
    let row = serde_json::json!([{ "id": 1, "note": "fine" }]).to_string();
    let back = [("x-your-request", sent.clone())];
    match uri.path() {
        "/r" => (back, row).into_response(),
        "/zipped" => {
            let mut zipped = GzEncoder::new(Vec::new(), Compression::fast());
            zipped
                .write_all(serde_json::json!({ "rows": [{ "id": 1 }], "echo": sent }).to_string().as_bytes())
                .unwrap();
            ([(header::CONTENT_ENCODING, "gzip")], zipped.finish().unwrap()).into_response()
        }
        path => {
            let status: u16 = path.trim_start_matches('/').parse().unwrap();
            (StatusCode::from_u16(status).unwrap(), back, format!("what is this: {sent}")).into_response()
        }
    }
}

/// Every way in which the values may show.
fn shapes(secret: &str) -> Vec<String> {
    use base64::Engine;
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("user:{secret}"));
    let encoded: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    vec![secret.to_owned(), basic, encoded]
}

#[test]
fn secrets_stay_out_of_everything() {
    let api = Api::serve(|_| Router::new().fallback(echo));
    for auth in [
        "{ type: bearer, token: \"${SECRET}\" }",
        "{ type: basic, username: user, password: \"${SECRET}\" }",
        "{ type: api_key, name: X-Key, value: \"${SECRET}\" }",
        "{ type: api_key, name: key, value: \"${SECRET}\", in: query }",
        "{ type: api_key, name: key, value: \"${SECRET}\", in: cookie }",
        "{ type: oauth2, token_url: /token, client_id: user, client_secret: \"${SECRET}\" }",
    ] {
        for path in ["r", "zipped", "400", "401", "403", "404", "500"] {
            let scratch = ScratchDir::new();
            let text = one(&api.base, &scratch.file("lake"), &format!(", auth: {auth}"), "")
                .replace("path: /r", &format!("path: /{path}"));
            let text = text.replace("records: rows", "");
            let file = scratch.write("t.yaml", text);
            let tape = scratch.file("tape");
            let ended = finish(
                &file,
                &["--record", tape.to_str().unwrap()],
                &[("SECRET", SECRET), ("RUST_LOG", "trace"), ("RUST_BACKTRACE", "1")],
            );
            let well = matches!(path, "r" | "zipped");
            assert_eq!(ended.code(), Some(i32::from(!well)), "{auth} {path}: {}", ended.stderr);
            let mut written =
                vec![("stderr".to_owned(), ended.stderr.clone()), ("stdout".to_owned(), ended.stdout.clone())];
            for path in files_below(scratch.path()) {
                let bytes = std::fs::read(&path).unwrap();
                written.push((path.display().to_string(), String::from_utf8_lossy(&bytes).into_owned()));
            }
            assert!(written.iter().any(|(place, _)| place.contains("tape")), "{auth} {path}: nothing was recorded");
            for secret in shapes(SECRET).into_iter().chain([ISSUED.to_owned()]) {
                for (place, text) in &written {
                    // The lake holds the API's rows as they are; the gzip case has the echo outside of them.
                    assert!(!text.contains(&secret), "{auth} {path}: a secret is in {place}: {text}");
                }
            }
            // Whatever was recorded compressed can be read, or it could hide anything.
            for (place, text) in written.iter().filter(|(place, _)| place.contains("tape")) {
                assert!(!text.contains("body_base64"), "{place}: {text}");
            }
        }
    }
}

#[test]
fn a_pipeline_in_a_panic_shows_no_secret() {
    let scratch = ScratchDir::new();
    let text = one(
        "http://127.0.0.1:9",
        scratch.path(),
        &format!(", auth: {{ type: bearer, token: \"{SECRET}\" }}, headers: {{ X-Token: \"{SECRET}\" }}"),
        "",
    ) + &format!(
        "alerts: {{ slack: {{ webhook: \"https://{SECRET}\" }}, pagerduty: {{ routing_key: \"{SECRET}\" }} }}\n"
    ) + &format!("load: [{{ url: \"postgres://user:{}@db/x\" }}]\n", SECRET.replace('/', "%2F"));
    let text = text.replace(
        "destination: {",
        &format!("destination: {{ s3: {{ access_key_id: id, secret_access_key: \"{SECRET}\" }}, "),
    );
    let loaded = pipeline(&text);
    for shown in [
        format!("{loaded:?}"),
        format!("{:?}", loaded.pipeline),
        format!("{:?}", loaded.pipeline.source),
        format!("{:?}", loaded.pipeline.source.auth),
        format!("{:?}", loaded.pipeline.destination),
        format!("{:?}", loaded.pipeline.alerts),
        format!("{:?}", loaded.pipeline.load),
    ] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
