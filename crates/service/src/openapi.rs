//! OpenAPI documents of several makers as one: their components side by side, each under a name that is its own.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

/// The name of the scheme in our documents.
const BEARER: &str = "bearer";

/// A component: its section and its name.
type Name = (String, String);

/// Components of several documents.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Components(Map<String, Value>);

/// The new names of a document's components, where they could not keep theirs.
#[derive(Debug)]
pub struct Renames(BTreeMap<Name, String>);

impl Components {
    /// Adds those of a document. What has the name of another one that is different, or refers to such a one, gets a name
    /// that begins with its maker's; what is the same is there once.
    pub fn add(&mut self, document: &Value, maker: &str) -> Renames {
        let renames = self.renames(document, maker);
        for (key, component) in of(document) {
            let mut component = component.clone();
            renames.apply(&mut component);
            let name = renames.0.get(&key).unwrap_or(&key.1).clone();
            let known = self.0.entry(key.0).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(known) = known {
                known.entry(name).or_insert(component);
            }
        }
        renames
    }

    /// All of them, by section and name.
    pub fn into_map(self) -> Map<String, Value> {
        self.0
    }

    /// Components of a document that cannot keep their names: another one has it, or they refer to one that loses its own.
    fn renames(&self, document: &Value, maker: &str) -> Renames {
        let mut renames: BTreeMap<Name, String> = BTreeMap::new();
        let known = |section: &str, name: &str| self.0.get(section).and_then(|known| known.get(name));
        loop {
            let mut found: Vec<Name> = Vec::new();
            for (key, component) in of(document) {
                let Some(known) = known(&key.0, &key.1) else { continue };
                if !renames.contains_key(&key) && (known != component || refers(component, &renames)) {
                    found.push(key);
                }
            }
            if found.is_empty() {
                return Renames(renames);
            }
            for (section, name) in found {
                let components = document.pointer("/components").and_then(|all| all.get(&section));
                let is_free = |wanted: &str| {
                    known(&section, wanted).is_none() && components.and_then(|own| own.get(wanted)).is_none()
                };
                let new = with_maker(&name, maker, is_free);
                renames.insert((section, name), new);
            }
        }
    }
}

impl Renames {
    /// Gives references their new names: in `$ref`, in the `mapping` of a discriminator, and in what is required of callers.
    pub fn apply(&self, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields.iter_mut() {
                    match value {
                        Value::String(text) if key == "$ref" => {
                            if let Some(new) = self.reference(text) {
                                *text = new;
                            }
                        }
                        Value::Object(mapping) if key == "mapping" => {
                            for target in mapping.values_mut() {
                                let new = target.as_str().and_then(|text| self.reference(text));
                                match new {
                                    Some(new) => *target = new.into(),
                                    None => self.apply(target),
                                }
                            }
                        }
                        value => self.apply(value),
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.apply(item)),
            _ => {}
        }
    }

    /// As [`Self::apply`] to an operation of a document. Its `security`, which names its schemes without a reference, is the
    /// document's where it says nothing itself: beside operations of others each has to say it.
    pub fn apply_to_operation(&self, operation: &mut Value, document: &Value) {
        self.apply(operation);
        let Some(operation) = operation.as_object_mut() else { return };
        if let Some(common) = document.get("security") {
            operation.entry("security").or_insert_with(|| common.clone());
        }
        let Some(Value::Array(requirements)) = operation.get_mut("security") else { return };
        for requirement in requirements.iter_mut().filter_map(Value::as_object_mut) {
            let named = std::mem::take(requirement);
            let new = named.into_iter().map(|(name, scopes)| {
                let new = self.0.get(&("securitySchemes".to_owned(), name.clone())).cloned();
                (new.unwrap_or(name), scopes)
            });
            *requirement = new.collect();
        }
    }

    fn reference(&self, text: &str) -> Option<String> {
        let (name, behind) = component_of(text)?;
        let new = self.0.get(&name)?.replace('~', "~0").replace('/', "~1");
        Some(format!("#/components/{}/{new}{behind}", name.0))
    }
}

/// What an operation wants of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// One that holds.
    Wanted,
    /// One that holds, or none.
    Optional,
    /// It looks at none.
    Unread,
}

