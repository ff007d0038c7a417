//! gRPC with peers from another hand: a service and a client on Python's grpcio, on both sides of the gateway.

use serde_json::{Value, json};
use tessera_testkit::greeter::{DESCRIPTORS, Greeter, Trust, call};

use crate::support::{Answer, Door, TIMEOUT, client};
use crate::tls::{authority, certificate};

/// What came of a call: its code, and what the service said.
fn ended(told: &Value) -> (&str, &str) {
    (told["code"].as_str().unwrap(), told["details"].as_str().unwrap())
}

fn texts(told: &Value) -> Vec<&str> {
    told["messages"].as_array().unwrap().iter().map(|message| message["text"].as_str().unwrap()).collect()
}

/// Calls of every kind, and what must come of them.
fn walk(address: std::net::SocketAddr, trust: Trust<'_>) {
    let hello = |name: &str| json!({ "name": name });
    let calls = [
        json!({ "method": "Greet", "hellos": [hello("Ann")], "metadata": { "x-asked-by": "test" }, "timeout_s": 25 }),
        json!({ "method": "Greet", "hellos": [hello("nobody")] }),
        json!({ "method": "Count", "hellos": [{ "name": "Ann", "times": 300 }] }),
        json!({ "method": "Count", "hellos": [{ "name": "midway", "times": 9 }] }),
        json!({ "method": "Count", "hellos": [hello("nobody")] }),
        json!({ "method": "Gather", "hellos": [hello("Ann"), hello("Bo"), hello("Cy")] }),
        json!({ "method": "Chat", "hellos": [hello("Ann"), hello("Bo"), hello("Cy")] }),
    ];
    let told = call(address, trust, &calls);
    let [greeted, nobody, counted, midway, none, gathered, chatted] = &told[..] else { panic!("{told:?}") };
    assert_eq!((ended(greeted), texts(greeted)), (("OK", ""), vec!["hello, Ann"]), "{greeted}");
    let left_ms: u64 = greeted["messages"][0]["leftMs"].as_str().unwrap().parse().unwrap();
    assert!((1..=25_000).contains(&left_ms), "the caller's deadline holds for the service, too: {greeted}");
    assert_eq!(
        (&greeted["initial"]["x-asked-by"], &greeted["trailing"]["x-served-by"]),
        (&"test".into(), &"grpcio".into())
    );
    let rich = json!([{ "reason": "TESTED", "domain": "greeter.example" }]);
    assert_eq!(ended(nobody), ("NOT_FOUND", "nobody is at home: 100% sure, älso"));
    assert_eq!((&nobody["rich"], &nobody["trailing"]["x-served-by"]), (&rich, &"grpcio".into()), "{nobody}");
    assert_eq!((ended(counted), texts(counted).len()), (("OK", ""), 300));
    assert_eq!(counted["messages"][299]["number"], 300, "in their order");
    assert_eq!((ended(midway), texts(midway).len(), &midway["rich"]), (("UNAVAILABLE", "gone"), 2, &rich), "{midway}");
    assert_eq!((ended(none), texts(none).len()), (("NOT_FOUND", "nobody is at home"), 0));
    assert_eq!((ended(gathered), texts(gathered)), (("OK", ""), vec!["hello, Ann and Bo and Cy"]), "{gathered}");
    assert_eq!(
        (ended(chatted), texts(chatted)),
        (("OK", ""), vec!["hello, Ann", "hello, Bo", "hello, Cy"]),
        "{chatted}"
    );
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_every_kind_pass_in_the_clear() {
    let greeter = blocking(|| Greeter::start(None)).await;
    let door = Door::open(&format!(
        "upstreams: {{ greeter: {{ endpoints: [\"http://{}\"], protocol: http2 }} }}\n\
         routes: [{{ name: greeter, match: {{ path: /greeter.v1.Greeter/* }}, upstream: greeter }}]\n",
        greeter.address
    ))
    .await;
    let address = door.address();
    blocking(move || walk(address, Trust::Plain)).await;
    // A deadline ends the call on both sides: the service behind is not left with it.
    let calls = [
        json!({ "method": "Greet", "hellos": [{ "name": "slow" }], "timeout_s": 0.5 }),
        json!({ "method": "Greet", "hellos": [{ "name": "Ann" }] }),
    ];
    let told = blocking(move || call(address, Trust::Plain, &calls)).await;
    assert_eq!(ended(&told[0]).0, "DEADLINE_EXCEEDED");
    assert_eq!(ended(&told[1]).0, "OK", "the connection goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_every_kind_pass_with_tls_on_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    authority(folder.path());
    certificate(folder.path(), "door", "door.example");
    certificate(folder.path(), "greeter", "greeter.example");
    let (chain, key) = (folder.path().join("greeter.pem"), folder.path().join("greeter.key"));
    let greeter = blocking(move || Greeter::start(Some((&chain, &key)))).await;
    let door = Door::open_in(
        folder,
        &format!(
            r#"
listeners: [{{ address: "127.0.0.1:0", tls: {{ certificates: [{{ chain: door.pem, key: door.key }}] }} }}]
upstreams:
  greeter:
    endpoints: ["https://{}"]
    protocol: negotiate
    tls: {{ authorities: ca.pem, name: greeter.example }}
routes: [{{ name: greeter, match: {{ path: /greeter.v1.Greeter/* }}, upstream: greeter }}]
"#,
            greeter.address
        ),
    )
    .await;
    let (address, authority) = (door.address(), door.folder.path().join("ca.pem"));
    blocking(move || walk(address, Trust::Tls(&authority, "door.example"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_gateway_refuses_a_client_understands() {
    let greeter = blocking(|| Greeter::start(None)).await;
    let door = Door::open(&format!(
        "auth: {{ keys: {{ api_key: {{ consumers: {{ ann: {{ hashes: [{}] }} }} }} }} }}\n\
         upstreams: {{ greeter: {{ endpoints: [\"http://{}\"], protocol: http2 }} }}\n\
         routes:\n\
         - {{ name: greet, match: {{ path: /greeter.v1.Greeter/Greet }}, upstream: greeter, access: {{ by: [keys] }} }}\n\
         - {{ name: slow, match: {{ path: /greeter.v1.Greeter/Gather }}, upstream: greeter, body: 10B }}\n",
        tessera_gateway::auth::hash_key("key-of-ann"),
        greeter.address
    ))
    .await;
    let calls = [
        json!({ "method": "Greet", "hellos": [{ "name": "Ann" }] }),
        json!({ "method": "Greet", "hellos": [{ "name": "Ann" }], "metadata": { "x-api-key": "key-of-ann" } }),
        json!({ "method": "Chat", "hellos": [{ "name": "Ann" }] }),
        json!({ "method": "Gather", "hellos": [{ "name": "much longer than ten bytes" }] }),
    ];
    let address = door.address();
    let told = blocking(move || call(address, Trust::Plain, &calls)).await;
    let told: Vec<_> = told.iter().map(ended).collect();
    let wanted = [
        ("UNAUTHENTICATED", "gateway.not_signed_in"),
        ("OK", ""),
        ("UNIMPLEMENTED", "gateway.no_route"),
        ("RESOURCE_EXHAUSTED", "gateway.body_too_large"),
    ];
    assert_eq!(told, wanted);
}

/// The description from a file, and from the service itself.
#[tokio::test(flavor = "multi_thread")]
async fn callers_of_http_and_json_are_understood() {
    let greeter = blocking(|| Greeter::start(None)).await;
    for described in ["descriptors: greeter.pb", "reflection: true"] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("greeter.pb"), DESCRIPTORS).unwrap();
        let config = format!(
            "upstreams: {{ greeter: {{ endpoints: [\"http://{}\"], protocol: http2 }} }}\n\
             routes: [{{ name: greeter, match: {{ path: /v1/* }}, upstream: greeter, \
             transcode: {{ {described}, services: [greeter.v1.Greeter] }} }}]\n",
            greeter.address
        );
        let door = Door::open_in(folder, &config).await;
        let ready = async {
            while door.get("/v1/greetings/Ann", &[]).await.code() == "gateway.no_endpoint" {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(TIMEOUT, ready).await.expect("the service describes itself");
        asked_by_http(&door).await;
    }
}

async fn asked_by_http(door: &Door) {
    let headers = [("x-asked-by", "test"), ("x-request-timeout-ms", "20000")];
    let answer = door.get("/v1/greetings/Ann%20B?times=7", &headers).await;
    assert_eq!((answer.status, &answer.json()["text"]), (200, &"hello, Ann B".into()), "{}", answer.body);
    assert_eq!((answer.header("x-asked-by"), answer.header("content-type")), ("test", "application/json"));
    let left_ms: u64 = answer.json()["leftMs"].as_str().unwrap().parse().unwrap();
    assert!((1..=20_000).contains(&left_ms), "{}", answer.body);
    let answer = door.get("/v1/greetings/nobody", &[]).await;
    let problem = answer.json();
    assert_eq!((answer.status, &problem["grpc_status"]), (404, &"NOT_FOUND".into()), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("nobody is at home: 100% sure, älso"), "{problem}");
    let detail = &problem["grpc_details"][0];
    assert_eq!(detail["@type"], "type.googleapis.com/google.rpc.ErrorInfo", "{problem}");
    assert_eq!((&detail["reason"], &detail["metadata"]), (&"TESTED".into(), &json!({ "at": "home" })), "{problem}");
    let answer = door.get("/v1/greetings/slow", &[("x-request-timeout-ms", "300")]).await;
    let either = ["gateway.upstream_timeout", "gateway.grpc_status"];
    assert!(
        answer.status == 504 && either.contains(&answer.code().as_str()),
        "the service has the same deadline: {}",
        answer.body
    );
    let answer = door.get("/v1/greetings/Ann/count?times=3", &[]).await;
    let numbers: Vec<Value> =
        answer.body.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["number"].clone()).collect();
    assert_eq!((answer.header("content-type"), numbers), ("application/x-ndjson", vec![1.into(), 2.into(), 3.into()]));
    let answer = door.get("/v1/greetings/midway/count?times=3", &[("accept", "text/event-stream")]).await;
    let (_, last) = answer.body.trim_end().rsplit_once("event: error\ndata: ").expect(&answer.body);
    let error = serde_json::from_str::<Value>(last).unwrap()["error"].clone();
    assert_eq!((&error["status"], &error["message"]), (&"UNAVAILABLE".into(), &"gone".into()));
    assert_eq!(error["details"][0]["reason"], "TESTED", "{error}");
    assert_eq!(answer.body.matches("data: {\"text\"").count(), 2, "{}", answer.body);
    assert_eq!(door.get("/v1/greetings/nobody/count", &[]).await.status, 404, "what fails at once has its status");
    let lines = client().post(door.url("/v1/greetings:gather")).header("content-type", "application/x-ndjson");
    let answer = Answer::of(lines.body("{\"name\":\"Ann\"}\n{\"name\":\"Bo\"}\n").send().await.unwrap()).await;
    assert_eq!(answer.json(), json!({ "text": "hello, Ann and Bo", "number": 2 }), "{}", answer.body);
}
