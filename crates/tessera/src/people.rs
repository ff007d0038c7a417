//! `POST /demo/sign-in` signs in the people of the demo without a password; `GET /demo/rides/{id}/code` is what a simulated rider says at
//! the pickup to a visitor who drives. Served by `up --demo` only.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{FromRef, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tessera_kernel::{Clock, Timestamp};
use tessera_service::http::{Json, Path};
use tessera_service::{Component, Deps, Identity, Keys, Problem};
use tessera_sim::app::city::small;
use tessera_sim::client::Client;

/// How long one stays signed in: a day at the fair.
const TTL: Duration = Duration::from_secs(12 * 3_600);
/// Characters of a name that count: with four bytes each they fit into a subject.
const MAX_NAME: usize = 24;

/// Connections for questions to this server.
const CONNECTIONS: usize = 4;

#[derive(Clone)]
struct Desk {
    keys: Keys,
    clock: Arc<dyn Clock>,
    /// Asks this server.
    client: Client,
}

impl FromRef<Desk> for Keys {
    fn from_ref(desk: &Desk) -> Self {
        desk.keys.clone()
    }
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

#[derive(Debug, Serialize)]
struct CodeBody {
    /// None before the driver has arrived, and for riders who are real people.
    code: Option<String>,
}

/// The desk where one signs in.
///
/// # Errors
/// An address of this server that cannot be asked.
pub fn component(deps: &Deps) -> anyhow::Result<Component> {
    let client = Client::new(&deps.base_url(), CONNECTIONS)?;
    let (keys, clock) = (deps.keys.clone(), Arc::clone(&deps.clock));
    let router = Router::new()
        .route("/demo/sign-in", post(sign_in))
        .route("/demo/rides/{id}/code", get(code))
        .with_state(Desk { keys, clock, client });
    Ok(Component::new("demo", "/console/#/sign-in").router(router).openapi(document()))
}

async fn sign_in(State(desk): State<Desk>, Json(body): Json<SignInBody>) -> Result<Json<SignedInBody>, Problem> {
    let subject = subject(body.r#as, body.name.as_deref().unwrap_or_default());
    let roles = vec![body.r#as.role().to_owned()];
    let token = desk.keys.sign_token(&subject, &roles, TTL)?;
    Ok(Json(SignedInBody { token, subject, roles, expires_at: desk.clock.now().plus(TTL) }))
}

async fn code(
    State(desk): State<Desk>,
    identity: Identity,
    Path(ride): Path<String>,
    headers: HeaderMap,
) -> Result<Json<CodeBody>, Problem> {
    identity.require(&["driver"])?;
    let token = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let told = match token {
        Some(token) => small::told_code(&desk.client, &desk.keys, &ride, token).await,
        None => Ok(None),
    };
    // Whose ride it is not learns as little as who is too early.
    let code = told.unwrap_or_else(|error| {
        tracing::debug!(%error, "a rider of the demo does not say the code");
        None
    });
    Ok(Json(CodeBody { code }))
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
    let code = json!({ "type": "object", "properties": { "code": { "type": ["string", "null"] } } });
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
        } }, "/demo/rides/{id}/code": { "get": {
            "summary": "What a simulated rider says to the driver who has arrived. Only `tessera up --demo` has it.",
            "parameters": [{ "name": "id", "in": "path", "required": true, "schema": { "type": "string" } }],
            "responses": { "200": {
                "description": "four digits; null before the driver of the ride has arrived, and where the rider is no simulated one",
                "content": { "application/json": { "schema": code } },
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
