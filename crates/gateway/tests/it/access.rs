//! Who may: tokens and attacks on them, keys, passwords.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use tessera_gateway::auth::hash_key;
use tessera_kernel::Clock;

use crate::support::{Door, Service, reply};
use crate::tls::openssl;

const SECRET: &str = "a-secret-of-at-least-32-bytes-long!";

/// `open:sesame`, stretched a little only: the tests are not optimised.
const PASSWORD: &str = "pbkdf2-sha256:1000:c2l4dGVlbiBieXRlcyBvaw==:U330RA7PLiqdlJy2heJTRtPRkB0hoTCtRkqTAsLm3YE=";

/// Keys of an issuer.
struct Issuer {
    ed: Vec<u8>,
    es: Vec<u8>,
}

impl Issuer {
    fn new() -> Self {
        let random = SystemRandom::new();
        let ed = Ed25519KeyPair::generate_pkcs8(&random).unwrap().as_ref().to_vec();
        let es = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap().as_ref().to_vec();
        Self { ed, es }
    }

    fn ed_jwk(&self, kid: &str) -> Value {
        let pair = Ed25519KeyPair::from_pkcs8(&self.ed).unwrap();
        let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "use": "sig", "alg": "EdDSA", "x": x })
    }

    fn es_jwk(&self, kid: &str) -> Value {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &self.es, &SystemRandom::new()).unwrap();
        let point = &pair.public_key().as_ref()[1..];
        let [x, y] = [&point[..32], &point[32..]].map(|half| URL_SAFE_NO_PAD.encode(half));
        json!({ "kty": "EC", "crv": "P-256", "kid": kid, "x": x, "y": y })
    }

    fn ed_token(&self, kid: &str, claims: &Value) -> String {
        sign(Algorithm::EdDSA, Some(kid), claims, &EncodingKey::from_ed_der(&self.ed))
    }
}

fn sign(algorithm: Algorithm, kid: Option<&str>, claims: &Value, key: &EncodingKey) -> String {
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
    encode(&header, claims, key).unwrap()
}

