//! Makes [`Rules`] of an OpenAPI document or a JSON Schema.

use http::Method;
use jsonschema::{Draft, PatternOptions, Registry, Validator};
use serde_json::{Value, json};

use super::document::{Direction, METHODS, Place, for_direction, version};
use super::parameters::{Kinds, Parameter, Place as Where, Shape, names_type};
use super::{Content, Operation, Reading, Rules, Statuses};
use crate::domain::path_tree::{PathTree, Pattern};

/// The name of the document within itself; nothing is fetched from there.
const DOCUMENT: &str = "urn:tessera:document";

impl Rules {
    /// From an OpenAPI document; `base` is what stands before its paths.
    ///
    /// # Errors
    /// What of it cannot be used, with its place.
    pub fn of_document(document: &Value, base: &str) -> Result<Self, String> {
        version(document)?;
        let (requests, answers) =
            (for_direction(document, Direction::Request), for_direction(document, Direction::Answer));
        let (request_schemas, answer_schemas) = (Schemas::new(&requests)?, Schemas::new(&answers)?);
        let mut rules = Self { paths: PathTree::default(), operations: Vec::new(), base: base.to_owned(), any: None };
        let Some(paths) = Place::root(&requests).get("paths")? else { return Err("it has no `paths`".into()) };
        let answer_paths = Place::root(&answers).get("paths")?;
        for path in paths.keys() {
            let wrong = |error: String| format!("path `{path}`: {error}");
            let (pattern, names) = pattern_of(&path).map_err(wrong)?;
            let Some(item) = paths.get(&path).map_err(wrong)? else { continue };
            let answer_item = answer_paths.as_ref().map(|paths| paths.get(&path)).transpose().map_err(wrong)?.flatten();
            let mut methods = Vec::new();
            for method in METHODS {
                let Some(described) = item.get(method).map_err(wrong)? else { continue };
                let wrong = |error: String| format!("{} {path}: {error}", method.to_ascii_uppercase());
                let mut operation = Operation {
                    parameters: parameters(&request_schemas, &item, &described, &names).map_err(wrong)?,
                    ..Operation::default()
                };
                if let Some(body) = described.get("requestBody").map_err(wrong)? {
                    operation.is_body_required = body.is("required");
                    operation.bodies = contents(&request_schemas, &body).map_err(wrong)?;
                }
                let described = answer_item.as_ref().map(|item| item.get(method)).transpose().map_err(wrong)?.flatten();
                if let Some(described) = described {
                    operation.answers = answers_of(&answer_schemas, &described).map_err(wrong)?;
                }
                methods.push((method.to_ascii_uppercase().parse().unwrap_or(Method::GET), operation));
            }
            rules.paths.insert(&pattern, rules.operations.len());
            rules.operations.push(methods);
        }
        Ok(rules)
    }

    /// From a JSON Schema of bodies.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of_schema(schema: &Value) -> Result<Self, String> {
        let validator = options().build(schema).map_err(|error| format!("at `{}`: {error}", error.instance_path()))?;
        let json = |kind: &str, validator| Content { kind: kind.into(), reading: Reading::Json, validator };
        let any = Operation {
            is_body_required: true,
            // Whatever is not said to be something else is taken for JSON.
            bodies: vec![json("*/*", Some(validator))],
            ..Operation::default()
        };
        Ok(Self { paths: PathTree::default(), operations: Vec::new(), base: String::new(), any: Some(any) })
    }
}

fn options<'i>() -> jsonschema::ValidationOptions<'i> {
    // A pattern is matched in time that grows with the text only; what cannot be (look-around) is refused here.
    jsonschema::options()
        .with_draft(Draft::Draft202012)
        .offline()
        .should_validate_formats(true)
        .with_pattern_options(PatternOptions::regex())
}

/// The schemas of a document.
struct Schemas<'d> {
    registry: Registry<'d>,
}

