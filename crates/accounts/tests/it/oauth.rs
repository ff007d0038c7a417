//! Programs: their own tokens, and people who sign in for them. And what others read to verify them.

use ::http::{Request, StatusCode};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use tessera_accounts::config::{Config, KEY_LEAD};
use tessera_accounts::signing;
use tessera_testkit::sql::Databases;
use tessera_testkit::{ScratchDir, rsa_key};

use crate::support::{Answer, Desk, HOME, PASSWORD, quick};

/// The verifier and challenge of RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const BACK: &str = "https://shop.example.com/back?from=tessera";

async fn token(desk: &Desk, fields: &[(&str, &str)]) -> Answer {
    let body: String = url_encoded(fields);
    desk.send(Request::post("/oauth/token").header("content-type", "application/x-www-form-urlencoded"), &body).await
}

fn url_encoded(fields: &[(&str, &str)]) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let encode = |text: &str| -> String {
        text.bytes()
            .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
            .collect()
    };
    fields.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect::<Vec<_>>().join("&")
}

fn claims(token: &str) -> Value {
    let payload =
        base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, token.split('.').nth(1).unwrap());
    serde_json::from_slice(&payload.unwrap()).unwrap()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}"))
}

#[tokio::test]
async fn a_program_has_tokens_of_its_own() {
    let databases = Databases::sqlite();
    let desk = Desk::still(&databases.fresh(), quick()).await;
    let admin = desk.admin().await;
    let made = desk.ask(&admin, "POST", "/accounts/clients", json!({ "name": "fleet", "roles": ["edge"] })).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
    let (id, secret) = (text(&made.body, "id").to_owned(), text(&made.body, "secret").to_owned());
    let answer =
        token(&desk, &[("grant_type", "client_credentials"), ("client_id", &id), ("client_secret", &secret)]).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert!(answer.body.get("refresh_token").is_none());
    let identity = desk.app.keys().verify(text(&answer.body, "access_token")).unwrap();
    assert_eq!((&*identity.subject, identity.is("edge"), identity.is("admin")), (id.as_str(), true, false));
    let basic = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("{id}:{secret}"));
    let request =
        Request::post("/oauth/token").header("content-type", "application/x-www-form-urlencoded; charset=utf-8");
    let answer =
        desk.send(request.header("authorization", format!("Basic {basic}")), "grant_type=client_credentials").await;
    assert_eq!(answer.status, StatusCode::OK);

    let unknown = "client_00000000000000000000000000000001";
    for fields in [
        vec![("grant_type", "client_credentials"), ("client_id", &id), ("client_secret", "tsc_wrong")],
        vec![("grant_type", "client_credentials"), ("client_id", &id)],
        vec![("grant_type", "client_credentials"), ("client_id", unknown), ("client_secret", &secret)],
        vec![("grant_type", "client_credentials"), ("client_id", "' OR 1=1"), ("client_secret", &secret)],
        vec![("grant_type", "client_credentials")],
    ] {
        let answer = token(&desk, &fields).await;
        assert_eq!((answer.status, text(&answer.body, "error")), (StatusCode::UNAUTHORIZED, "invalid_client"));
    }
    // RFC 6749, 5.2: who has shown a secret in the header hears how to.
    let wrong = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("{id}:tsc_wrong"));
    for path in ["/oauth/token", "/oauth/revoke"] {
        let request = Request::post(path).header("content-type", "application/x-www-form-urlencoded");
        let request = request.header("authorization", format!("Basic {wrong}"));
        let answer = desk.send(request, "grant_type=client_credentials&token=x").await;
        assert_eq!(
            (answer.status, answer.headers["www-authenticate"].to_str().unwrap()),
            (StatusCode::UNAUTHORIZED, "Basic realm=\"tessera\""),
            "{path}"
        );
    }
    assert_eq!(desk.ask("nonsense", "GET", "/oauth/userinfo", Value::Null).await.headers["www-authenticate"], "Bearer");
    for (body, error) in [
        ("grant_type=password", "unsupported_grant_type"),
        ("", "invalid_request"),
        ("grant_type=client_credentials&grant_type=password", "invalid_request"),
    ] {
        let request = Request::post("/oauth/token").header("content-type", "application/x-www-form-urlencoded");
        let answer = desk.send(request.header("authorization", format!("Basic {basic}")), body).await;
        assert_eq!((answer.status, text(&answer.body, "error")), (StatusCode::BAD_REQUEST, error));
    }
    let again = desk.ask(&admin, "POST", "/accounts/clients", json!({ "name": "fleet" })).await;
    assert_eq!((again.status, &again.body["code"]), (StatusCode::CONFLICT, &json!("accounts.taken")));
    let list = desk.ask(&admin, "GET", "/accounts/clients", Value::Null).await.body;
    assert!(list["items"][0]["id"] == *id && list["items"][0].get("secret").is_none(), "{list}");
    let revoked = desk.ask(&admin, "DELETE", &format!("/accounts/clients/{id}"), Value::Null).await;
    assert_eq!(revoked.body["revoked"], true);
    let answer =
        token(&desk, &[("grant_type", "client_credentials"), ("client_id", &id), ("client_secret", &secret)]).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        desk.ask(&admin, "DELETE", &format!("/accounts/clients/{unknown}"), Value::Null).await.status,
        StatusCode::NOT_FOUND
    );
}

