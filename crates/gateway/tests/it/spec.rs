//! Config files: what is refused, at which line and with which remedy; what the verbs print.

use std::path::Path;

use tessera_gateway::cli::Command;
use tessera_gateway::spec::{Environment, load};

use crate::support::whole;

fn refusal(text: &str) -> String {
    let environment = Environment::from([("SET", "value")]);
    load(text, "g.yaml", Path::new("."), &environment).map(|_| ()).unwrap_err().to_string()
}

/// A config with one route, at line 4, that has this as its rest.
fn with_route(rest: &str) -> String {
    format!(
        "version: 1\nlisteners: [{{ address: \"127.0.0.1:0\" }}]\nroutes:\n  - {{ name: r, match: {{ path: \"/x/{{id}}\" }}, {rest} }}\nupstreams: {{ s: {{ endpoints: [\"http://a:1\"] }} }}\nauth: {{ keys: {{ api_key: {{ consumers: {{}} }} }} }}\n"
    )
}

#[cfg(not(feature = "http3"))]
#[test]
fn a_binary_without_http3_says_so() {
    let told = refusal("version: 1\nlisteners: [{ address: \"127.0.0.1:0\", http3: true, tls: {} }]\nroutes: []\n");
    assert!(told.contains("built without HTTP/3; build it with `--features http3`"), "{told}");
}

