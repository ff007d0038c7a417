//! Several OpenAPI documents as one: paths as callers see them, components side by side, each under a name that is its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value, json};
use tessera_service::openapi::{Components, Renames, with_maker};

use super::public::Place;
use crate::spec;
use crate::validate::renewed;

/// The document of an upstream, and where callers find its operations.
#[derive(Debug)]
pub struct Source {
    /// The upstream.
    pub upstream: String,
    /// What it describes.
    pub document: Arc<Value>,
    /// Its operations that callers reach.
    pub places: Vec<Place>,
}

/// Merges all documents into one of OpenAPI 3.1.
pub fn merge(spec: &spec::Documents, sources: &[Source]) -> Value {
    let mut merged = Merged::default();
    for source in sources {
        merged.add(source);
    }
    let mut info = json!({ "title": spec.title, "version": spec.version });
    if !spec.description.is_empty() {
        info["description"] = spec.description.as_str().into();
    }
    let mut document = json!({ "openapi": "3.1.0", "info": info, "paths": merged.paths });
    if !merged.tags.is_empty() {
        document["tags"] = merged.tags.into_iter().map(|(_, tag)| tag).collect();
    }
    let components = merged.components.into_map();
    if !components.is_empty() {
        document["components"] = Value::Object(components);
    }
    document
}

#[derive(Default)]
struct Merged {
    paths: BTreeMap<String, Map<String, Value>>,
    components: Components,
    tags: Vec<(String, Value)>,
    ids: BTreeSet<String>,
}

impl Merged {
    fn add(&mut self, source: &Source) {
        let document = renewed(&source.document);
        let renames = self.components.add(&document, &source.upstream);
        for tag in document.get("tags").and_then(Value::as_array).into_iter().flatten() {
            let name = tag.get("name").and_then(Value::as_str).unwrap_or_default();
            if !self.tags.iter().any(|(known, _)| known == name) {
                self.tags.push((name.to_owned(), tag.clone()));
            }
        }
        for place in &source.places {
            self.add_operation(source, &document, place, &renames);
        }
    }

    fn add_operation(&mut self, source: &Source, document: &Value, place: &Place, renames: &Renames) {
        let item = &document["paths"][place.path.as_str()];
        let Some(Value::Object(mut operation)) = item.get(place.method).cloned() else { return };
        if self.paths.get(&place.public).is_some_and(|known| known.contains_key(place.method)) {
            return;
        }
        let own = operation.shift_remove("parameters").and_then(|own| own.as_array().cloned()).unwrap_or_default();
        let key = |parameter: &Value| {
            (parameter.get("name").cloned(), parameter.get("in").cloned(), parameter.get("$ref").cloned())
        };
        let common = item.get("parameters").and_then(Value::as_array).cloned().unwrap_or_default();
        let mut parameters: Vec<Value> =
            common.into_iter().filter(|common| !own.iter().any(|own| key(own) == key(common))).collect();
        parameters.extend(own);
        parameters.extend(
            place
                .added
                .iter()
                .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })),
        );
        if !parameters.is_empty() {
            operation.insert("parameters".into(), parameters.into());
        }
        operation.shift_remove("servers");
        if !place.hosts.is_empty() {
            let servers = place.hosts.iter().map(|host| json!({ "url": format!("//{host}") }));
            operation.insert("servers".into(), servers.collect());
        }
        if operation.get("tags").and_then(Value::as_array).is_none_or(Vec::is_empty) {
            operation.insert("tags".into(), json!([source.upstream]));
        }
        if let Some(id) = operation.get("operationId").and_then(Value::as_str).map(str::to_owned) {
            let id = free(&id, &source.upstream, |id| !self.ids.contains(id));
            operation.insert("operationId".into(), id.as_str().into());
            self.ids.insert(id);
        }
        let mut operation = Value::Object(operation);
        renames.apply_to_operation(&mut operation, document);
        self.paths.entry(place.public.clone()).or_default().insert(place.method.to_owned(), operation);
    }
}

/// The name itself, or with the upstream's before it.
fn free(name: &str, upstream: &str, is_free: impl Fn(&str) -> bool) -> String {
    if is_free(name) { name.to_owned() } else { with_maker(name, upstream, is_free) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str, public: &str, method: &'static str) -> Place {
        Place { path: path.into(), method, public: public.into(), hosts: Vec::new(), added: Vec::new() }
    }

    fn source(upstream: &str, document: Value, places: Vec<Place>) -> Source {
        Source { upstream: upstream.into(), document: Arc::new(document), places }
    }

    fn document(item: Value, schemas: Value) -> Value {
        json!({
            "openapi": "3.1.0",
            "security": [{ "key": [] }],
            "paths": { "/items": {
                "parameters": [{ "name": "q", "in": "query" }],
                "get": { "operationId": "list", "responses": { "200": { "content": { "application/json": { "schema": item } } } } },
            } },
            "components": { "schemas": schemas, "securitySchemes": { "key": { "type": "http", "scheme": "basic" } } },
        })
    }

    #[test]
    fn what_has_the_same_name_and_is_another_gets_a_new_one() {
        let reference = json!({ "$ref": "#/components/schemas/Item" });
        let of = |kind: &str| {
            json!({
                "Item": { "properties": { "id": { "$ref": "#/components/schemas/Id" }, "code": { "$ref": "#/components/schemas/Code" } } },
                "Id": { "type": kind },
                "Code": { "type": "string" },
            })
        };
        let first = source("a", document(reference.clone(), of("integer")), vec![place("/items", "/a/items", "get")]);
        let second = source("b", document(reference, of("string")), vec![place("/items", "/b/items", "get")]);
        let merged = merge(&spec::Documents::default(), &[first, second]);
        let schemas = &merged["components"]["schemas"];
        let names: Vec<&String> = schemas.as_object().unwrap().keys().collect();
        assert_eq!(names, ["Item", "Id", "Code", "b_Item", "b_Id"], "the same is there once");
        assert_eq!(schemas["b_Item"]["properties"]["id"]["$ref"], "#/components/schemas/b_Id");
        assert_eq!(schemas["b_Item"]["properties"]["code"]["$ref"], "#/components/schemas/Code");
        let get = &merged["paths"]["/b/items"]["get"];
        assert_eq!(
            get["responses"]["200"]["content"]["application/json"]["schema"]["$ref"],
            "#/components/schemas/b_Item"
        );
        assert_eq!((&get["operationId"], &get["tags"]), (&json!("b_list"), &json!(["b"])));
        assert_eq!((&get["parameters"][0]["name"], &get["security"]), (&json!("q"), &json!([{ "key": [] }])));
    }

    #[test]
    fn nothing_gives_an_empty_document() {
        let merged = merge(&spec::Documents::default(), &[]);
        assert_eq!(merged, json!({ "openapi": "3.1.0", "info": { "title": "APIs", "version": "1" }, "paths": {} }));
    }
}