/// The access token of somebody whose browser keeps the other one, and its cookie.
async fn signed_in(desk: &Desk, login: &str) -> (String, String) {
    let request = Request::post("/accounts/sign-in").header("content-type", "application/json");
    let body = json!({ "login": login, "password": PASSWORD, "cookie": true }).to_string();
    let answer = desk.send(request, &body).await;
    let cookie = answer.headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    (text(&answer.body, "access_token").to_owned(), cookie)
}

struct Shop {
    desk: Desk,
    admin: String,
    id: String,
    ada: String,
    /// The cookie of her browser.
    cookie: String,
}

impl Shop {
    async fn open(url: &str) -> Self {
        Self::open_with(url, quick()).await
    }

    async fn open_with(url: &str, config: Config) -> Self {
        let desk = Desk::still(url, config).await;
        let admin = desk.admin().await;
        let body = json!({ "name": "A shop", "public": true, "redirect_uris": [BACK] });
        let made = desk.ask(&admin, "POST", "/accounts/clients", body).await.body;
        assert!(made.get("secret").is_none(), "{made}");
        desk.app.make_user("ada", PASSWORD, vec!["fan".into()]).await.unwrap();
        let (ada, cookie) = signed_in(&desk, "ada").await;
        Self { desk, admin, id: text(&made, "id").to_owned(), ada, cookie }
    }