/// Says of each operation of a document, by its method and path, whether it wants a bearer token.
pub fn say_tokens(document: &mut Value, of: impl Fn(&str, &str) -> Token) {
    document["components"]["securitySchemes"][BEARER] = json!({
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A token of `tessera token`, of accounts or of the issuer that the settings name.",
    });
    let paths = document.get_mut("paths").and_then(Value::as_object_mut).into_iter().flatten();
    for (path, item) in paths {
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            let Some(operation) = operation.as_object_mut() else { continue };
            let security = match of(method, path) {
                Token::Wanted => json!([{ BEARER: [] }]),
                Token::Optional => json!([{}, { BEARER: [] }]),
                Token::Unread => json!([]),
            };
            operation.insert("security".into(), security);
        }
    }
}

/// A name that is free: with its maker's before it, and a number where that is taken too.
pub fn with_maker(name: &str, maker: &str, is_free: impl Fn(&str) -> bool) -> String {
    let first = format!("{maker}_{name}");
    let numbered = (2..).map(|number| format!("{maker}_{name}_{number}"));
    [first].into_iter().chain(numbered).find(|wanted| is_free(wanted)).unwrap_or_default()
}

/// What every operation may answer, whatever else it says: an error (RFC 9457). It is described by [`problem`].
pub fn refusal() -> Value {
    json!({
        "description": "It was refused, or failed.",
        "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
    })
}

/// The schema of an error.
pub fn problem() -> Value {
    json!({
        "type": "object",
        "description": "An error (RFC 9457).",
        "required": ["type", "title", "status", "code", "detail", "request_id"],
        "properties": {
            "type": { "type": "string", "description": "`urn:tessera:error:<code>`" },
            "title": { "type": "string", "description": "What sort of error it is." },
            "status": { "type": "integer", "description": "The HTTP status." },
            "code": { "type": "string", "description": "The stable code, such as `tickets.seat_taken`." },
            "detail": { "type": "string", "description": "What happened, and what to do." },
            "request_id": { "type": ["string", "null"], "description": "By which the log knows the request." },
        },
    })
}

fn of(document: &Value) -> impl Iterator<Item = (Name, &Value)> {
    let sections = document.get("components").and_then(Value::as_object).into_iter().flatten();
    sections.flat_map(|(section, components)| {
        let components = components.as_object().into_iter().flatten();
        components.map(move |(name, component)| ((section.clone(), name.clone()), component))
    })
}

/// The component that a reference names, and what is behind it.
fn component_of(reference: &str) -> Option<(Name, &str)> {
    let rest = reference.strip_prefix("#/components/")?;
    let (section, rest) = rest.split_once('/')?;
    let (name, behind) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    Some(((section.to_owned(), name.replace("~1", "/").replace("~0", "~")), behind))
}

fn refers(value: &Value, renames: &BTreeMap<Name, String>) -> bool {
    match value {
        Value::Object(fields) => fields.values().any(|value| refers(value, renames)),
        Value::Array(items) => items.iter().any(|item| refers(item, renames)),
        Value::String(text) => component_of(text).is_some_and(|(name, _)| renames.contains_key(&name)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(security: Value, operation: Value) -> Value {
        let key = json!({ "type": "http", "scheme": "basic" });
        let paths = json!({ "/things": { "get": operation } });
        json!({ "security": security, "paths": paths, "components": { "securitySchemes": { "key": key } } })
    }

    #[test]
    fn what_a_document_asks_of_callers_each_operation_says() {
        let other = json!({ "components": { "securitySchemes": { "key": { "type": "http", "scheme": "bearer" } } } });
        for (own, expected) in [
            (json!({}), json!([{ "second_key": [] }])),
            (json!({ "security": [] }), json!([])),
            (json!({ "security": [{}, { "key": ["read"] }] }), json!([{}, { "second_key": ["read"] }])),
        ] {
            let mut components = Components::default();
            components.add(&other, "first");
            let document = document(json!([{ "key": [] }]), own);
            let mut operation = document["paths"]["/things"]["get"].clone();
            components.add(&document, "second").apply_to_operation(&mut operation, &document);
            assert_eq!(operation["security"], expected);
        }
    }

    #[test]
    fn each_operation_says_which_token_it_wants() {
        let mut document = json!({ "paths": { "/open": { "get": {} }, "/own": { "get": {}, "post": {} } } });
        say_tokens(&mut document, |method, path| match (method, path) {
            (_, "/open") => Token::Unread,
            ("get", _) => Token::Optional,
            _ => Token::Wanted,
        });
        let security = |path: &str, method: &str| document["paths"][path][method]["security"].clone();
        assert_eq!(security("/open", "get"), json!([]));
        assert_eq!(security("/own", "get"), json!([{}, { "bearer": [] }]));
        assert_eq!(security("/own", "post"), json!([{ "bearer": [] }]));
        assert_eq!(document["components"]["securitySchemes"]["bearer"]["scheme"], "bearer");
    }
}
