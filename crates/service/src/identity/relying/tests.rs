//! Signing in at an issuer on a port that answers what it is told.

use std::collections::HashMap;

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use http::{HeaderMap, StatusCode};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tessera_kernel::SystemClock;

use super::*;
use crate::identity::tests::es256;

const BACK: &str = "http://127.0.0.1:1/console/";

/// What the issuer was asked: the path, who asked, and the form.
type Asked = (&'static str, Option<String>, HashMap<String, String>);

#[derive(Clone)]
struct StandIn {
    name: String,
    key: Arc<(Value, EncodingKey)>,
    answer: Arc<Mutex<(StatusCode, Value)>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl StandIn {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let name = format!("http://{}", listener.local_addr().unwrap());
        let (key, answer) = (Arc::new(es256("first")), Arc::new(Mutex::new((StatusCode::OK, Value::Null))));
        let stand_in = Self { name, key, answer, asked: Arc::default() };
        let discovery = async |State(own): State<Self>| {
            let at = |path: &str| format!("{}/{path}", own.name);
            axum::Json(
                json!({ "issuer": own.name, "jwks_uri": at("keys"), "authorization_endpoint": at("authorize?a=1"),
                "token_endpoint": at("token"), "revocation_endpoint": at("revoke") }),
            )
        };
        let keys = async |State(own): State<Self>| axum::Json(json!({ "keys": [own.key.0] }));
        let hear = |path: &'static str| {
            async move |State(own): State<Self>, headers: HeaderMap, body: String| {
                let form = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
                let who = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
                own.asked.lock().unwrap().push((path, who, form));
                let (status, answer) = own.answer.lock().unwrap().clone();
                (status, axum::Json(answer))
            }
        };
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/keys", get(keys))
            .route("/token", post(hear("token")))
            .route("/revoke", post(hear("revoke")))
            .with_state(stand_in.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        stand_in
    }

    fn config(&self) -> Config {
        Config { issuer: Some(self.name.clone()), client_id: Some("console".into()), ..Config::default() }
    }

    fn party(&self, config: &Config) -> RelyingParty {
        let clock = Arc::new(SystemClock);
        let keys = Keys::ephemeral(clock.clone()).unwrap();
        let keys = keys.trusting(Issuer::new(config, clock).unwrap().unwrap());
        RelyingParty::new(config, &keys).unwrap().unwrap()
    }

    fn token(&self, claims: Value) -> String {
        let mut all = json!({ "iss": self.name, "exp": 4e9 as i64, "sub": "grace" });
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        let header = Header { kid: Some("first".into()), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, &all, &self.key.1).unwrap()
    }

    fn access_token(&self) -> String {
        self.token(json!({ "aud": "tessera", "roles": ["fan"] }))
    }

    fn answers(&self, status: StatusCode, answer: Value) {
        *self.answer.lock().unwrap() = (status, answer);
    }

    fn asked(&self) -> Asked {
        self.asked.lock().unwrap().last().unwrap().clone()
    }
}

#[tokio::test]
async fn somebody_signs_in_at_the_issuer() {
    let stand_in = StandIn::start().await;
    let secret = Some(Secret::new("s cret+"));
    let party = stand_in.party(&Config { client_secret: secret, ..stand_in.config() });
    let begun = party.begin(BACK).await.unwrap();
    let to = url::Url::parse(&begun.redirect_to).unwrap();
    let query: HashMap<String, String> = to.query_pairs().into_owned().collect();
    let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, begun.verifier.as_bytes()));
    for (name, value) in [
        ("a", "1"),
        ("response_type", "code"),
        ("client_id", "console"),
        ("redirect_uri", BACK),
        ("scope", "openid profile offline_access"),
        ("state", &begun.state),
        ("nonce", &begun.nonce),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ] {
        assert_eq!(query[name], value, "{name}");
    }
    assert!(!begun.redirect_to.contains(&begun.verifier));
    assert_ne!(party.begin(BACK).await.unwrap().state, begun.state);

    let id_token = stand_in.token(json!({ "aud": ["console"], "nonce": begun.nonce, "name": "Grace" }));
    stand_in.answers(
        StatusCode::OK,
        json!({ "access_token": stand_in.access_token(), "refresh_token": "one", "id_token": id_token }),
    );
    let returned = Returned { code: "c", redirect_uri: BACK, verifier: &begun.verifier, nonce: &begun.nonce };
    let signed_in = party.end(&returned).await.unwrap();
    assert!(signed_in.identity.is("fan") && *signed_in.identity.subject == *"grace");
    assert_eq!((signed_in.name.as_deref(), &signed_in.refresh), (Some("Grace"), &Some(("one".into(), KEPT_FOR))));
    let (path, who, form) = stand_in.asked();
    assert_eq!(path, "token");
    assert_eq!(who.unwrap(), format!("Basic {}", STANDARD.encode("console:s+cret%2B")));
    for (name, value) in [
        ("grant_type", "authorization_code"),
        ("client_id", "console"),
        ("code", "c"),
        ("redirect_uri", BACK),
        ("code_verifier", &begun.verifier),
    ] {
        assert_eq!(form[name], value, "{name}");
    }

    // The same refresh token goes on where the issuer gives no other; how long one lasts the issuer may say.
    stand_in.answers(StatusCode::OK, json!({ "access_token": stand_in.access_token() }));
    assert_eq!(party.refresh("one").await.unwrap().refresh, Some(("one".into(), KEPT_FOR)));
    let next = json!({ "access_token": stand_in.access_token(), "refresh_token": "two", "refresh_expires_in": 60 });
    stand_in.answers(StatusCode::OK, next);
    assert_eq!(party.refresh("one").await.unwrap().refresh, Some(("two".into(), Duration::from_secs(60))));
    assert_eq!(stand_in.asked().2["grant_type"], "refresh_token");
    party.revoke("two").await.unwrap();
    let (path, _, form) = stand_in.asked();
    assert_eq!((path, form["token"].as_str()), ("revoke", "two"));
}

