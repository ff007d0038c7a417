//! Which requests go where.

use crate::support::{Answer, Door, Service, client, until};

async fn to(door: &Door, path: &str, headers: &[(&str, &str)]) -> String {
    let answer = door.get(path, headers).await;
    format!("{} {}", answer.status, answer.body)
}

/// Routes that answer with their own name.
fn naming(routes: &[(&str, &str)]) -> String {
    let mut text = String::from("routes:\n");
    for (name, matcher) in routes {
        text.push_str(&format!("  - {{ name: {name}, match: {{ {matcher} }}, respond: {{ body: {name} }} }}\n"));
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn the_most_specific_route_takes_a_request() {
    let door = Door::open(&naming(&[
        ("rest", "path: /*"),
        ("order", "path: \"/orders/{id}\""),
        ("new", "path: /orders/new"),
        ("post", "path: \"/orders/{id}\", methods: [POST]"),
        ("beta", "path: \"/orders/{id}\", headers: { x-beta: \"*\" }"),
        ("full", "path: \"/orders/{id}\", query: { full: \"1\" }"),
        ("api", "path: \"/orders/{id}\", hosts: [api.example.com]"),
        ("star", "path: /*, hosts: [\"*.example.com\"]"),
        ("pattern", "path: /numbers, query: { n: \"~[0-9]+\" }"),
    ]))
    .await;
    for (path, headers, expected) in [
        ("/", vec![], "200 rest"),
        ("/orders/7", vec![], "200 order"),
        ("/orders/new", vec![], "200 new"),
        ("/orders/../orders/%6Eew", vec![], "200 new"),
        ("//orders//new", vec![], "200 new"),
        ("/orders/7/items", vec![], "200 rest"),
        ("/orders/7", vec![("x-beta", "no matter")], "200 beta"),
        ("/orders/7?full=1", vec![], "200 full"),
        ("/orders/7?full=2", vec![], "200 order"),
        ("/orders/7", vec![("host", "API.example.com:8080")], "200 api"),
        ("/else", vec![("host", "api.example.com")], "200 star"),
        ("/else", vec![("host", "example.com")], "200 rest"),
        ("/numbers?n=12", vec![], "200 pattern"),
        ("/numbers?n=12a", vec![], "200 rest"),
    ] {
        assert_eq!(to(&door, path, &headers).await, expected, "{path} {headers:?}");
    }
    let posted = Answer::of(client().post(door.url("/orders/7")).send().await.unwrap()).await;
    assert_eq!(posted.body, "post");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_route_takes_is_refused_with_the_reason() {
    let door = Door::open(&naming(&[("one", "path: /one, methods: [GET, PUT]")])).await;
    let missing = door.get("/two", &[]).await;
    assert_eq!((missing.status, missing.code().as_str()), (404, "gateway.no_route"));
    let wrong = Answer::of(client().post(door.url("/one")).send().await.unwrap()).await;
    assert_eq!(
        (wrong.status, wrong.code().as_str(), wrong.header("allow")),
        (405, "gateway.method_not_allowed", "GET, PUT")
    );
    assert_eq!(wrong.json()["side"], "client");
    let head = client().head(door.url("/one")).send().await.unwrap();
    assert_eq!((head.status().as_u16(), &head.headers()["content-length"]), (200, &"3".parse().unwrap()));
    for path in ["/%", "/%00", "/a/../../b"] {
        let answer = door.raw(format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("gateway.bad_path"), "{answer}");
    }
    let traced = door.raw("TRACE / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(traced.starts_with("HTTP/1.1 405"), "{traced}");
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_hosts_and_headers_are_rewritten() {
    let service = Service::named("behind").await;
    let door = Door::open(&format!(
        r#"
upstreams: {{ s: {{ endpoints: ["{}"] }} }}
routes:
  - name: template
    match: {{ path: "/shop/{{shop}}/orders/{{*rest}}" }}
    upstream: s
    rewrite: {{ path: "/v2/orders/{{rest}}", host: inner.example }}
    request_headers: {{ remove: [x-old], set: {{ x-shop: "{{shop}}" }}, add: {{ x-id: "{{request_id}}" }} }}
    response_headers: {{ set: {{ x-served: "{{client_ip}}" }} }}
  - name: prefix
    match: {{ path: /api/* }}
    upstream: s
    rewrite: {{ strip_prefix: /api, add_prefix: /inner }}
    keep_host: false
"#,
        service.url()
    ))
    .await;
    let answer = door.get("/shop/caf%C3%A9%2F/orders/7/items?x=1", &[("x-old", "1"), ("x-request-id", "me")]).await;
    assert_eq!((answer.status, answer.header("x-served")), (200, "127.0.0.1"));
    let got = service.last();
    assert_eq!(got.uri, "/v2/orders/7/items?x=1");
    assert_eq!((got.header("host"), got.header("x-old"), got.header("x-id")), ("inner.example", "", "me"));
    assert_eq!(got.headers["x-shop"].as_bytes(), "café/".as_bytes());
    door.get("/api/a/b", &[]).await;
    assert_eq!(
        (service.last().uri.as_str(), service.last().header("host")),
        ("/inner/a/b", service.address.to_string().as_str())
    );
    door.get("/api", &[]).await;
    assert_eq!(service.last().uri, "/inner/");
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_are_redirected() {
    let door = Door::open(
        r#"
routes:
  - { name: secure, match: { path: /* }, redirect: { to: "https://{host}{path}{query}" } }
  - { name: old, match: { path: "/old/{id}" }, redirect: { to: "/new/{id}", status: 302 } }
"#,
    )
    .await;
    let answer = door.get("/a/b?c=d", &[("host", "a.example")]).await;
    assert_eq!((answer.status, answer.header("location")), (308, "https://a.example/a/b?c=d"));
    let answer = door.get("/old/x%0d%20y", &[]).await;
    assert_eq!(answer.status, 400, "a line break is no parameter");
    let answer = door.get("/old/x%20%2Fy", &[]).await;
    assert_eq!((answer.status, answer.header("location")), (302, "/new/x%20%2Fy"), "one segment stays one");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_escape_in_a_parameter_leads_nowhere_else() {
    let service = Service::named("behind").await;
    let door = Door::open(&format!(
        r#"
upstreams: {{ s: {{ endpoints: ["{}"] }} }}
routes:
  - {{ name: item, match: {{ path: "/items/{{id}}" }}, upstream: s, rewrite: {{ path: "/v2/public/{{id}}" }} }}
  - {{ name: rest, match: {{ path: "/files/{{*rest}}" }}, upstream: s, rewrite: {{ path: "/v2/files/{{rest}}" }} }}
  - {{ name: host, match: {{ path: /by-host }}, upstream: s, rewrite: {{ path: "/hosts/{{host}}" }} }}
  - {{ name: hole, match: {{ path: "/hole/{{*rest}}" }}, upstream: s, rewrite: {{ path: "/v2/{{rest}}/x" }} }}
  - {{ name: moved, match: {{ path: "/moved/{{*rest}}" }}, redirect: {{ to: "/{{rest}}" }} }}
  - {{ name: user, match: {{ path: "/u/{{name}}" }}, redirect: {{ to: "https://a.example/{{name}}/{{name}}" }} }}
"#,
        service.url()
    ))
    .await;
    for (asked, passed) in [
        ("/items/..%2F..%2Fadmin", "/v2/public/..%2F..%2Fadmin"),
        ("/items/%2e%2e%2fadmin", "/v2/public/..%2Fadmin"),
        ("/items/caf%C3%A9", "/v2/public/caf%C3%A9"),
        ("/items/100%25", "/v2/public/100%25"),
        ("/files/a/..%2F..%2Fadmin", "/v2/files/a/..%2F..%2Fadmin"),
        ("/files/a%2Fb/c", "/v2/files/a%2Fb/c"),
        ("/files", "/v2/files/"),
    ] {
        let answer = door.raw(format!("GET {asked} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{asked}: {answer}");
        assert_eq!(service.last().uri, passed, "{asked}");
    }
    let count = service.got().len();
    for (asked, host) in [("/by-host", ".."), ("/hole/", "a")] {
        let answer = door.raw(format!("GET {asked} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{asked}: {answer}");
    }
    assert_eq!(service.got().len(), count, "nothing of it went further");
    for (asked, location) in [
        ("/moved/%2Fevil.example", "/%2Fevil.example"),
        ("/moved/%2F%2Fevil.example", "/%2F%2Fevil.example"),
        ("/moved/a/b%20c", "/a/b%20c"),
        ("/u/%2F..%2Fb", "https://a.example/%2F..%2Fb/%2F..%2Fb"),
    ] {
        let answer = door.raw(format!("GET {asked} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")).await;
        assert!(answer.contains(&format!("\r\nlocation: {location}\r\n")), "{asked}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_says_where_it_leads_from_its_first_letter_on() {
    for to in ["{rest}", "//a.example/{rest}", "{rest}/x"] {
        let text = format!(
            "version: 1\nlisteners: [{{ address: 127.0.0.1:1 }}]\nroutes: [{{ name: r, match: {{ path: \"/{{*rest}}\" }}, redirect: {{ to: \"{to}\" }} }}]\n"
        );
        let refused = tessera_gateway::spec::load(&text, "f", std::path::Path::new("."), &Default::default());
        assert!(refused.unwrap_err().to_string().contains("begin"), "{to}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_shared_out_by_weight_and_stay_where_they_should() {
    let (one, two) = (Service::named("one").await, Service::named("two").await);
    let config = |sticky: &str| {
        format!(
            "upstreams:\n  one: {{ endpoints: [\"{}\"] }}\n  two: {{ endpoints: [\"{}\"] }}\nroutes:\n  - name: canary\n    match: {{ path: /* }}\n    split: [{{ upstream: one, weight: 80 }}, {{ upstream: two, weight: 20 }}]\n{sticky}",
            one.url(),
            two.url()
        )
    };
    let door = Door::open(&config("")).await;
    let client = client();
    for _ in 0..300 {
        client.get(door.url("/")).send().await.unwrap();
    }
    let share = two.got().len();
    assert!((25..110).contains(&share), "about 60 of 300: {share}");
    let door = Door::open(&config("    sticky: header:x-user\n")).await;
    let mut seen = std::collections::BTreeSet::new();
    for user in 0..30 {
        let user = user.to_string();
        let first = door.get("/", &[("x-user", &user)]).await.body;
        assert_eq!(door.get("/", &[("x-user", &user)]).await.body, first);
        seen.insert(first);
    }
    assert_eq!(seen.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_gets_copies_and_its_answers_are_dropped() {
    let (main, mirror) = (Service::named("main").await, Service::named("mirror").await);
    let door = Door::open(&format!(
        "upstreams:\n  main: {{ endpoints: [\"{}\"] }}\n  mirror: {{ endpoints: [\"{}\"] }}\nroutes:\n  - {{ name: all, match: {{ path: /* }}, upstream: main, mirror: {{ upstream: mirror }} }}\n",
        main.url(),
        mirror.url()
    ))
    .await;
    assert_eq!(door.get("/x?y=1", &[("x-kept", "1")]).await.body, "main");
    until("the copy arrives", || !mirror.got().is_empty()).await;
    let copy = mirror.last();
    assert_eq!((copy.uri.as_str(), copy.header("x-kept")), ("/x?y=1", "1"));
    client().post(door.url("/")).body("a body").send().await.unwrap();
    assert_eq!((main.got().len(), mirror.got().len()), (2, 1), "bodies are not copied");
}
