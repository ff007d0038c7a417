//! Messages out of path, query and body, and JSON out of messages, by the JSON mapping of Protocol Buffers.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use prost_reflect::prost::Message as _;
use prost_reflect::{
    DeserializeOptions, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor, SerializeOptions,
};
use serde_json::{Map, Value};

use super::Meant;
use crate::validate::{Fault, In};

/// Messages of a client's stream.
const MOST_MESSAGES: usize = 10_000;
/// An answer of this type is sent as the bytes that it holds.
const HTTP_BODY: &str = "google.api.HttpBody";

/// The messages of a request.
///
/// # Errors
/// What of it has no place in the message.
pub(crate) fn request_messages(
    meant: &Meant,
    query: Option<&str>,
    kind: &str,
    body: &[u8],
) -> Result<Vec<Vec<u8>>, Fault> {
    let input = meant.method.input();
    let bodies = bodies(&meant.method, kind, body)?;
    let mut messages = Vec::new();
    for body in bodies {
        let mut object = Map::new();
        match (meant.body.as_deref(), body) {
            (None, _) | (_, None) => {}
            (Some("*"), Some(Value::Object(fields))) => object = fields,
            (Some("*"), Some(_)) => return Err(fault(In::Body, "", "it is not an object")),
            (Some(field), Some(value)) => {
                object.insert(field.to_owned(), value);
            }
        }
        // The path says more than the body of the same field.
        for (field, text) in &meant.fields {
            let value = value_of(&input, field, text).map_err(|detail| fault(In::Path, field, &detail))?;
            put(&mut object, &input, field, value);
        }
        if meant.body.as_deref() != Some("*") {
            add_query(&mut object, &input, query.unwrap_or_default(), meant)?;
        }
        messages.push(encode(&input, Value::Object(object))?);
    }
    Ok(messages)
}

fn fault(place: In, field: &str, detail: &str) -> Fault {
    let pointer = if field.is_empty() { String::new() } else { format!("/{}", field.replace('.', "/")) };
    Fault { place, pointer, detail: detail.to_owned() }
}

/// The JSON of a body: one value, or for a client's stream those of a list or of lines.
fn bodies(method: &MethodDescriptor, kind: &str, body: &[u8]) -> Result<Vec<Option<Value>>, Fault> {
    let wrong = |error: serde_json::Error| {
        fault(In::Body, "", &format!("it is not JSON: line {}, column {}", error.line(), error.column()))
    };
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(vec![None]);
    }
    if !method.is_client_streaming() {
        return Ok(vec![Some(serde_json::from_slice(body).map_err(wrong)?)]);
    }
    let values: Vec<Value> = if kind.starts_with("application/x-ndjson") {
        let values = serde_json::Deserializer::from_slice(body).into_iter::<Value>();
        values.take(MOST_MESSAGES + 1).collect::<Result<_, _>>().map_err(wrong)?
    } else {
        match serde_json::from_slice(body).map_err(wrong)? {
            Value::Array(items) => items,
            one => vec![one],
        }
    };
    if values.len() > MOST_MESSAGES {
        return Err(fault(In::Body, "", &format!("it has more than {MOST_MESSAGES} messages")));
    }
    Ok(values.into_iter().map(Some).collect())
}

/// Parameters of the query are fields by their names, within others behind dots; those of lists may be repeated.
fn add_query(
    object: &mut Map<String, Value>,
    input: &MessageDescriptor,
    query: &str,
    meant: &Meant,
) -> Result<(), Fault> {
    for (name, text) in url::form_urlencoded::parse(query.as_bytes()) {
        if meant.fields.iter().any(|(field, _)| *field == *name) || meant.body.as_deref() == Some(&*name) {
            return Err(fault(In::Query, &name, "it is said elsewhere already"));
        }
        let value = value_of(input, &name, &text).map_err(|detail| fault(In::Query, &name, &detail))?;
        put(object, input, &name, value);
    }
    Ok(())
}

/// A field by its name in the description or in JSON.
fn field_of(message: &MessageDescriptor, name: &str) -> Option<FieldDescriptor> {
    message.get_field_by_name(name).or_else(|| message.get_field_by_json_name(name))
}

/// The field at the end of a path.
fn last_of(message: &MessageDescriptor, path: &str) -> Option<FieldDescriptor> {
    let mut message = message.clone();
    let mut names = path.split('.').peekable();
    loop {
        let field = field_of(&message, names.next()?)?;
        if names.peek().is_none() {
            return Some(field);
        }
        match field.kind() {
            Kind::Message(inner) if !field.is_list() && !field.is_map() => message = inner,
            _ => return None,
        }
    }
}