fn claims(door: &Door, more: Value) -> Value {
    let now_s = door.clock.now().micros() / 1_000_000;
    let mut claims = json!({ "sub": "ann", "iss": "https://id.example", "aud": ["shop"], "exp": now_s + 600, "roles": ["fan"], "scope": "read write" });
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

async fn ask(door: &Door, path: &str, token: &str) -> (u16, String) {
    let answer = door.get(path, &[("authorization", &format!("Bearer {token}"))]).await;
    let code = if answer.status < 400 { answer.body.clone() } else { answer.code() };
    (answer.status, code)
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_every_algorithm_hold_and_forged_ones_do_not() {
    let folder = tempfile::tempdir().unwrap();
    openssl(folder.path(), "genrsa -out rsa.key 2048");
    openssl(folder.path(), "rsa -in rsa.key -pubout -out rsa.pem");
    openssl(folder.path(), "ecparam -name prime256v1 -genkey -noout -out ec.sec1");
    openssl(folder.path(), "pkcs8 -topk8 -nocrypt -in ec.sec1 -out ec.key");
    openssl(folder.path(), "ec -in ec.sec1 -pubout -out ec.pem");
    openssl(folder.path(), "genpkey -algorithm ed25519 -out ed.key");
    openssl(folder.path(), "pkey -in ed.key -pubout -out ed.pem");
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    let (rsa, ec, ed, public) = (read("rsa.key"), read("ec.key"), read("ed.key"), read("rsa.pem"));
    let service = Service::start(|got| reply(200, got.header("x-auth-subject"))).await;
    let door = Door::open_in(
        folder,
        &format!(
            r#"
auth:
  main:
    jwt:
      issuer: https://id.example
      audience: [shop]
      keys:
        - {{ id: rsa, algorithm: RS256, file: rsa.pem }}
        - {{ id: ec, algorithm: ES256, file: ec.pem }}
        - {{ id: ed, algorithm: EdDSA, file: ed.pem }}
        - {{ id: hs, algorithm: HS256, secret: {SECRET} }}
upstreams: {{ s: {{ endpoints: ["{}"] }} }}
routes:
  - {{ name: any, match: {{ path: /any }}, upstream: s, access: {{ by: [main] }} }}
  - {{ name: open, match: {{ path: /open }}, upstream: s, access: {{ by: [main], anonymous: true }} }}
  - {{ name: admin, match: {{ path: /admin }}, upstream: s, access: {{ by: [main], roles: [admin] }} }}
  - {{ name: scoped, match: {{ path: /scoped }}, upstream: s, access: {{ by: [main], scopes: [read, delete] }} }}
  - {{ name: own, match: {{ path: "/users/{{user}}" }}, upstream: s, access: {{ by: [main], claims: {{ sub: "{{user}}" }} }} }}
  - {{ name: vip, match: {{ path: /lounge, roles: [vip] }}, upstream: s, access: {{ by: [main] }} }}
  - {{ name: lobby, match: {{ path: /lounge }}, respond: {{ body: lobby }} }}
"#,
            service.url()
        ),
    )
    .await;
    let good = claims(&door, json!({}));
    let hs_key = EncodingKey::from_secret(SECRET.as_bytes());
    let tokens = [
        sign(Algorithm::RS256, Some("rsa"), &good, &EncodingKey::from_rsa_pem(&rsa).unwrap()),
        sign(Algorithm::ES256, Some("ec"), &good, &EncodingKey::from_ec_pem(&ec).unwrap()),
        sign(Algorithm::EdDSA, Some("ed"), &good, &EncodingKey::from_ed_pem(&ed).unwrap()),
        sign(Algorithm::HS256, Some("hs"), &good, &hs_key),
        // Without a name every key is tried, each with its own algorithm.
        sign(Algorithm::ES256, None, &good, &EncodingKey::from_ec_pem(&ec).unwrap()),
    ];
    for token in &tokens {
        for _ in 0..2 {
            assert_eq!(ask(&door, "/any", token).await, (200, "ann".into()));
        }
    }
    let got = service.last();
    assert_eq!((got.header("x-auth-roles"), got.header("x-auth-scopes")), ("fan", "read write"));

    let hs = |more: Value| sign(Algorithm::HS256, Some("hs"), &claims(&door, more), &hs_key);
    let now_s = door.clock.now().micros() / 1_000_000;
    let unsigned = format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), tokens[0].split('.').nth(1).unwrap());
    let parts: Vec<&str> = tokens[3].split('.').collect();
    let other_claims = URL_SAFE_NO_PAD.encode(claims(&door, json!({ "sub": "eve" })).to_string());
    let critical = Header { kid: Some("hs".into()), ..Header::new(Algorithm::HS256) };
    let critical = {
        let mut header = serde_json::to_value(critical).unwrap();
        header["crit"] = json!(["b64"]);
        let head = URL_SAFE_NO_PAD.encode(header.to_string());
        let signed = format!("{head}.{}", parts[1]);
        let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &hs_key, Algorithm::HS256).unwrap();
        format!("{signed}.{signature}")
    };
    for (attack, token) in [
        ("alg none", unsigned.clone()),
        ("alg none with a signature", format!("{unsigned}x")),
        // A public key as the secret of HS256: the classic confusion.
        ("key confusion", sign(Algorithm::HS256, Some("rsa"), &good, &EncodingKey::from_secret(&public))),
        ("key confusion without kid", sign(Algorithm::HS256, None, &good, &EncodingKey::from_secret(&public))),
        ("another key's name", sign(Algorithm::HS256, Some("ed"), &good, &hs_key)),
        ("an unknown kid", sign(Algorithm::HS256, Some("../../dev/null"), &good, &hs_key)),
        ("a kid with an injection", sign(Algorithm::HS256, Some("x' or '1'='1"), &good, &hs_key)),
        ("another secret", sign(Algorithm::HS256, Some("hs"), &good, &EncodingKey::from_secret(b"other"))),
        ("exchanged claims", format!("{}.{other_claims}.{}", parts[0], parts[2])),
        ("a critical extension", critical),
        ("expired", hs(json!({ "exp": now_s - 60 }))),
        ("no end", hs(json!({ "exp": null }))),
        ("an end that is no time", hs(json!({ "exp": "tomorrow" }))),
        ("not yet valid", hs(json!({ "nbf": now_s + 600 }))),
        ("another audience", hs(json!({ "aud": "other" }))),
        ("another issuer", hs(json!({ "iss": "https://evil.example" }))),
        ("four parts", format!("{}.x", tokens[3])),
        ("nothing", ".".into()),
        ("too long", "a".repeat(9000)),
    ] {
        assert_eq!(ask(&door, "/any", &token).await, (401, "gateway.bad_credentials".into()), "{attack}");
        assert_eq!(ask(&door, "/open", &token).await.0, 401, "{attack}: not even where nobody may pass");
    }
    let nobody = door.get("/any", &[]).await;
    assert_eq!(
        (nobody.status, nobody.code().as_str(), nobody.header("www-authenticate")),
        (401, "gateway.not_signed_in", "Bearer")
    );
    assert_eq!(door.get("/open", &[("x-auth-subject", "admin")]).await.body, "", "nobody has no name");

    assert_eq!(ask(&door, "/admin", &tokens[0]).await, (403, "gateway.forbidden".into()));
    assert_eq!(ask(&door, "/admin", &hs(json!({ "roles": ["admin"] }))).await.0, 200);
    assert_eq!(ask(&door, "/scoped", &tokens[0]).await.0, 403);
    assert_eq!(ask(&door, "/scoped", &hs(json!({ "scope": "delete read" }))).await.0, 200);
    assert_eq!(ask(&door, "/users/ann", &tokens[0]).await.0, 200);
    assert_eq!(ask(&door, "/users/bob", &tokens[0]).await.0, 403);
    assert_eq!(ask(&door, "/lounge", &tokens[0]).await.1, "lobby");
    assert_eq!(ask(&door, "/lounge", &hs(json!({ "roles": ["vip"] }))).await.1, "ann");

    // What is remembered ends with the token.
    door.clock.advance(Duration::from_secs(700));
    assert_eq!(ask(&door, "/any", &tokens[0]).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn key_sets_are_fetched_once_and_again_when_a_key_is_new() {
    let issuer = Arc::new(Issuer::new());
    let fetches = Arc::new(AtomicUsize::new(0));
    let (counted, keys) = (fetches.clone(), issuer.clone());
    let jwks = Service::start(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        let unusable = json!({ "kty": "oct", "kid": "shared", "k": URL_SAFE_NO_PAD.encode(SECRET) });
        let foreign = json!({ "kty": "XYZ", "kid": "foreign" });
        reply(200, &json!({ "keys": [keys.ed_jwk("ed"), keys.es_jwk("es"), unusable, foreign] }).to_string())
    })
    .await;
    let door = Door::open(&format!(
        "auth: {{ main: {{ jwt: {{ jwks: \"{}/keys\" }} }} }}\nroutes: [{{ name: any, match: {{ path: /* }}, respond: {{ body: ok }}, access: {{ by: [main] }} }}]\n",
        jwks.url()
    ))
    .await;
    let token = issuer.ed_token("ed", &claims(&door, json!({})));
    let asked = futures::future::join_all((0..20).map(|_| ask(&door, "/", &token))).await;
    assert!(asked.iter().all(|answer| answer.0 == 200), "{asked:?}");
    assert_eq!(fetches.load(Ordering::SeqCst), 1, "one flight for all");
    let es = sign(Algorithm::ES256, Some("es"), &claims(&door, json!({})), &EncodingKey::from_ec_der(&issuer.es));
    assert_eq!(ask(&door, "/", &es).await.0, 200);
    // Keys that nobody has: a storm of them costs no fetch within the cool-down.
    for kid in 0..20 {
        let token = issuer.ed_token(&format!("unknown-{kid}"), &claims(&door, json!({})));
        assert_eq!(ask(&door, "/", &token).await.0, 401);
    }
    let shared =
        sign(Algorithm::HS256, Some("shared"), &claims(&door, json!({})), &EncodingKey::from_secret(SECRET.as_bytes()));
    assert_eq!(ask(&door, "/", &shared).await.0, 401, "a key set has no secrets");
    assert_eq!(fetches.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_is_down_is_not_the_callers_fault() {
    let door = Door::open(
        "auth: { main: { jwt: { jwks: \"http://127.0.0.1:9/keys\" } } }\nroutes: [{ name: any, match: { path: /* }, respond: {}, access: { by: [main] } }]\n",
    )
    .await;
    let token = Issuer::new().ed_token("ed", &claims(&door, json!({})));
    let answer = door.get("/", &[("authorization", &format!("Bearer {token}"))]).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "gateway.keys_unavailable"));
    assert_eq!(answer.json()["side"], "upstream");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_passwords() {
    let service = Service::start(|got| reply(200, got.header("x-auth-subject"))).await;
    let door = Door::open(&format!(
        r#"
auth:
  keys: {{ api_key: {{ consumers: {{ shop: {{ hashes: [{}], roles: [partner] }} }} }} }}
  people: {{ basic: {{ users: {{ ann: {{ password: "{}" }} }} }} }}
upstreams: {{ s: {{ endpoints: ["{}"] }} }}
routes: [{{ name: any, match: {{ path: /* }}, upstream: s, access: {{ by: [keys, people] }} }}]
"#,
        hash_key("key-of-the-shop"),
        PASSWORD,
        service.url()
    ))
    .await;
    let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
    assert_eq!(door.get("/", &[("x-api-key", "key-of-the-shop")]).await.body, "shop");
    let got = service.last();
    assert_eq!((got.header("x-api-key"), got.header("x-auth-roles")), ("", "partner"), "the key stays here");
    for _ in 0..2 {
        assert_eq!(door.get("/", &[("authorization", &basic("ann:open:sesame"))]).await.body, "ann");
    }
    assert_eq!(service.last().header("authorization"), "");
    for headers in [
        ("x-api-key", "another".to_owned()),
        ("x-api-key", String::new()),
        ("authorization", basic("ann:wrong")),
        ("authorization", basic("eve:open:sesame")),
        ("authorization", "Basic !!".to_owned()),
    ] {
        let answer = door.get("/", &[(headers.0, &headers.1)]).await;
        assert_eq!((answer.status, answer.code().as_str()), (401, "gateway.bad_credentials"), "{headers:?}");
    }
    let nobody = door.get("/", &[]).await;
    assert_eq!(
        nobody.header("www-authenticate"),
        "ApiKey header=\"x-api-key\", Basic realm=\"gateway\", charset=\"UTF-8\""
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_cannot_be_forged() {
    let service = Service::start(|_| reply(200, "ok")).await;
    let door = Door::open(&format!(
        r#"
trusted_proxies: [127.0.0.1]
auth:
  main: {{ jwt: {{ keys: [{{ id: hs, algorithm: HS256, secret: {SECRET} }}] }} }}
  keys: {{ api_key: {{ consumers: {{}} }} }}
upstreams: {{ s: {{ endpoints: ["{}"] }} }}
routes:
  - name: open
    match: {{ path: /* }}
    upstream: s
    access: {{ by: [main, keys], anonymous: true }}
    request_headers: {{ set: {{ x-tenant: "of-the-gateway" }} }}
"#,
        service.url()
    ))
    .await;
    // Services that see headers as variables take `_` and other signs for `-`.
    let forged = "x_auth_subject: admin\r\nX-Auth_Roles: admin\r\nx.auth.scopes: all\r\nx-auth-subject: admin\r\nx_forwarded_for: 10.9.9.9\r\nx_request_id: theirs\r\nx_tenant: other\r\nx_api_key: k\r\nx_kept: yes\r\n";
    let answer = door.raw(format!("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{forged}\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let got = service.last();
    let dashed = |name: &str| name.replace(['_', '.'], "-");
    for (name, values) in [
        ("x-auth-subject", vec![]),
        ("x-auth-roles", vec![]),
        ("x-auth-scopes", vec![]),
        ("x-tenant", vec!["of-the-gateway"]),
        ("x-forwarded-for", vec!["127.0.0.1"]),
        ("x-api-key", vec![]),
        ("x-kept", vec!["yes"]),
    ] {
        let found: Vec<_> = got.headers.iter().filter(|(known, _)| dashed(known.as_str()) == name).collect();
        assert_eq!(found.iter().map(|(_, value)| value.to_str().unwrap()).collect::<Vec<_>>(), values, "{name}");
    }
    // Trailers are headers to some services: they end here.
    let chunked = "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\ntrailer: x-auth-subject, x_auth_roles, x-sum\r\n\r\n3\r\nabc\r\n0\r\nx-auth-subject: admin\r\nx_auth_roles: admin\r\nx-sum: 7\r\n\r\n";
    let answer = door.raw(chunked).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let got = service.last();
    assert_eq!(got.trailers.keys().map(|name| name.as_str()).collect::<Vec<_>>(), [] as [&str; 0], "{got:?}");
    let refused = door.raw(chunked.replace("x-sum", "authorization")).await;
    assert!(refused.starts_with("HTTP/1.1 400") && refused.contains("a trailer"), "{refused}");
    // All lines of what proxies say are passed on, in their order.
    door.raw("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-forwarded-for: 192.0.2.1\r\nx-forwarded-for: 192.0.2.2, 192.0.2.3\r\nx-forwarded-proto: ftp\r\nx-forwarded-proto: https\r\n\r\n").await;
    let got = service.last();
    let lines: Vec<_> = got.headers.get_all("x-forwarded-for").iter().collect();
    assert_eq!(lines, ["192.0.2.1, 192.0.2.2, 192.0.2.3, 127.0.0.1"]);
    assert_eq!(got.headers.get_all("x-forwarded-proto").iter().collect::<Vec<_>>(), ["https"]);
    // What parts roles is none of them, and what is trimmed on the way stays.
    let odd = claims(&door, json!({ "sub": " admin", "roles": ["a,admin", "50%", "fan"], "scope": "read\twrite" }));
    let token = sign(Algorithm::HS256, Some("hs"), &odd, &EncodingKey::from_secret(SECRET.as_bytes()));
    assert_eq!(ask(&door, "/", &token).await.0, 200);
    let got = service.last();
    let shown = ["x-auth-subject", "x-auth-roles", "x-auth-scopes"].map(|name| got.header(name).to_owned());
    assert_eq!(shown, ["%20admin", "a%2Cadmin,50%25,fan", "read%09write"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_has_a_limit_before_anything_is_computed() {
    let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
    let door = Door::open(&format!(
        r#"
workers: 1
trusted_proxies: [127.0.0.1]
limits: {{ failed_proofs_per_ip: 3/h }}
auth:
  people: {{ basic: {{ users: {{ ann: {{ password: "{PASSWORD}" }} }} }} }}
  main: {{ jwt: {{ keys: [{{ id: hs, algorithm: HS256, secret: {SECRET} }}] }} }}
routes:
  - {{ name: any, match: {{ path: /any }}, respond: {{ body: ok }}, access: {{ by: [main] }} }}
  - name: few
    match: {{ path: /few }}
    respond: {{ body: ok }}
    access: {{ by: [people] }}
    rate_limits: [{{ name: address, per: [ip], rate: 2/h }}]
"#
    ))
    .await;
    for expected in [401, 401, 429] {
        let answer = door.get("/few", &[("authorization", &basic("eve:x")), ("x-forwarded-for", "192.0.2.1")]).await;
        assert_eq!(answer.status, expected);
    }
    let token =
        sign(Algorithm::HS256, Some("hs"), &claims(&door, json!({})), &EncodingKey::from_secret(SECRET.as_bytes()));
    let ask = |token: String, from: &'static str| {
        let door = &door;
        async move {
            let headers = [("authorization", format!("Bearer {token}")), ("x-forwarded-for", from.to_owned())];
            let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            door.get("/any", &headers).await.status
        }
    };
    assert_eq!(ask(token.clone(), "192.0.2.7").await, 200);
    for (at, expected) in [401, 401, 401, 429, 429].into_iter().enumerate() {
        assert_eq!(ask(format!("{token}{at}"), "192.0.2.7").await, expected, "guess {at}");
    }
    assert_eq!(ask(token.clone(), "192.0.2.7").await, 200, "what is remembered passes");
    let fresh = sign(
        Algorithm::HS256,
        Some("hs"),
        &claims(&door, json!({ "sub": "bob" })),
        &EncodingKey::from_secret(SECRET.as_bytes()),
    );
    assert_eq!(ask(fresh.clone(), "192.0.2.7").await, 429, "nothing is checked for this address now");
    assert_eq!(ask(fresh, "192.0.2.8").await, 200, "for others it is");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_is_shown_once_and_in_its_form() {
    let service = Service::named("behind").await;
    let door = Door::open(&format!(
        r#"
auth:
  main: {{ jwt: {{ keys: [{{ id: hs, algorithm: HS256, secret: {SECRET} }}] }} }}
upstreams: {{ s: {{ endpoints: ["{}"] }} }}
routes: [{{ name: open, match: {{ path: /* }}, upstream: s, access: {{ by: [main], anonymous: true }} }}]
"#,
        service.url()
    ))
    .await;
    let token =
        sign(Algorithm::HS256, Some("hs"), &claims(&door, json!({})), &EncodingKey::from_secret(SECRET.as_bytes()));
    for lines in [
        format!("authorization: Bearer {token}\r\nauthorization: Bearer x.y.z"),
        format!("authorization: Basic YTpi\r\nauthorization: Bearer {token}"),
        format!("authorization: Bearer\t{token}"),
        "authorization: Bearer".to_owned(),
        "authorization: Bearer,x".to_owned(),
        format!("authorization: Bearer \u{e9}{token}"),
    ] {
        let request = format!("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{lines}\r\n\r\n");
        let answer = door.raw(request).await;
        assert!(answer.starts_with("HTTP/1.1 401"), "{lines}: {answer}");
    }
    assert!(service.got().is_empty());
    assert_eq!(ask(&door, "/", &token).await.0, 200);
    assert_eq!(door.get("/", &[("authorization", "Digest x")]).await.status, 200, "another scheme is none of ours");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_says_itself_where_its_keys_are() {
    let issuer = Arc::new(Issuer::new());
    let keys = issuer.clone();
    let address: Arc<std::sync::OnceLock<String>> = Arc::default();
    let own = address.clone();
    let service = Service::start(move |got| {
        let own = own.get().cloned().unwrap_or_default();
        match got.uri.as_str() {
            "/.well-known/openid-configuration" => {
                reply(200, &json!({ "issuer": own, "jwks_uri": format!("{own}/some/keys") }).to_string())
            }
            "/other/.well-known/openid-configuration" => {
                reply(200, &json!({ "issuer": own, "jwks_uri": format!("{own}/some/keys") }).to_string())
            }
            "/some/keys" => reply(200, &json!({ "keys": [keys.ed_jwk("ed")] }).to_string()),
            _ => reply(404, ""),
        }
    })
    .await;
    address.set(service.url()).unwrap();
    let door = Door::open(&format!(
        r#"
auth:
  found: {{ jwt: {{ issuer: "{0}" }} }}
  impostor: {{ jwt: {{ issuer: "{0}/other" }} }}
routes:
  - {{ name: found, match: {{ path: /found }}, respond: {{ body: ok }}, access: {{ by: [found] }} }}
  - {{ name: impostor, match: {{ path: /impostor }}, respond: {{ body: ok }}, access: {{ by: [impostor] }} }}
"#,
        service.url()
    ))
    .await;
    let token = |iss: &str| issuer.ed_token("ed", &claims(&door, json!({ "iss": iss })));
    assert_eq!(ask(&door, "/found", &token(&service.url())).await.0, 200);
    assert_eq!(ask(&door, "/found", &token("https://evil.example")).await.0, 401);
    let other = token(&format!("{}/other", service.url()));
    assert_eq!(ask(&door, "/impostor", &other).await, (503, "gateway.keys_unavailable".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn services_can_check_who_asks() {
    let service = Service::start(|got| reply(200, got.header("x-auth-token"))).await;
    let config = |more: &str| {
        format!(
            r#"
workers: 1
signed_identity: {{ issuer: https://gateway.example, lifetime: 60s{more} }}
auth:
  main: {{ jwt: {{ keys: [{{ id: hs, algorithm: HS256, secret: {SECRET} }}] }} }}
upstreams: {{ orders: {{ endpoints: ["{0}"] }}, other: {{ endpoints: ["{0}"] }} }}
routes:
  - {{ name: open, match: {{ path: /* }}, upstream: orders, access: {{ by: [main], anonymous: true }} }}
  - {{ name: other, match: {{ path: /other }}, upstream: other, access: {{ by: [main] }} }}
  - name: both
    match: {{ path: /both }}
    access: {{ by: [main] }}
    aggregate: {{ calls: {{ a: {{ upstream: orders, path: /a, optional: true }}, b: {{ upstream: other, path: /b, optional: true }} }} }}
"#,
            service.url()
        )
    };
    let folder = tempfile::tempdir().unwrap();
    openssl(folder.path(), "genpkey -algorithm ed25519 -out own.key");
    let door = Door::open_in(folder, &config(", key: own.key")).await;
    let given = sign(
        Algorithm::HS256,
        Some("hs"),
        &claims(&door, json!({ "roles": ["a,b"] })),
        &EncodingKey::from_secret(SECRET.as_bytes()),
    );
    let token = ask(&door, "/", &given).await.1;
    door.clock.advance(Duration::from_secs(5));
    assert_eq!(ask(&door, "/", &given).await.1, token, "made once");
    assert_ne!(ask(&door, "/other", &given).await.1, token, "each upstream has its own");
    assert_eq!(ask(&door, "/both", &given).await.0, 200);
    let shown = |uri: &str| service.got().iter().find(|got| got.uri == uri).unwrap().header("x-auth-token").to_owned();
    assert_eq!(shown("/a"), token, "each call has that of its upstream");
    assert_eq!(shown("/b"), shown("/other"));
    // Nobody has none, whatever he says.
    let forged = [("x-auth-token", token.as_str()), ("x_auth_token", token.as_str())];
    assert_eq!(door.get("/", &forged).await.body, "");
    assert!(service.last().headers.keys().all(|name| !name.as_str().ends_with("token")));
    let keys = door.get("/.well-known/gateway-keys.json", &[]).await;
    assert_eq!((keys.status, keys.header("content-type")), (200, "application/json"));
    assert!(!keys.body.contains("\"d\""), "{}", keys.body);
    // A service that is a gateway itself checks it by the key set of the first.
    let inner = Door::open(&format!(
        r#"
auth:
  outer: {{ jwt: {{ issuer: https://gateway.example, audience: [orders], jwks: "{}" }} }}
routes: [{{ name: any, match: {{ path: /* }}, respond: {{ body: ok }}, access: {{ by: [outer], roles: ["a,b"], scopes: [read], claims: {{ sub: ann }} }} }}]
"#,
        door.url("/.well-known/gateway-keys.json")
    ))
    .await;
    assert_eq!(ask(&inner, "/", &token).await.0, 200);
    let other = ask(&door, "/other", &given).await.1;
    assert_eq!(ask(&inner, "/", &other).await.0, 401, "it is for another service");
    inner.clock.advance(Duration::from_secs(120));
    assert_eq!(ask(&inner, "/", &token).await.0, 401, "it is short-lived");
    door.clock.advance(Duration::from_secs(40));
    assert_ne!(ask(&door, "/", &given).await.1, token, "a new one in time");
    // Without a file the key is the process's own, and a reload keeps it.
    let door = Door::open(&config("")).await;
    let before = door.get("/.well-known/gateway-keys.json", &[]).await.body;
    let text = std::fs::read_to_string(door.file()).unwrap().replace("60s", "30s");
    std::fs::write(door.file(), text).unwrap();
    door.gateway.reloader.reload().await.unwrap();
    assert_eq!(door.get("/.well-known/gateway-keys.json", &[]).await.body, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_decide_over_claims_and_paths() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("shops.cedar"),
        r#"
permit (principal in Role::"clerk", action in [Action::"GET", Action::"PUT"], resource == Route::"shop")
when { context.claims.shops.contains(context.path.shop) };
forbid (principal, action, resource) when { context.claims.level < 2 } unless { context.ip.isLoopback() && action == Action::"GET" };
"#,
    )
    .unwrap();
    let door = Door::open_in(
        folder,
        &format!(
            r#"
auth: {{ main: {{ jwt: {{ keys: [{{ id: hs, algorithm: HS256, secret: {SECRET} }}] }} }} }}
routes:
  - {{ name: shop, match: {{ path: "/shops/{{shop}}" }}, respond: {{ body: ok }}, access: {{ by: [main], policy_file: shops.cedar }} }}
  - name: own
    match: {{ path: "/users/{{user}}" }}
    respond: {{ body: ok }}
    access: {{ by: [main], policy: 'permit (principal, action, resource) when {{ context.path.user == context.subject }};' }}
"#
        ),
    )
    .await;
    let token = |more: Value| {
        let claims = claims(&door, more);
        sign(Algorithm::HS256, Some("hs"), &claims, &EncodingKey::from_secret(SECRET.as_bytes()))
    };
    let clerk = token(json!({ "roles": ["clerk"], "shops": ["a", "b c"], "level": 2 }));
    for (path, status) in
        [("/shops/a", 200), ("/shops/b%20c", 200), ("/shops/c", 403), ("/users/ann", 200), ("/users/bob", 403)]
    {
        assert_eq!(ask(&door, path, &clerk).await.0, status, "{path}");
    }
    for (why, claims, status) in [
        ("another role", json!({ "roles": ["guest"], "shops": ["a"], "level": 2 }), 403),
        ("no shops", json!({ "roles": ["clerk"], "level": 2 }), 403),
        ("shops that are no list", json!({ "roles": ["clerk"], "shops": "a", "level": 2 }), 403),
        ("a low level, from here", json!({ "roles": ["clerk"], "shops": ["a"], "level": 1 }), 200),
        ("no level, which the forbid needs", json!({ "roles": ["clerk"], "shops": ["a"] }), 403),
        (
            "odd claims",
            json!({ "roles": ["clerk"], "shops": ["a"], "level": 2, "x": null, "y": 1.5, "z": [[{}]] }),
            200,
        ),
        (
            "a claim that looks like an entity",
            json!({ "roles": ["clerk"], "shops": [{ "__entity": { "type": "T", "id": "a" } }], "level": 2 }),
            403,
        ),
    ] {
        assert_eq!(ask(&door, "/shops/a", &token(claims)).await.0, status, "{why}");
    }
    let put = client_put(&door, "/shops/a", &token(json!({ "roles": ["clerk"], "shops": ["a"], "level": 1 }))).await;
    assert_eq!(put, 403, "the exception is for reading");
    // The file is followed, and a broken one refused.
    let file = door.folder.path().join("shops.cedar");
    std::fs::write(&file, "permit (principal, action, resource)").unwrap();
    let refused = door.gateway.reloader.look().await.expect("it is followed").unwrap_err().to_string();
    assert!(refused.contains("route `shop`: policies"), "{refused}");
    std::fs::write(&file, "permit (principal, action, resource);").unwrap();
    door.gateway.reloader.look().await.expect("it is followed").unwrap();
    let all = async {
        while ask(&door, "/shops/c", &clerk).await.0 != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all).await.expect("the new policy decides");
}

async fn client_put(door: &Door, path: &str, token: &str) -> u16 {
    let request = crate::support::client().put(door.url(path)).bearer_auth(token);
    request.send().await.unwrap().status().as_u16()
}
