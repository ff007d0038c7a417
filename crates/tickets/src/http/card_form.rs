//! How cards are asked for: which provider there is, and Stripe's own form for them.
//!
//! The form is a page of its own, which the checkout page shows in a frame: only this page may load a script from
//! elsewhere, and card numbers go from it to Stripe, never to us.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};
use serde::Serialize;

use crate::payment::CardForm;

const PAGE: &str = include_str!("card_form/page.html");
const SCRIPT: &str = include_str!("card_form/page.js");
const STYLE: &str = include_str!("card_form/page.css");
const PATH: &str = "/payments/stripe/card";

/// Who takes the money.
#[derive(Clone, Copy, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ProviderBody {
    /// `test`: cards that play their parts, sent as `card`. `stripe`: cards are sent as `payment_method`.
    provider: &'static str,
    /// The page of the provider's form for cards, for a frame; `null` where there is none.
    card_form: Option<&'static str>,
}

/// The routes.
pub fn router(provider: &'static str, form: Option<CardForm>) -> Router {
    let body = ProviderBody { provider, card_form: form.as_ref().map(|_| PATH) };
    let router = Router::new().route("/payments/provider", get(self::provider)).with_state(body);
    let Some(form) = form else { return router };
    let (page, policy) = (page(&form), policy(&form));
    let page = move || {
        let answer = file("text/html; charset=utf-8", &policy, page.clone());
        async move { answer }
    };
    router
        .route(PATH, get(page))
        .route("/payments/stripe/card.js", get(|| asset("text/javascript; charset=utf-8", SCRIPT)))
        .route("/payments/stripe/card.css", get(|| asset("text/css; charset=utf-8", STYLE)))
}

/// Who takes the money, and whether there is a form for cards.
#[utoipa::path(get, path = "/payments/provider", responses((status = 200, body = ProviderBody)))]
pub(super) async fn provider(State(body): State<ProviderBody>) -> Response {
    ([(CACHE_CONTROL, "public, max-age=60")], Json(body)).into_response()
}

async fn asset(kind: &'static str, text: &'static str) -> Response {
    file(kind, "default-src 'none'", text.to_owned())
}

fn file(kind: &'static str, policy: &str, text: String) -> Response {
    let headers = [
        (CONTENT_TYPE, kind),
        (CACHE_CONTROL, "no-cache"),
        (REFERRER_POLICY, "strict-origin"),
        (CONTENT_SECURITY_POLICY, policy),
    ];
    (headers, text).into_response()
}

/// A parsed address has neither quotes nor angle brackets, and the key has letters and digits.
fn page(form: &CardForm) -> String {
    PAGE.replace("@SCRIPT@", &form.script.as_str().replace('&', "&amp;")).replace("@KEY@", &form.key)
}

/// The script may load what Stripe says that it loads (<https://docs.stripe.com/security/guide#content-security-policy>).
fn policy(form: &CardForm) -> String {
    let origin = form.script.origin().ascii_serialization();
    let more = if origin == "https://js.stripe.com" { " https://*.js.stripe.com" } else { "" };
    format!(
        "default-src 'none'; script-src 'self' {origin}{more}; frame-src {origin}{more} https://hooks.stripe.com; \
         connect-src {origin} https://api.stripe.com; img-src 'self' {origin} https://*.stripe.com; style-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_script_of_the_settings_may_run() {
        let form = |url: &str| CardForm { script: url.parse().unwrap(), key: "pk_test_1".into() };
        let real = policy(&form("https://js.stripe.com/v3/"));
        assert!(real.contains("script-src 'self' https://js.stripe.com https://*.js.stripe.com;"), "{real}");
        let other = form("http://127.0.0.1:9/v3/?a=1&b=\"><script>");
        assert!(policy(&other).contains("script-src 'self' http://127.0.0.1:9;"), "{}", policy(&other));
        let page = page(&other);
        assert!(page.contains("data-key=\"pk_test_1\"") && page.contains("a=1&amp;b=%22%3E%3Cscript%3E\""), "{page}");
    }
}
