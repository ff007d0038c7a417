//! The documentation says what the code does: each example of `docs/gateway.md` is run, each key has its row, and the
//! published schema is the present one.

use serde_json::json;
use tessera_gateway::spec::json_schema;
use tessera_testkit::reference::{self, text};

use crate::support::{Answer, Door, Service, client, reply};
use crate::tls::{authority, certificate};

/// What the examples' services are described by.
const DESCRIPTION: &str = r#"
openapi: 3.1.0
info: { title: Shop, version: "1" }
paths:
  /orders:
    get:
      summary: All orders
      parameters: [{ name: limit, in: query, schema: { type: integer } }]
      responses: { "200": { description: some } }
"#;

#[test]
fn every_key_has_a_row_in_the_reference() {
    reference::has_a_row_for_every_key("docs/gateway.md", &json_schema(), 93);
}

#[test]
fn every_key_has_its_row_in_the_section_of_its_type() {
    reference::has_a_section_for_every_type("docs/gateway.md", &json_schema(), "Gateway");
}

#[test]
fn the_published_schema_is_the_present_one() {
    reference::is_published("docs/gateway.schema.json", &json_schema());
}

/// An example: a config, and requests with what they are answered.
struct Example {
    config: String,
    requests: Vec<String>,
}

fn examples() -> Vec<Example> {
    let document = text("docs/gateway.md");
    let mut found = Vec::new();
    for part in document.split("```yaml\n").skip(1) {
        let (config, rest) = part.split_once("```").expect("a block that ends");
        let next = rest.split("```yaml\n").next().unwrap_or_default();
        let requests = next.split("```text\n").nth(1).and_then(|block| block.split("```").next()).unwrap_or_default();
        let requests = requests.lines().filter(|line| line.contains(" -> ")).map(str::to_owned).collect();
        found.push(Example { config: config.to_owned(), requests });
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_does_what_is_said_of_it() {
    // The services of the examples tell their name and what they were asked.
    let mut services = Vec::new();
    for port in 9001..=9004 {
        let told = move |got: &crate::support::Got| {
            let subject = got.header("x-auth-subject");
            if got.header("content-type") == "application/grpc" {
                let mut answer = reply(200, "");
                answer.headers_mut().insert("grpc-status", "5".parse().unwrap());
                return answer;
            }
            if got.uri == "/openapi.json" {
                return reply(200, DESCRIPTION);
            }
            if got.header("accept") == "application/json" {
                let id = got.uri.split('?').next().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
                let told = json!({ "service": port, "id": id, "asked": format!("{} {}", got.method, got.uri) });
                let mut answer = reply(200, &told.to_string());
                answer.headers_mut().insert("content-type", "application/json".parse().unwrap());
                return answer;
            }
            let by = if subject.is_empty() { String::new() } else { format!(" for {subject}") };
            reply(200, &format!("{port} {} {}{by}", got.method, got.uri))
        };
        services.push((format!("127.0.0.1:{port}"), Service::start(told).await));
    }
    let mut requests = 0;
    let examples = examples();
    let can_be_served = |example: &&Example| cfg!(feature = "http3") || !example.config.contains("http3: true");
    for Example { config, requests: lines } in examples.iter().filter(can_be_served) {
        let folder = tempfile::tempdir().unwrap();
        authority(folder.path());
        certificate(folder.path(), "shop", "shop.example.com");
        certificate(folder.path(), "wild", "*.example.com");
        let endpoints = services.iter().map(|(_, service)| service.url()).collect::<Vec<_>>().join("\n");
        std::fs::write(folder.path().join("endpoints.txt"), endpoints).unwrap();
        std::fs::write(folder.path().join("shop.openapi.yaml"), DESCRIPTION).unwrap();
        std::fs::write(folder.path().join("shop.pb"), include_bytes!("grpc/shop.pb")).unwrap();
        let mut config = config.clone();
        for (written, service) in &services {
            config = config.replace(written, &service.address.to_string());
        }
        for port in ["0.0.0.0:8080", "0.0.0.0:8443", "127.0.0.1:8080"] {
            config = config.replace(port, "127.0.0.1:0");
        }
        let config = config.strip_prefix("version: 1\n").map_or(config.clone(), str::to_owned);
        let door = Door::open_in(folder, &config).await;
        for line in lines {
            let (asked, expected) = line.split_once(" -> ").unwrap();
            let (method, rest) = asked.split_once(' ').unwrap();
            let (path, headers) = rest.split_once(' ').unwrap_or((rest, ""));
            let mut request = client().request(method.parse().unwrap(), door.url(path));
            for header in headers.trim_matches(['(', ')']).split("; ").filter(|header| !header.is_empty()) {
                let (name, value) = header.split_once(": ").unwrap();
                request = request.header(name, value);
            }
            let answer = Answer::of(request.send().await.unwrap()).await;
            let location = answer.header("location");
            let said = format!("{} {}{location}", answer.status, answer.body);
            let (status, text) = expected.split_once(' ').unwrap_or((expected, ""));
            assert!(said.starts_with(status) && said.contains(text), "{line}\nit answered {said}\nunder\n{config}");
            requests += 1;
        }
    }
    assert!(examples.len() >= 9 && requests >= 25, "{} examples with {requests} requests", examples.len());
}