#[test]
fn what_is_wrong_is_told_with_line_and_remedy() {
    let listener = "listeners: [{ address: \"127.0.0.1:0\" }]\n";
    for (text, said) in [
        (String::new(), "g.yaml:1: the file is empty"),
        ("version: 2\nlisteners: []\nroutes: []\n".into(), "g.yaml:1: version 2 is not known"),
        ("version: 1\nlisteners: []\nroutes: []\n".into(), "g.yaml:2: there is no listener"),
        (
            "version: 1\nlisteners: [{ address: localhost }]\nroutes: []\n".into(),
            "g.yaml:2: `localhost` is not an address",
        ),
        (format!("version: 1\n{listener}routes: []\nroutes: []\n"), "g.yaml:4: key `routes` stands here a second time"),
        (
            "version: 1\nlisteners: [{ address: \"127.0.0.1:0\", http3: true }]\nroutes: []\n".into(),
            "g.yaml:2: HTTP/3 is never without TLS; add `tls`",
        ),
        (
            "version: 1\nlisteners: [{ address: \"127.0.0.1:0\", http3_port: 443 }]\nroutes: []\n".into(),
            "g.yaml:2: there is no HTTP/3 on this listener",
        ),
        (
            "version: 1\nlisteners:\n  - { address: \"127.0.0.1:0\", http3: true, http3_port: 0, tls: {} }\nroutes: []\n".into(),
            "g.yaml:3: nobody can come by port 0",
        ),
        (format!("version: 1\n{listener}routs: []\n"), "g.yaml:3: unknown key `routs`; did you mean `routes`?"),
        (format!("version: 1\n{listener}"), "key `routes` is missing here"),
        (format!("version: 1\n{listener}routes: []\nlimits: {{ head: 5XB }}\n"), "`5XB` is not a size"),
        (format!("version: 1\n{listener}routes: []\nlimits: {{ drain: 5 }}\n"), "`5` is not a span of time"),
        (format!("version: 1\n{listener}routes: []\ntrusted_proxies: [a]\n"), "`a` is not a block of addresses"),
        (
            format!("version: 1\n{listener}routes: []\naccess_log: {{ file: \"${{UNSET}}\" }}\n"),
            "g.yaml:4: environment variable `UNSET` is not set",
        ),
        (
            format!("version: 1\n{listener}routes: []\nupstreams: {{ s: {{}} }}\n"),
            "g.yaml:4: upstream `s` needs one of `endpoints`, `discover` and `in_process`",
        ),
        (
            format!("version: 1\n{listener}routes: []\nupstreams: {{ s: {{ endpoints: [\"a:1\"] }} }}\n"),
            "`a:1` is not an endpoint",
        ),
        (
            format!("version: 1\n{listener}routes: []\nauth: {{ a: {{ jwt: {{}} }} }}\n"),
            "g.yaml:4: jwt needs `keys`, `jwks` or an `issuer`",
        ),
        (
            format!(
                "version: 1\n{listener}routes: []\nauth: {{ a: {{ jwt: {{ jwks: \"https://x\", algorithms: [HS256] }} }} }}\n"
            ),
            "HS256 cannot be used with a key set",
        ),
        (
            format!(
                "version: 1\n{listener}routes: []\nauth: {{ a: {{ jwt: {{ jwks: \"https://x\", algorithms: [] }} }} }}\n"
            ),
            "without an algorithm no key could be used",
        ),
        (
            format!(
                "version: 1\n{listener}routes: []\nauth: {{ a: {{ jwt: {{ keys: [{{ algorithm: HS256, secret: short }}] }} }} }}\n"
            ),
            "at least 32 bytes",
        ),
        (
            with_route("upstream: s, redirect: { to: / }"),
            "g.yaml:4: route `r` needs exactly one of upstream, split, redirect, respond, aggregate and docs; it has 2",
        ),
        (with_route("upstream: t"), "g.yaml:4: there is no upstream `t`; did you mean `s`?"),
        (
            with_route("upstream: s, rewrite: { path: \"/{ids}\" }"),
            "g.yaml:4: `{ids}` is not known here; did you mean `id`?",
        ),
        (with_route("upstream: s, access: { by: [kays] }"), "there is no `kays` under `auth`; did you mean `keys`?"),
        (with_route("upstream: s, access: { by: [keys], anonymous: true, roles: [a] }"), "nobody has roles"),
        (with_route("upstream: s, rate_limits: [{ name: l, rate: 5, per: [] }]"), "`5` is not a rate"),
        (
            with_route("upstream: s, rate_limits: [{ name: l, rate: 5/s, per: [path:no] }]"),
            "the path has no parameter `no`",
        ),
        (
            with_route("upstream: s, rate_limits: [{ name: l, rate: 5/s, per: [user] }]"),
            "`user` does not tell callers apart",
        ),
        (with_route("split: [{ upstream: s, weight: 1 }], sticky: path:no"), "the path has no parameter `no`"),
        (with_route("upstream: s, mirror: { upstream: s, percent: 101 }"), "101 is no share in per cent"),
        (
            with_route("upstream: g, grpc_web: true, versions: { by: media_type, known: { \"1\": { upstream: s } } }")
                .replace("upstreams: {", "upstreams: { g: { endpoints: [\"http://a:1\"], protocol: http2 },"),
            "g.yaml:4: gRPC needs HTTP/2; give upstream `s` the protocol http2 or negotiate",
        ),
        (
            with_route("upstream: c, grpc_web: true")
                .replace("upstreams: {", "upstreams: { c: { in_process: true, protocol: http2 },"),
            "g.yaml:4: the process's own components speak no gRPC",
        ),
        (
            with_route("upstream: s, versions: { by: media_type, known: { \"1\": { upstream: c } } }, grpc_web: true")
                .replace("upstreams: {", "upstreams: { c: { in_process: true },"),
            "g.yaml:4: the process's own components speak no gRPC",
        ),
        (
            with_route("upstream: s, mirror: { upstream: c }")
                .replace("upstreams: {", "upstreams: { c: { in_process: true },"),
            "the process's own components get no copies",
        ),
        (with_route("redirect: { to: /, status: 200 }"), "200 does not redirect"),
        (with_route("upstream: s, timeout: 0s"), "timeout must be more than 0"),
        (with_route("upstream: s").replace("path: \"/x/{id}\"", "path: x"), "path `x` must start with `/`"),
        (
            with_route("upstream: s").replace("path: \"/x/{id}\"", "path: /, headers: { x: \"~(\" }"),
            "`(` is not a regular expression",
        ),
        (with_route("upstream: s").replace("path: \"/x/{id}\"", "path: /, methods: [get]"), "`get` is not a method"),
        (with_route("upstream: s").replace("path: \"/x/{id}\"", "path: /, roles: [a]"), "needs `access`"),
    ] {
        let refused = refusal(&text);
        assert!(refused.starts_with("g.yaml:") && refused.contains(said), "{text}\n{refused}");
    }
    let defaulted = with_route("upstream: s, request_headers: { set: { x: \"${SET}-${NONE:-default}\" } }");
    let environment = Environment::from([("SET", "value")]);
    let loaded = load(&defaulted, "g", Path::new("."), &environment).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(loaded.gateway.routes[0].request_headers.set["x"].to_string(), "value-default");
}

