//! Policies over claims and the parameters of a path, in the Cedar language. What no policy permits is refused.

use std::collections::HashSet;

use cedar_policy::{
    AuthorizationError, Authorizer, Context, Decision, Effect, Entities, Entity, EntityId, EntityTypeName, EntityUid,
    PolicySet, Request, RestrictedExpression,
};
use serde_json::Value;

use super::Identity;

/// Claims within claims deeper than this are left out.
const MOST_NESTED: usize = 8;

/// Policies of a route.
#[derive(Debug)]
pub struct Policies {
    set: PolicySet,
    authorizer: Authorizer,
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// Who.
    pub identity: &'a Identity,
    /// How: the method.
    pub method: &'a str,
    /// What: the route.
    pub route: &'a str,
    /// The host, in small letters.
    pub host: &'a str,
    /// From where.
    pub ip: std::net::IpAddr,
    /// The path's parameters, without escapes.
    pub path: Vec<(String, String)>,
}

impl Policies {
    /// Reads policies.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn new(text: &str) -> Result<Self, String> {
        let set: PolicySet = text.parse().map_err(|error: cedar_policy::ParseErrors| error.to_string())?;
        if set.is_empty() {
            return Err("there is no policy in it; write permit (principal, action, resource);".into());
        }
        Ok(Self { set, authorizer: Authorizer::new() })
    }

    /// Whether they permit it. A `forbid` that cannot be evaluated forbids: it may ask for a claim that is not there.
    pub fn permit(&self, asked: &Asked<'_>) -> bool {
        let Some((request, entities)) = read(asked) else { return false };
        let answer = self.authorizer.is_authorized(&request, &self.set, &entities);
        let is_forbid = |error: &AuthorizationError| {
            let AuthorizationError::PolicyEvaluationError(error) = error;
            self.set.policy(error.policy_id()).is_none_or(|policy| policy.effect() == Effect::Forbid)
        };
        answer.decision() == Decision::Allow && !answer.diagnostics().errors().any(is_forbid)
    }
}

fn read(asked: &Asked<'_>) -> Option<(Request, Entities)> {
    let uid = |kind: &str, name: &str| {
        let kind: EntityTypeName = kind.parse().ok()?;
        Some(EntityUid::from_type_name_and_id(kind, EntityId::new(name)))
    };
    let Identity { subject, roles, scopes, claims, .. } = asked.identity;
    let principal = uid("User", subject)?;
    let groups: HashSet<EntityUid> = roles.iter().map(|role| uid("Role", role)).collect::<Option<_>>()?;
    let entities = Entities::from_entities([Entity::new_no_attrs(principal.clone(), groups)], None).ok()?;
    let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
    let record = |pairs: Vec<(String, RestrictedExpression)>| RestrictedExpression::new_record(pairs).ok();
    let path = asked.path.iter().map(|(name, value)| (name.clone(), text(value))).collect();
    let claims = claims.iter().filter_map(|(name, value)| Some((name.clone(), expression(value, 0)?))).collect();
    let context = Context::from_pairs([
        ("subject".to_owned(), text(subject)),
        ("scopes".to_owned(), RestrictedExpression::new_set(scopes.iter().map(|scope| text(scope)))),
        ("claims".to_owned(), record(claims)?),
        ("path".to_owned(), record(path)?),
        ("host".to_owned(), text(asked.host)),
        ("ip".to_owned(), RestrictedExpression::new_ip(asked.ip.to_string())),
    ]);
    let request =
        Request::new(principal, uid("Action", asked.method)?, uid("Route", asked.route)?, context.ok()?, None);
    Some((request.ok()?, entities))
}

/// A claim as Cedar has it: it knows neither `null` nor fractions, and these are left out.
fn expression(value: &Value, depth: usize) -> Option<RestrictedExpression> {
    if depth > MOST_NESTED {
        return None;
    }
    Some(match value {
        Value::Null => return None,
        Value::Bool(is_so) => RestrictedExpression::new_bool(*is_so),
        Value::Number(number) => RestrictedExpression::new_long(number.as_i64()?),
        Value::String(text) => RestrictedExpression::new_string(text.clone()),
        Value::Array(items) => {
            RestrictedExpression::new_set(items.iter().filter_map(|item| expression(item, depth + 1)))
        }
        Value::Object(fields) => {
            let fields = fields.iter().filter_map(|(name, value)| Some((name.clone(), expression(value, depth + 1)?)));
            RestrictedExpression::new_record(fields).ok()?
        }
    })
}