#[tokio::test]
async fn what_the_issuer_gives_must_be_what_was_asked_for() {
    let stand_in = StandIn::start().await;
    let party = stand_in.party(&stand_in.config());
    let id_token = |claims: Value| {
        let mut all = json!({ "aud": "console", "nonce": "n" });
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        stand_in.token(all)
    };
    let answer = |id_token: String| json!({ "access_token": stand_in.access_token(), "id_token": id_token });
    let returned = Returned { code: "c", redirect_uri: BACK, verifier: "v", nonce: "n" };
    stand_in.answers(StatusCode::OK, answer(id_token(json!({}))));
    party.end(&returned).await.unwrap();
    assert_eq!(stand_in.asked().1, None, "a client without a secret shows none");
    let foreign = jsonwebtoken::encode(
        &Header { kid: Some("first".into()), ..Header::new(Algorithm::ES256) },
        &json!({ "iss": stand_in.name, "aud": "console", "nonce": "n", "exp": 4e9 as i64, "sub": "grace" }),
        &es256("first").1,
    );
    for (status, given, code, word) in [
        (StatusCode::OK, answer(id_token(json!({ "nonce": "m" }))), "service.issuer_refused", "another sign-in"),
        (StatusCode::OK, answer(id_token(json!({ "nonce": null }))), "service.issuer_refused", "another sign-in"),
        (StatusCode::OK, answer(id_token(json!({ "sub": "eve" }))), "service.issuer_refused", "two people"),
        (StatusCode::OK, answer(id_token(json!({ "aud": "others" }))), "service.bad_token", "not meant for"),
        (StatusCode::OK, answer(id_token(json!({ "exp": 1 }))), "service.bad_token", "ended"),
        (StatusCode::OK, answer(id_token(json!({ "iss": "http://e" }))), "service.bad_token", "http://e"),
        (StatusCode::OK, answer(foreign.unwrap()), "service.bad_token", "signature"),
        (StatusCode::OK, json!({ "access_token": stand_in.access_token() }), "service.issuer_refused", "no id token"),
        (StatusCode::OK, json!({ "token": 7 }), "service.issuer_away", "access_token"),
        (
            StatusCode::OK,
            json!({ "access_token": "opaque", "id_token": id_token(json!({})) }),
            "service.bad_token",
            "three parts",
        ),
        (
            StatusCode::BAD_REQUEST,
            json!({ "error": "invalid_grant", "error_description": "it is\u{7} over" }),
            "service.issuer_refused",
            "invalid_grant: it is over",
        ),
        (StatusCode::UNAUTHORIZED, Value::Null, "service.issuer_refused", "401"),
        (StatusCode::INTERNAL_SERVER_ERROR, Value::Null, "service.issuer_away", "500"),
    ] {
        stand_in.answers(status, given.clone());
        let refused = party.end(&returned).await.unwrap_err();
        assert_eq!(crate::ProductError::code(&refused), code, "{given}: {refused}");
        assert!(refused.to_string().contains(word), "{given}: {refused}");
    }
    let empty = party.end(&Returned { code: "", ..returned }).await.unwrap_err().to_string();
    assert!(empty.contains("`code`"), "{empty}");
}

#[test]
fn settings_that_name_nobody_are_refused() {
    let keys = Keys::ephemeral(Arc::new(SystemClock)).unwrap();
    assert!(RelyingParty::new(&Config::default(), &keys).unwrap().is_none());
    let alone = Config { client_id: Some("console".into()), ..Config::default() };
    assert!(RelyingParty::new(&alone, &keys).unwrap_err().to_string().contains("identity.issuer"));
    let config = Config { issuer: Some("http://a".into()), scope: "profile".into(), ..alone };
    let keys = keys.trusting(Issuer::new(&config, Arc::new(SystemClock)).unwrap().unwrap());
    assert!(RelyingParty::new(&config, &keys).unwrap_err().to_string().contains("openid"));
}