fn told(arguments: &[&str]) -> (String, bool) {
    #[derive(clap::Parser)]
    struct Line {
        #[command(subcommand)]
        command: Command,
    }
    let line = <Line as clap::Parser>::try_parse_from(std::iter::once(&"gateway").chain(arguments)).unwrap();
    match line.command.run(&Environment::default()) {
        Ok(told) => (told.text, told.is_good),
        Err(error) => (error.to_string(), false),
    }
}

#[test]
fn the_verbs_say_what_a_config_means() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("g.yaml");
    let config = "auth: { keys: { api_key: { consumers: {} } } }\nupstreams: { s: { endpoints: [\"http://a:1\"] } }\nroutes:\n  - { name: order, match: { path: \"/orders/{id}\", methods: [GET] }, upstream: s, access: { by: [keys], roles: [staff] } }\n  - { name: rest, match: { path: /*, hosts: [a.example] }, redirect: { to: / } }\n";
    std::fs::write(&file, whole(config)).unwrap();
    let file = file.to_str().unwrap();
    let (text, good) = told(&["check", file]);
    assert!(good && text.ends_with("good: 1 listener, 2 routes, 1 upstream\n"), "{text}");
    let (text, _) = told(&["routes", file]);
    assert_eq!(
        text,
        "route  methods  hosts      path          to\norder  GET      *          /orders/{id}  s\nrest   ANY      a.example  /*            redirect 308 /\n"
    );
    let (text, good) = told(&["test-request", file, "http://b.example/orders//7?x=1"]);
    assert!(good, "{text}");
    for line in [
        "the path `/orders//7` is read as `/orders/7`",
        "route `order` takes it (path /orders/{id})",
        "id = 7",
        "access by keys, any role of staff",
        "to s within 30s",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let (text, good) = told(&["test-request", file, "http://a.example/orders/7", "-X", "POST"]);
    assert!(good && text.contains("not `order`: it takes GET") || text.contains("route `rest` takes it"), "{text}");
    let (text, good) = told(&["test-request", file, "http://c.example/", "-H", "x: y"]);
    assert!(!good && text.contains("no route takes it"), "{text}");
    assert!(told(&["check", "nowhere.yaml"]).0.contains("there is no such file"));
    assert!(told(&["test-request", file, "orders"]).0.contains("is not a URL"));
    assert!(
        told(&["test-request", file, "http://a.example/", "-X", "GE T"]).0.contains("`GE T` is no method; write one")
    );
    assert!(told(&["json-schema"]).0.contains("\"title\": \"Tessera gateway\""));
}

#[test]
fn what_is_wrong_with_caches_and_codings_is_told_with_its_remedy() {
    for (rest, said) in [
        ("respond: {}, cache: {}", "nothing to keep without an upstream"),
        ("upstream: s, cache: { tag_header: \"a b\" }", "`a b` cannot be the name of a header"),
        ("upstream: s, cache: { object: 0B }", "object must be 1B to 1GiB"),
        ("upstream: s, cache: { by: [user] }", "`user` does not tell callers apart"),
        ("upstream: s, cache: { lifetime: 1m }", "`lifetime`"),
        ("upstream: s, compress: { codings: [] }", "`codings` needs at least one of zstd, br and gzip"),
        ("upstream: s, compress: { types: [html] }", "`html` is not a media type"),
    ] {
        let refused = refusal(&with_route(rest));
        assert!(refused.starts_with("g.yaml:4: ") && refused.contains(said), "{rest}\n{refused}");
    }
    for (cache, said) in [
        ("cache: { memory: 1KiB }", "memory must be at least 1MiB"),
        ("cache: { disk: { folder: kept, size: 1KiB } }", "size must be at least 1MiB"),
    ] {
        let refused = refusal(&format!("{}{cache}\n", with_route("upstream: s, cache: {}")));
        assert!(refused.starts_with("g.yaml:7: ") && refused.contains(said), "{cache}\n{refused}");
    }
}
