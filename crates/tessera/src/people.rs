//! `POST /demo/sign-in`: signs in the people of the demo without a password. Served by `up --demo` only.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tessera_kernel::{Clock, Timestamp};
use tessera_service::http::Json;
use tessera_service::{Component, Keys, Problem};

/// How long one stays signed in: a day at the fair.
const TTL: Duration = Duration::from_secs(12 * 3_600);
/// Characters of a name that count: with four bytes each they fit into a subject.
const MAX_NAME: usize = 24;

#[derive(Clone)]
struct Desk {
    keys: Keys,
    clock: Arc<dyn Clock>,
}

/// Who one would like to be.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Part {
    Fan,
    Organiser,
    Door,
    Rider,
    Driver,
    Operator,
}

impl Part {
    const fn role(self) -> &'static str {
        match self {
            Self::Fan => "fan",
            Self::Organiser => "organiser",
            Self::Door => "door",
            Self::Rider => "rider",
            Self::Driver => "driver",
            Self::Operator => "operator",
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignInBody {
    r#as: Part,
    /// Tells several fans apart.
    name: Option<String>,
}

#[derive(Debug, Serialize)]
struct SignedInBody {
    token: String,
    subject: String,
    roles: Vec<String>,
    expires_at: Timestamp,
}

/// The desk where one signs in.
pub fn component(keys: Keys, clock: Arc<dyn Clock>) -> Component {
    let router = Router::new().route("/demo/sign-in", post(sign_in)).with_state(Desk { keys, clock });
    Component::new("demo", "/console/#/sign-in").router(router).openapi(document())
}

async fn sign_in(State(desk): State<Desk>, Json(body): Json<SignInBody>) -> Result<Json<SignedInBody>, Problem> {
    let subject = subject(body.r#as, body.name.as_deref().unwrap_or_default());
    let roles = vec![body.r#as.role().to_owned()];
    let token = desk.keys.sign_token(&subject, &roles, TTL)?;
    Ok(Json(SignedInBody { token, subject, roles, expires_at: desk.clock.now().plus(TTL) }))
}

/// `demo-fan`, or `demo-fan-ada-lovelace` with a name. The prefix keeps guests of the demo apart from real accounts.
fn subject(part: Part, name: &str) -> String {
    let name: String = name.trim().to_lowercase().chars().take(MAX_NAME).collect();
    let words = name.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    ["demo", part.role()].into_iter().chain(words).collect::<Vec<_>>().join("-")
}

fn document() -> serde_json::Value {
    let body = json!({
        "type": "object",
        "required": ["as"],
        "properties": {
            "as": { "type": "string", "enum": ["fan", "organiser", "door", "rider", "driver", "operator"] },
            "name": { "type": "string", "description": "tells several people apart" },
        },
    });
    let answer = json!({
        "type": "object",
        "required": ["token", "subject", "roles", "expires_at"],
        "properties": {
            "token": { "type": "string", "description": "for `Authorization: Bearer`" },
            "subject": { "type": "string" },
            "roles": { "type": "array", "items": { "type": "string" } },
            "expires_at": { "type": "string", "format": "date-time" },
        },
    });
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Tessera demo", "version": tessera_service::VERSION },
        "paths": { "/demo/sign-in": { "post": {
            "summary": "Signs in a person of the demo. Only `tessera up --demo` has it.",
            "requestBody": { "required": true, "content": { "application/json": { "schema": body } } },
            "responses": { "200": {
                "description": "a token",
                "content": { "application/json": { "schema": answer } },
            } },
        } } },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_have_plain_subjects() {
        assert_eq!(subject(Part::Organiser, "  "), "demo-organiser");
        assert_eq!(subject(Part::Fan, "Ada  Lovelace!"), "demo-fan-ada-lovelace");
        assert_eq!(subject(Part::Fan, "<script>"), "demo-fan-script");
        for name in ["ж".repeat(500), "a b ".repeat(500)] {
            assert!(subject(Part::Door, &name).len() <= tessera_service::identity::MAX_SUBJECT_BYTES);
        }
    }
}