    /// What the program sends browsers with: no more than it must say, and one thing besides.
    fn plain_query(&self, besides: Option<(&str, &str)>) -> String {
        let mut fields = vec![
            ("client_id", self.id.as_str()),
            ("redirect_uri", BACK),
            ("response_type", "code"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ];
        fields.extend(besides);
        url_encoded(&fields)
    }

    fn wish(&self) -> Value {
        json!({
            "client_id": self.id, "redirect_uri": BACK, "response_type": "code", "code_challenge": CHALLENGE,
            "code_challenge_method": "S256", "scope": "openid", "state": "s t/ate&", "nonce": "n-1",
        })
    }

    /// Agrees to a wish.
    async fn agree(&self, bearer: &str, cookie: &str, wish: &Value) -> Answer {
        let request = Request::post("/accounts/authorize").header("content-type", "application/json");
        let request = request.header("authorization", format!("Bearer {bearer}")).header("cookie", cookie);
        self.desk.send(request, &wish.to_string()).await
    }

    async fn code(&self) -> String {
        let answer = self.agree(&self.ada, &self.cookie, &self.wish()).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        let to = text(&answer.body, "redirect_to").to_owned();
        assert!(to.starts_with(BACK) && to.contains("state=s+t%2Fate%26") && to.contains("iss=http%3A"), "{to}");
        to.split("code=").nth(1).unwrap().split('&').next().unwrap().to_owned()
    }

    async fn refresh(&self, token: &str) -> Answer {
        let fields = [("grant_type", "refresh_token"), ("client_id", self.id.as_str()), ("refresh_token", token)];
        self::token(&self.desk, &fields).await
    }

    async fn redeem(&self, code: &str, change: Option<(&str, &str)>) -> Answer {
        let mut fields = vec![
            ("grant_type", "authorization_code"),
            ("client_id", self.id.as_str()),
            ("code", code),
            ("redirect_uri", BACK),
            ("code_verifier", VERIFIER),
        ];
        if let Some((name, value)) = change {
            fields.iter_mut().filter(|(field, _)| *field == name).for_each(|field| field.1 = value);
        }
        token(&self.desk, &fields).await
    }
}

#[tokio::test]
async fn somebody_signs_in_for_a_program() {
    let databases = Databases::sqlite();
    let shop = Shop::open(&databases.fresh()).await;
    let query = shop.plain_query(None);
    let page = shop.desk.send(Request::get(format!("/oauth/authorize?{query}")), "").await;
    assert_eq!(
        (page.status, page.headers["location"].to_str().unwrap()),
        (StatusCode::SEE_OTHER, format!("/console/#/authorize?{query}").as_str())
    );
    let asks = shop.desk.send(Request::get(format!("/oauth/asks?{query}")), "").await;
    assert_eq!(asks.body["client_name"], "A shop", "{}", asks.body);

    let code = shop.code().await;
    let answer = shop.redeem(&code, None).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    let identity = shop.desk.app.keys().verify(text(&answer.body, "access_token")).unwrap();
    assert!(identity.is("fan"));
    for method in ["GET", "POST"] {
        let info = shop.desk.ask(text(&answer.body, "access_token"), method, "/oauth/userinfo", Value::Null).await.body;
        assert_eq!((&info["preferred_username"], text(&info, "sub")), (&json!("ada"), &*identity.subject));
    }
    // The id token is for the program, and opens nothing.
    let id_token = text(&answer.body, "id_token");
    assert!(shop.desk.app.keys().verify(id_token).unwrap_err().to_string().contains("not meant for"));
    let claims = claims(id_token);
    assert_eq!((&claims["aud"], &claims["nonce"]), (&json!(shop.id), &json!("n-1")));

    // Its refresh token is taken from this program only.
    shop.desk.passes(60);
    let refresh = text(&answer.body, "refresh_token");
    let own = shop.desk.post("/accounts/refresh", json!({ "refresh_token": refresh })).await;
    assert_eq!(own.status, StatusCode::UNAUTHORIZED);
    let fields = [("grant_type", "refresh_token"), ("client_id", shop.id.as_str()), ("refresh_token", refresh)];
    let next = token(&shop.desk, &fields).await;
    assert_eq!(next.status, StatusCode::OK, "{}", next.body);
    shop.desk.ask(&shop.admin, "DELETE", &format!("/accounts/clients/{}", shop.id), Value::Null).await;
    let fields = [
        ("grant_type", "refresh_token"),
        ("client_id", shop.id.as_str()),
        ("refresh_token", text(&next.body, "refresh_token")),
    ];
    assert_eq!(token(&shop.desk, &fields).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn what_cannot_be_met_goes_back_to_the_program() {
    let databases = Databases::sqlite();
    let shop = Shop::open(&databases.fresh()).await;
    let good = [
        ("client_id", shop.id.as_str()),
        ("redirect_uri", BACK),
        ("response_type", "code"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
        ("state", "s t/ate&"),
    ];
    let location = async |change: &[(&str, &str)]| {
        let mut fields: Vec<(&str, &str)> = good.to_vec();
        fields.retain(|(name, _)| *name == "state" || !change.iter().any(|(other, _)| other == name));
        fields.extend(change.iter().filter(|(_, value)| !value.is_empty()));
        let request = Request::get(format!("/oauth/authorize?{}", url_encoded(&fields)));
        let answer = shop.desk.send(request, "").await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{change:?}");
        answer.headers["location"].to_str().unwrap().to_owned()
    };
    for (change, error) in [
        (("prompt", "none"), "login_required"),
        (("prompt", "none login"), "invalid_request"),
        (("max_age", "soon"), "invalid_request"),
        (("max_age", "-1"), "invalid_request"),
        (("max_age", "99999999999"), "invalid_request"),
        (("request", "e30.e30."), "request_not_supported"),
        (("request_uri", "https://shop.example.com/request"), "request_uri_not_supported"),
        (("response_type", "token"), "unsupported_response_type"),
        (("response_type", ""), "invalid_request"),
        (("code_challenge", ""), "invalid_request"),
        (("code_challenge_method", "plain"), "invalid_request"),
        // A second one.
        (("state", "another"), "invalid_request"),
    ] {
        let to = location(&[change]).await;
        let (back, answer) = to.split_at(BACK.len());
        assert_eq!(back, BACK, "{change:?}: {to}");
        let pairs: Vec<(String, String)> = url::form_urlencoded::parse(answer.as_bytes()).into_owned().collect();
        let get = |name: &str| pairs.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
        assert_eq!((get("error"), get("state")), (Some(error), Some("s t/ate&")), "{change:?}: {to}");
        assert_eq!((get("iss"), get("code")), (Some(shop.desk.app.issuer()), None), "{to}");
        assert!(get("error_description").is_some_and(|text| !text.is_empty()), "{to}");
    }
    // Nobody is sent to an address that is none of the program's, nor for a program that is not known: the page says so.
    for change in
        [("redirect_uri", "https://evil.example.com/"), ("client_id", "client_00000000000000000000000000000001")]
    {
        for prompt in ["none", "login"] {
            let to = location(&[change, ("prompt", prompt)]).await;
            assert!(to.starts_with("/console/#/authorize?"), "{to}");
        }
    }
    // A wish that can be met is asked for on the page. The moment there is our word.
    for (prompt, forged) in [("login", ""), ("consent select_account", ""), ("consent", "2001-01-01T00:00:00Z")] {
        let to = location(&[("prompt", prompt), ("signed_in_since", forged)]).await;
        assert!(to.starts_with("/console/#/authorize?"), "{prompt}: {to}");
        assert_eq!(since(&to).is_some(), prompt == "login", "{to}");
    }
    // A form does as well (OpenID Connect Core 3.1.2.1).
    let send = async |kind: &str, body: &str| {
        shop.desk.send(Request::post("/oauth/authorize").header("content-type", kind), body).await
    };
    let form = send("application/x-www-form-urlencoded", &url_encoded(&good)).await;
    assert_eq!(form.status, StatusCode::SEE_OTHER);
    assert!(form.headers["location"].to_str().unwrap().starts_with("/console/#/authorize?"));
    let refused = send("application/json", "{}").await;
    assert_eq!((refused.status, text(&refused.body, "error")), (StatusCode::BAD_REQUEST, "invalid_request"));
}

/// Since when somebody must have signed in, as the address of the page says.
fn since(location: &str) -> Option<String> {
    let (_, query) = location.split_once('?').unwrap();
    let mut pairs = url::form_urlencoded::parse(query.as_bytes()).into_owned();
    pairs.find(|(name, _)| name == "signed_in_since").map(|(_, value)| value)
}

#[tokio::test]
async fn a_program_has_its_person_sign_in_anew() {
    let databases = Databases::sqlite();
    let shop = Shop::open(&databases.fresh()).await;
    let desk = &shop.desk;
    let page = async |name: &str, value: &str| {
        let answer =
            desk.send(Request::get(format!("/oauth/authorize?{}", shop.plain_query(Some((name, value))))), "").await;
        since(answer.headers["location"].to_str().unwrap())
    };
    let signs_in_again = async |cookie: &str, since: &str| {
        let query = url_encoded(&[("signed_in_since", since)]);
        let request = Request::get(format!("/accounts/authorize?{query}")).header("cookie", cookie);
        desk.send(request, "").await.body["sign_in_again"].clone()
    };
    // She signed in five minutes ago.
    desk.passes(300);
    for (name, value) in [("max_age", "300"), ("max_age", "9999999999"), ("max_age", ""), ("prompt", "consent")] {
        let since = page(name, value).await;
        assert_eq!(since.is_some(), name == "max_age" && !value.is_empty(), "{name}={value}: {since:?}");
        let mut wish = shop.wish();
        wish["signed_in_since"] = json!(since);
        let answer = shop.agree(&shop.ada, &shop.cookie, &wish).await;
        assert_eq!(answer.status, StatusCode::OK, "{name}={value}: {}", answer.body);
        if let Some(since) = since {
            assert_eq!(signs_in_again(&shop.cookie, &since).await, false, "{name}={value}");
        }
    }
    for (name, value) in [("max_age", "299"), ("max_age", "0"), ("prompt", "login"), ("prompt", "consent login")] {
        let since = page(name, value).await.unwrap();
        let mut wish = shop.wish();
        wish["signed_in_since"] = json!(since);
        let answer = shop.agree(&shop.ada, &shop.cookie, &wish).await;
        assert_eq!(
            (answer.status, &answer.body["code"]),
            (StatusCode::UNAUTHORIZED, &json!("accounts.sign_in_again")),
            "{name}={value}"
        );
        assert_eq!(signs_in_again(&shop.cookie, &since).await, true, "{name}={value}");
        assert_eq!(signs_in_again("", &since).await, true, "nobody is signed in");
        // A token that is renewed is no sign-in.
        desk.passes(1);
        let request = Request::post("/accounts/refresh").header("content-type", "application/json");
        let renewed = desk.send(request.header("cookie", &shop.cookie), "{}").await;
        let cookie = renewed.headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
        assert_eq!(signs_in_again(&cookie, &since).await, true, "{name}={value}");
    }
    let wanted = page("prompt", "login").await.unwrap();
    desk.passes(20);
    let at = desk.app.store().now().await.unwrap().micros() / 1_000_000;
    let (ada, cookie) = signed_in(desk, "ada").await;
    desk.passes(10);
    assert_eq!(signs_in_again(&cookie, &wanted).await, false);
    let mut wish = shop.wish();
    wish["signed_in_since"] = json!(wanted);
    let agreed = shop.agree(&ada, &cookie, &wish).await.body;
    let code = text(&agreed, "redirect_to").split("code=").nth(1).unwrap().split('&').next().unwrap();
    let answer = shop.redeem(code, None).await.body;
    assert_eq!(claims(text(&answer, "id_token"))["auth_time"], json!(at), "{answer}");
    // Another site learns nothing of it.
    let request = Request::get("/accounts/authorize").header("cookie", &cookie).header("sec-fetch-site", "cross-site");
    assert_eq!(desk.send(request, "").await.body["code"], "accounts.cross_site");
}

#[tokio::test]
async fn only_who_has_signed_in_here_agrees() {
    let databases = Databases::sqlite();
    let shop = Shop::open(&databases.fresh()).await;
    let (desk, wish) = (&shop.desk, shop.wish());
    desk.app.make_user("eve", PASSWORD, vec![]).await.unwrap();
    let (eve, hers) = signed_in(desk, "eve").await;
    // A token alone, one that a program was given, and somebody else's browser.
    for path in ["/accounts/authorize", "/oauth/authorize"] {
        let answer = desk.ask(&shop.ada, "POST", path, wish.clone()).await;
        assert!(answer.status.is_client_error() && answer.body.get("redirect_to").is_none(), "{}", answer.body);
    }
    let answer = shop.agree(&shop.ada, &hers, &wish).await;
    assert_eq!((answer.status, &answer.body["code"]), (StatusCode::UNAUTHORIZED, &json!("accounts.session_over")));
    assert!(shop.agree(&eve, &shop.cookie, &wish).await.body.get("redirect_to").is_none());
    let given = shop.redeem(&shop.code().await, None).await.body;
    let theirs = format!("tessera_refresh={}", text(&given, "refresh_token"));
    for (bearer, cookie) in [(text(&given, "access_token"), theirs.as_str()), (&shop.ada, &theirs), (&shop.ada, "")] {
        let answer = shop.agree(bearer, cookie, &wish).await;
        assert_eq!((answer.status, &answer.body["code"]), (StatusCode::UNAUTHORIZED, &json!("accounts.session_over")));
    }
    let request = Request::post("/accounts/authorize").header("content-type", "application/json");
    let request = request.header("authorization", format!("Bearer {}", shop.ada)).header("cookie", &shop.cookie);
    let answer = desk.send(request.header("sec-fetch-site", "cross-site"), &wish.to_string()).await;
    assert_eq!(answer.body["code"], "accounts.cross_site");
    // Who has signed out agrees to nothing, and what was agreed to before is over.
    let code = shop.code().await;
    let request = Request::post("/accounts/sign-out").header("content-type", "application/json");
    desk.send(request.header("cookie", &shop.cookie), "{}").await;
    assert_eq!(shop.agree(&shop.ada, &shop.cookie, &wish).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(shop.redeem(&code, None).await.body["error"], "invalid_grant");
}

#[tokio::test]
async fn a_code_that_comes_again_ends_what_it_gave() {
    let databases = Databases::sqlite();
    let shop = Shop::open(&databases.fresh()).await;
    let code = shop.code().await;
    let given = shop.redeem(&code, None).await.body;
    assert_eq!(shop.redeem(&code, None).await.body["error"], "invalid_grant");
    let over = shop.refresh(text(&given, "refresh_token")).await;
    assert_eq!((over.status, text(&over.body, "error")), (StatusCode::BAD_REQUEST, "invalid_grant"));
}

#[tokio::test]
async fn a_program_is_told_when_its_person_signed_in() {
    let databases = Databases::sqlite();
    let shop = Shop::open(&databases.fresh()).await;
    let at = shop.desk.app.store().now().await.unwrap().micros() / 1_000_000;
    shop.desk.passes(300);
    let code = shop.code().await;
    shop.desk.passes(30);
    let answer = shop.redeem(&code, None).await.body;
    assert_eq!(claims(text(&answer, "id_token"))["auth_time"], json!(at));
}

#[tokio::test]
async fn a_program_gives_its_own_token_back() {
    let databases = Databases::sqlite();
    let shop = Shop::open(&databases.fresh()).await;
    let given = shop.redeem(&shop.code().await, None).await.body;
    shop.desk.passes(60);
    // It is not taken where people sign out, from whoever has it; all other sessions of the account go on.
    let body = json!({ "refresh_token": text(&given, "refresh_token"), "everywhere": true });
    shop.desk.post("/accounts/sign-out", body).await;
    let own = Request::post("/accounts/refresh").header("content-type", "application/json");
    assert_eq!(shop.desk.send(own.header("cookie", &shop.cookie), "{}").await.status, StatusCode::OK);
    let next = shop.refresh(text(&given, "refresh_token")).await;
    assert_eq!(next.status, StatusCode::OK, "{}", next.body);
    // RFC 7009: the program says so, and nobody else for it.
    let token = text(&next.body, "refresh_token");
    let other = json!({ "name": "Another", "public": true, "redirect_uris": [BACK] });
    let other = shop.desk.ask(&shop.admin, "POST", "/accounts/clients", other).await.body;
    for (client, status, goes_on) in [
        (text(&other, "id"), StatusCode::OK, true),
        ("client_00000000000000000000000000000001", StatusCode::UNAUTHORIZED, true),
        (shop.id.as_str(), StatusCode::OK, false),
        (shop.id.as_str(), StatusCode::OK, false),
    ] {
        let body = url_encoded(&[("client_id", client), ("token", token), ("token_type_hint", "refresh_token")]);
        let request = Request::post("/oauth/revoke").header("content-type", "application/x-www-form-urlencoded");
        assert_eq!(shop.desk.send(request, &body).await.status, status);
        assert_eq!(shop.refresh(token).await.status.is_success(), goes_on, "{client}");
    }
}

#[tokio::test]
async fn a_code_is_for_one_program_address_and_verifier() {
    let databases = Databases::sqlite();
    let shop = Shop::open(&databases.fresh()).await;
    let other = json!({ "name": "Another", "public": true, "redirect_uris": [BACK] });
    let other = shop.desk.ask(&shop.admin, "POST", "/accounts/clients", other).await.body;
    for change in [
        ("client_id", text(&other, "id")),
        ("redirect_uri", "https://shop.example.com/back"),
        ("code_verifier", "another-verifier-another-verifier-another-ve"),
        ("code", "AAAA"),
    ] {
        let code = shop.code().await;
        assert_eq!(shop.redeem(&code, Some(change)).await.body["error"], "invalid_grant", "{change:?}");
        let again = shop.redeem(&code, None).await;
        assert_eq!(again.status.is_success(), change.0 == "code", "one that was tried is gone");
    }
    let code = shop.code().await;
    shop.desk.passes(60);
    assert_eq!(shop.redeem(&code, None).await.body["error"], "invalid_grant");
    for (name, value) in [
        ("redirect_uri", "https://evil.example.com/"),
        ("redirect_uri", "https://shop.example.com/back?from=tessera#"),
        ("response_type", "token"),
        ("code_challenge_method", "plain"),
        ("code_challenge", ""),
        ("client_id", "client_00000000000000000000000000000001"),
    ] {
        let mut wish = shop.wish();
        wish[name] = json!(value);
        let answer = shop.agree(&shop.ada, &shop.cookie, &wish).await;
        assert!(answer.status.is_client_error() && answer.body.get("redirect_to").is_none(), "{name} {value}");
    }
    let public = [("grant_type", "client_credentials"), ("client_id", shop.id.as_str())];
    assert_eq!(token(&shop.desk, &public).await.body["error"], "unauthorized_client");
}

#[tokio::test]
async fn others_find_what_they_need() {
    let databases = Databases::sqlite();
    let desk = Desk::still(&databases.fresh(), quick()).await;
    let answer = desk.send(Request::get("/.well-known/openid-configuration"), "").await;
    assert_eq!(answer.headers["cache-control"], "public, max-age=300");
    let issuer = text(&answer.body, "issuer");
    for endpoint in ["authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri"] {
        assert!(text(&answer.body, endpoint).starts_with(issuer));
    }
    assert_eq!(answer.body["id_token_signing_alg_values_supported"], json!(["EdDSA"]));
    assert_eq!(answer.body["request_uri_parameter_supported"], json!(false), "it is true where it is not said");
    desk.app.make_user("ada", PASSWORD, vec!["fan".into()]).await.unwrap();
    let token = desk.app.sign_in("ada", PASSWORD, HOME).await.unwrap().access_token;
    let (algorithm, claims) = verified(&desk, &token, "tessera").await;
    assert_eq!((algorithm, &claims["roles"], text(&claims, "iss")), (Algorithm::EdDSA, &json!(["fan"]), issuer));
}

/// What a token says to anybody with a JWT library and our key set, and how it is signed.
async fn verified(desk: &Desk, token: &str, audience: &str) -> (Algorithm, Value) {
    let set = desk.send(Request::get("/.well-known/jwks.json"), "").await.body;
    let set: jsonwebtoken::jwk::JwkSet = serde_json::from_value(set).unwrap();
    let header = jsonwebtoken::decode_header(token).unwrap();
    let jwk = set.find(&header.kid.unwrap()).unwrap();
    let named = jwk.common.key_algorithm.unwrap().to_string();
    assert_eq!(named, format!("{:?}", header.alg));
    let mut validation = jsonwebtoken::Validation::new(header.alg);
    validation.set_audience(&[audience]);
    validation.validate_exp = false;
    let key = jsonwebtoken::DecodingKey::from_jwk(jwk).unwrap();
    (header.alg, jsonwebtoken::decode::<Value>(token, &key, &validation).unwrap().claims)
}

#[tokio::test]
async fn tokens_are_signed_with_rs256_where_a_key_is_brought() {
    let (databases, scratch) = (Databases::sqlite(), ScratchDir::new());
    let file = scratch.file("token.pem");
    std::fs::write(&file, rsa_key().0).unwrap();
    let config = Config { rs256_key: Some(file.clone()), ..quick() };
    let shop = Shop::open_with(&databases.fresh(), config.clone()).await;
    let desk = &shop.desk;
    let algorithms = async || {
        let found = desk.send(Request::get("/.well-known/openid-configuration"), "").await;
        found.body["id_token_signing_alg_values_supported"].clone()
    };
    assert_eq!(algorithms().await, json!(["RS256"]));
    let (algorithm, claims) = verified(desk, &shop.ada, "tessera").await;
    assert_eq!((algorithm, &claims["roles"]), (Algorithm::RS256, &json!(["fan"])));
    let redeemed = shop.redeem(&shop.code().await, None).await.body;
    assert_eq!(verified(desk, text(&redeemed, "id_token"), &shop.id).await.0, Algorithm::RS256);
    assert_eq!(desk.ask(&shop.ada, "GET", "/accounts/me", Value::Null).await.status, StatusCode::OK);

    // Another key in the file is published, and then signs; the same one is none.
    let sign_in = async || desk.app.sign_in("ada", PASSWORD, HOME).await.unwrap().access_token;
    let kid = |token: &str| jsonwebtoken::decode_header(token).unwrap().kid.unwrap();
    assert!(signing::renew(&config, desk.app.keys()).unwrap().is_none());
    std::fs::write(&file, rsa_key().0).unwrap();
    let next = signing::renew(&config, desk.app.keys()).unwrap().unwrap();
    let before = sign_in().await;
    assert_eq!(kid(&before), kid(&shop.ada));
    desk.passes(KEY_LEAD.as_secs());
    let after = sign_in().await;
    assert_eq!(kid(&after), next.kid);
    for token in [&before, &after] {
        verified(desk, token, "tessera").await;
        desk.app.keys().verify(token).unwrap();
    }

    // What cannot sign is refused by the name of the setting; those before it go on.
    for (text, word) in
        [("", "not PEM"), ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "`PUBLIC KEY`")]
    {
        std::fs::write(&file, text).unwrap();
        let refused = signing::renew(&config, desk.app.keys()).unwrap_err().to_string();
        assert!(refused.contains("accounts.rs256_key") && refused.contains(word), "{refused}");
    }
    assert_eq!(kid(&sign_in().await), next.kid);

    // Without a file a key of our own follows.
    let own = signing::renew(&quick(), desk.app.keys()).unwrap().unwrap();
    assert_eq!(own.algorithm, "EdDSA");
    assert_eq!(algorithms().await, json!(["EdDSA", "RS256"]));
    desk.passes(KEY_LEAD.as_secs());
    assert_eq!(verified(desk, &sign_in().await, "tessera").await.0, Algorithm::EdDSA);
    desk.app.keys().verify(&after).unwrap();
}