/// A text as the JSON that its field takes.
fn value_of(message: &MessageDescriptor, path: &str, text: &str) -> Result<Value, String> {
    let field = last_of(message, path).ok_or("there is no such field")?;
    if field.is_map() {
        return Err("a map cannot be said here; put it into the body".into());
    }
    let kind = match field.kind() {
        // `google.protobuf.Int32Value` and its like are what they hold, in JSON.
        Kind::Message(inner)
            if inner.full_name().starts_with("google.protobuf.") && inner.full_name().ends_with("Value") =>
        {
            inner.get_field_by_name("value").map_or_else(|| field.kind(), |value| value.kind())
        }
        kind => kind,
    };
    match kind {
        Kind::Bool => match text {
            "true" | "1" => Ok(Value::Bool(true)),
            "false" | "0" => Ok(Value::Bool(false)),
            _ => Err("it is neither true nor false".into()),
        },
        // Numbers may be text in JSON; of enums the numbers may not.
        Kind::Enum(_) => Ok(text.parse::<i32>().map_or_else(|_| Value::from(text), Value::from)),
        Kind::Float | Kind::Double => match text.parse::<f64>() {
            Ok(_) => Ok(Value::from(text)),
            Err(_) => Err("it is not a number".into()),
        },
        Kind::Int32
        | Kind::Int64
        | Kind::Uint32
        | Kind::Uint64
        | Kind::Sint32
        | Kind::Sint64
        | Kind::Fixed32
        | Kind::Fixed64
        | Kind::Sfixed32
        | Kind::Sfixed64 => match text.parse::<i128>() {
            Ok(_) => Ok(Value::from(text)),
            Err(_) => Err("it is not a whole number".into()),
        },
        Kind::Message(inner) if !inner.full_name().starts_with("google.protobuf.") => {
            Err("it is a message; name its fields".into())
        }
        _ => Ok(Value::from(text)),
    }
}

/// Puts a value at the end of a path of fields; into a list it is added.
fn put(object: &mut Map<String, Value>, message: &MessageDescriptor, path: &str, value: Value) {
    let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
    let Some(field) = field_of(message, name) else { return };
    // One spelling, so that what the body has of it is found.
    let known = [field.name(), field.json_name()].into_iter().find(|known| object.contains_key(*known));
    let key = known.unwrap_or(field.name()).to_owned();
    match (rest, field.kind()) {
        (Some(rest), Kind::Message(inner)) => {
            let below = object.entry(key).or_insert_with(|| Value::Object(Map::new()));
            if !below.is_object() {
                *below = Value::Object(Map::new());
            }
            if let Value::Object(below) = below {
                put(below, &inner, rest, value);
            }
        }
        _ if field.is_list() => match object.entry(key).or_insert_with(|| Value::Array(Vec::new())) {
            Value::Array(items) => items.push(value),
            other => *other = Value::Array(vec![value]),
        },
        _ => drop(object.insert(key, value)),
    }
}

fn encode(input: &MessageDescriptor, value: Value) -> Result<Vec<u8>, Fault> {
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let message = DynamicMessage::deserialize_with_options(input.clone(), value, &options);
    let message = message.map_err(|error| fault(In::Body, "", &without_values(&error.to_string())))?;
    Ok(message.encode_to_vec())
}

/// `invalid type: string "x", expected i32` without what was sent.
fn without_values(told: &str) -> String {
    match (told.find(": "), told.find(", expected")) {
        (Some(from), Some(to)) if told.starts_with("invalid") && from < to => {
            format!("{}{}", &told[..from], &told[to..])
        }
        _ => told.chars().take(200).collect(),
    }
}

/// A message as what is sent to the caller: its JSON, or the bytes of a `google.api.HttpBody` with their type.
///
/// # Errors
/// A message that does not fit its description.
pub(crate) fn answer_json(
    output: &MessageDescriptor,
    bytes: Bytes,
    part: Option<&str>,
    all_fields: bool,
) -> Result<(Bytes, Option<String>), String> {
    let message = DynamicMessage::decode(output.clone(), bytes).map_err(|error| error.to_string())?;
    if output.full_name() == HTTP_BODY {
        let kind = message.get_field_by_name("content_type").and_then(|kind| kind.as_str().map(str::to_owned));
        let data = message.get_field_by_name("data").and_then(|data| data.as_bytes().cloned());
        return Ok((data.unwrap_or_default(), kind));
    }
    let options = SerializeOptions::new().skip_default_fields(!all_fields);
    let json =
        message.serialize_with_options(serde_json::value::Serializer, &options).map_err(|error| error.to_string())?;
    let json = match part {
        None => json,
        Some(part) => {
            let name =
                output.get_field_by_name(part).map_or_else(|| part.to_owned(), |field| field.json_name().to_owned());
            let is_list = output.get_field_by_name(part).is_some_and(|field| field.is_list());
            let empty = if is_list { Value::Array(Vec::new()) } else { Value::Null };
            json.get(&name).cloned().unwrap_or(empty)
        }
    };
    Ok((Bytes::from(json.to_string()), None))
}

/// Bytes as base64, for events that can have text only.
pub(super) fn as_text(bytes: &Bytes) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| BASE64_STANDARD.encode(bytes), str::to_owned)
}