impl Schemas<'_> {
    fn new(document: &Value) -> Result<Self, String> {
        let registry = Registry::new().draft(Draft::Draft202012).add(DOCUMENT, document.clone());
        let registry = registry.and_then(jsonschema::RegistryBuilder::prepare);
        Ok(Self { registry: registry.map_err(|error| error.to_string())? })
    }

    fn compile(&self, place: &Place<'_>) -> Result<Validator, String> {
        let mut pointer = String::new();
        for byte in place.pointer.bytes() {
            match byte {
                byte if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) => pointer.push(char::from(byte)),
                byte => pointer.push_str(&format!("%{byte:02X}")),
            }
        }
        let schema = json!({ "$ref": format!("{DOCUMENT}#{pointer}") });
        let built = options().with_registry(&self.registry).build(&schema);
        built.map_err(|error| format!("the schema at `{}` cannot be used: {error}", place.pointer))
    }
}

/// A path of OpenAPI as one of ours, and the names of its parameters in order.
fn pattern_of(path: &str) -> Result<(Pattern, Vec<String>), String> {
    let mut names = Vec::new();
    let segments =
        path.split('/').map(|segment| match segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(name) => {
                names.push(name.to_owned());
                // Names of OpenAPI may have what ours may not.
                format!("{{p{}}}", names.len())
            }
            None => segment.to_owned(),
        });
    let pattern = segments.collect::<Vec<_>>().join("/").parse()?;
    Ok((pattern, names))
}

/// Parameters of the path and of the operation, which replace those of the same name and place.
fn parameters(
    schemas: &Schemas<'_>,
    item: &Place<'_>,
    operation: &Place<'_>,
    names: &[String],
) -> Result<Vec<Parameter>, String> {
    let mut found: Vec<Parameter> = Vec::new();
    for of in [item, operation] {
        let Some(list) = of.get("parameters")? else { continue };
        for key in list.keys() {
            let Some(place) = list.get(&key)? else { continue };
            let Some(parameter) = parameter(schemas, &place, names)? else { continue };
            found.retain(|known| (known.place, &known.name) != (parameter.place, &parameter.name));
            found.push(parameter);
        }
    }
    Ok(found)
}

fn parameter(schemas: &Schemas<'_>, place: &Place<'_>, names: &[String]) -> Result<Option<Parameter>, String> {
    let Some(name) = place.text("name") else {
        return Err(format!("the parameter at `{}` has no name", place.pointer));
    };
    let at = match place.text("in") {
        Some("path") => match names.iter().position(|known| known == name) {
            Some(at) => Where::Path(at),
            None => return Err(format!("parameter `{name}` is not in the path")),
        },
        Some("query") => Where::Query,
        // These are described elsewhere (OpenAPI 3.1, 4.8.12.2.1).
        Some("header") if ["accept", "content-type", "authorization"].contains(&name.to_ascii_lowercase().as_str()) => {
            return Ok(None);
        }
        Some("header") => Where::Header,
        Some("cookie") => Where::Cookie,
        _ => return Err(format!("parameter `{name}` is neither in path, query, header nor cookie")),
    };
    let name = if at == Where::Header { name.to_ascii_lowercase() } else { name.to_owned() };
    let is_required = place.is("required") || matches!(at, Where::Path(_));
    if let Some(content) = place.get("content")? {
        let kind = content.keys().into_iter().next().unwrap_or_default();
        let schema = content.get(&kind)?.and_then(|kind| kind.schema("schema"));
        let validator = schema.map(|schema| schemas.compile(&schema)).transpose()?;
        return Ok(Some(Parameter { name, place: at, is_required, shape: Shape::Json, validator }));
    }
    let Some(schema) = place.schema("schema") else {
        let shape = Shape::Scalar(Kinds::default());
        return Ok(Some(Parameter { name, place: at, is_required, shape, validator: None }));
    };
    let validator = Some(schemas.compile(&schema)?);
    let shape = shape_of(place, &schema.followed()?, at)?;
    Ok(Some(Parameter { name, place: at, is_required, shape, validator }))
}

fn shape_of(parameter: &Place<'_>, schema: &Place<'_>, at: Where) -> Result<Shape, String> {
    let style = parameter.text("style");
    if style == Some("deepObject") {
        return Ok(Shape::Deep(properties(schema)?));
    }
    let Some(items) = items_of(schema)? else { return Ok(Shape::Scalar(kinds_of(schema)?)) };
    let items = kinds_of(&items)?;
    let explodes = parameter.value.get("explode").and_then(Value::as_bool);
    let parted_by = match (at, style, explodes) {
        (Where::Query, Some("spaceDelimited"), _) => Some(' '),
        (Where::Query, Some("pipeDelimited"), _) => Some('|'),
        (Where::Query | Where::Cookie, _, None | Some(true)) => None,
        _ => Some(','),
    };
    Ok(Shape::List { parted_by, items })
}

/// The types of a schema and of those that it is put together of.
fn kinds_of(schema: &Place<'_>) -> Result<Kinds, String> {
    Ok(schema.parts()?.iter().map(|part| Kinds::of(part.value)).fold(Kinds::default(), Kinds::or))
}

/// What the items of a list are; `None` where it is none.
fn items_of<'d>(schema: &Place<'d>) -> Result<Option<Place<'d>>, String> {
    let Some(list) = schema.parts()?.into_iter().find(|part| names_type(part.value, "array")) else { return Ok(None) };
    Ok(Some(list.get("items")?.unwrap_or(Place::ANYTHING)))
}

/// The properties of an object and how the texts of each are read.
fn properties(schema: &Place<'_>) -> Result<Vec<(String, Kinds)>, String> {
    let mut found = Vec::new();
    for part in schema.parts()? {
        let Some(properties) = part.get("properties")? else { continue };
        for name in properties.keys() {
            let Some(property) = properties.get(&name)? else { continue };
            let items = items_of(&property)?;
            // What holds objects or lists is JSON in one text, and no list of texts.
            let items = items.filter(|items| !["object", "array"].iter().any(|kind| names_type(items.value, kind)));
            let kinds = match items {
                Some(items) => Kinds { list: true, ..kinds_of(&items)? },
                None => kinds_of(&property)?,
            };
            found.push((name, kinds));
        }
    }
    Ok(found)
}

fn contents(schemas: &Schemas<'_>, body: &Place<'_>) -> Result<Vec<Content>, String> {
    let Some(content) = body.get("content")? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for written in content.keys() {
        let Some(place) = content.get(&written)? else { continue };
        let kind = written.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let schema = place.schema("schema");
        let reading = match kind.as_str() {
            "application/x-www-form-urlencoded" => {
                let schema = schema.clone().map(Place::followed).transpose()?;
                Reading::Form(schema.map(|schema| properties(&schema)).transpose()?.unwrap_or_default())
            }
            kind if kind == "application/json" || kind.ends_with("+json") => Reading::Json,
            _ => Reading::Opaque,
        };
        let validator = match (&reading, schema) {
            (Reading::Opaque, _) | (_, None) => None,
            (_, Some(schema)) => Some(schemas.compile(&schema)?),
        };
        found.push(Content { kind, reading, validator });
    }
    // The very type before `type/*` before `*/*`.
    found.sort_by_key(|content| (content.kind == "*/*", content.kind.ends_with('*')));
    Ok(found)
}

fn answers_of(schemas: &Schemas<'_>, operation: &Place<'_>) -> Result<Vec<(Statuses, Vec<Content>)>, String> {
    let Some(answers) = operation.get("responses")? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for written in answers.keys() {
        let Some(place) = answers.get(&written)? else { continue };
        let statuses = match (written.parse(), written.as_bytes()) {
            (Ok(status), _) => Statuses::One(status),
            (_, [class @ b'1'..=b'5', b'X' | b'x', b'X' | b'x']) => Statuses::Class(u16::from(class - b'0')),
            _ if written == "default" => Statuses::Others,
            _ => continue,
        };
        found.push((statuses, contents(schemas, &place)?));
    }
    found.sort_by_key(|(statuses, _)| *statuses);
    Ok(found)
}
