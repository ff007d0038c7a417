//! Operations that return lists, and what their parameters say of pages and of changes.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};
use url::Url;

use super::super::detect::{
    CursorColumn, Detected, Shape, detect_document, is_cursor_param, is_offset_param, is_page_param, is_size_param,
    normal, words,
};
use super::super::write::{holds_reference, literal};
use super::schema::{Document, kind};
use crate::spec::{CursorFormat, Incremental, IncrementalCursor, Method, Paginator, Resource, ResponseFormat, Span};

/// A page no larger than this is asked for where the document allows more.
const WANTED_SIZE: u64 = 1_000;

/// A list, with the path as the document has it.
pub(super) struct List {
    pub(super) path: String,
    pub(super) resource: Resource,
    pub(super) detected: Detected,
    pub(super) base: Url,
    pub(super) notes: Vec<String>,
    pub(super) suggestions: Vec<String>,
    /// Parameters that must be given and whose value nobody told us.
    pub(super) lacks_values: bool,
}

/// A parameter, wherever it goes.
struct Parameter<'a> {
    name: &'a str,
    place: &'a str,
    required: bool,
    schema: &'a Value,
    example: Option<&'a Value>,
}

/// Every operation that returns a list, parents before children.
pub(super) fn find(document: &Document, base: &Url, pipeline: &str, notes: &mut Vec<String>) -> Vec<List> {
    let Some(paths) = document.root.get("paths").and_then(Value::as_object) else { return vec![] };
    let mut lists = Vec::new();
    let mut singles = 0;
    for (path, item) in paths {
        let Some(item) = document.resolve(item).filter(|_| path.starts_with('/')) else { continue };
        for (method, verb) in [("get", Method::Get), ("post", Method::Post)] {
            let Some(operation) = item.get(method) else { continue };
            if verb == Method::Post && !is_search(path, operation) {
                continue;
            }
            match list_of(document, base, path, item, operation, verb, pipeline) {
                Some(list) => lists.push(list),
                None => singles += usize::from(verb == Method::Get),
            }
        }
    }
    let read: Vec<String> = lists.iter().filter(|l| l.resource.method == Method::Get).map(|l| l.path.clone()).collect();
    lists.retain(|list| {
        let above = list.path.trim_end_matches('/').rsplit_once('/').map_or("", |(above, _)| above);
        let twice = list.resource.method == Method::Post && read.iter().any(|path| path.trim_end_matches('/') == above);
        if twice {
            notes.push(format!("POST {} was left out: GET {above} lists the same rows", list.path));
        }
        !twice
    });
    if singles > 0 {
        notes
            .push(format!("{singles} operations that return single objects, files or nothing described were left out"));
    }
    lists.sort_by_key(|list| list.path.matches('{').count());
    lists
}

/// POST operations that only read.
fn is_search(path: &str, operation: &Value) -> bool {
    let id = operation.get("operationId").and_then(Value::as_str).unwrap_or_default();
    let verbs = ["search", "query", "list", "find", "filter"];
    let last = path.rsplit('/').find(|segment| !segment.starts_with('{')).unwrap_or_default();
    words(last).iter().chain(words(id).first()).any(|word| verbs.contains(&word.as_str()))
}

fn list_of(
    document: &Document,
    base: &Url,
    path: &str,
    item: &Value,
    operation: &Value,
    method: Method,
    pipeline: &str,
) -> Option<List> {
    let asked = endpoint(base, path)?;
    let (detected, headers_say) = detected(document, operation, &asked)?;
    let mut parameters = parameters(document, item, operation);
    let body_schema = (method == Method::Post).then(|| body_schema(document, operation)).flatten();
    if let Some(schema) = body_schema {
        parameters.extend(body_parameters(document, schema));
    }
    let mut notes = vec![];
    let summary = operation.get("summary").or_else(|| operation.get("description")).and_then(Value::as_str);
    notes.extend(summary.and_then(|text| text.lines().next()).map(str::to_owned));
    let mut suggestions = vec![];
    let paginator = paginator(&detected, &parameters, method, &mut notes);
    let total = detected.total.clone();
    let incremental = incremental(&detected.cursor, &parameters, method, &mut suggestions);
    let mut resource = Resource {
        path: path.to_owned(),
        method,
        paginator: Some(paginator),
        records: Some(detected.records.clone()),
        total,
        format: match detected.format {
            ResponseFormat::Json => ResponseFormat::Auto,
            other => other,
        },
        primary_key: Some(detected.primary_key.clone()),
        incremental,
        body: body_schema.map(|_| Map::new()),
        ..Resource::default()
    };
    let lacks_values = fill_required(&mut resource, &parameters, pipeline);
    if detected.primary_key.is_empty() {
        suggestions.push("primary_key: [id]   # no property looks like a key; needed to merge changes".into());
    }
    if !headers_say.is_empty() {
        notes.push(format!("documented response headers: {}", headers_say.join(", ")));
    }
    Some(List { path: path.to_owned(), resource, detected, base: base.clone(), notes, suggestions, lacks_values })
}

/// `base` and `path` in one URL.
pub(super) fn endpoint(base: &Url, path: &str) -> Option<Url> {
    Url::parse(&format!("{}{path}", base.as_str().trim_end_matches('/'))).ok()
}

/// What an example of the response tells, if it is a list, and the headers that were used.
fn detected(document: &Document, operation: &Value, asked: &Url) -> Option<(Detected, Vec<String>)> {
    let responses = operation.get("responses")?.as_object()?;
    let good = |status: &str| status.starts_with('2');
    let response = responses.iter().find(|(status, _)| good(status)).or_else(|| responses.get_key_value("default"))?.1;
    let response = document.resolve(response)?;
    let content = response.get("content")?.as_object()?;
    let of_kind =
        |part: &[&str]| content.iter().find(|(kind, _)| part.iter().any(|part| kind.to_lowercase().contains(part)));
    let lines = of_kind(&["ndjson", "jsonl", "json-seq"]);
    let json = content.iter().find(|(kind, _)| kind.contains("json") && lines.is_none_or(|(l, _)| l != *kind));
    let mut next = asked.clone();
    next.set_query(Some("opaque=1"));
    let (format, body) = match json.or(lines).or_else(|| of_kind(&["*/*"])) {
        Some((name, media)) => {
            let in_lines = lines.is_some_and(|(l, _)| l == name);
            let example = media.get("schema").map(|schema| document.example(schema, next.as_str())).unwrap_or_default();
            let given = || media.get("example").cloned().unwrap_or_default();
            let example = if example.is_null() { given() } else { example };
            match (in_lines, example) {
                (true, Value::Array(rows)) => (ResponseFormat::Jsonl, Value::Array(rows)),
                (true, row) => (ResponseFormat::Jsonl, Value::Array(vec![row])),
                (false, body) => (ResponseFormat::Json, body),
            }
        }
        None => {
            of_kind(&["csv"])?;
            (ResponseFormat::Csv, Value::Array(vec![]))
        }
    };
    let (headers, used) = described_headers(response, &next);
    let detected = detect_document(asked, &headers, &body, format);
    matches!(detected.shape, Shape::List).then_some((detected, used))
}

/// Headers that the document describes, with values that say what they mean.
fn described_headers(response: &Value, next: &Url) -> (HeaderMap, Vec<String>) {
    let mut headers = HeaderMap::new();
    let mut used = Vec::new();
    for (name, _) in response.get("headers").and_then(Value::as_object).into_iter().flatten() {
        let value = match normal(name).as_str() {
            "link" => format!("<{next}>; rel=\"next\""),
            key if key.starts_with('x') || key.contains("total") || key.contains("cursor") => "1".to_owned(),
            _ => continue,
        };
        if let (Ok(header), Ok(value)) = (HeaderName::try_from(name.as_str()), HeaderValue::try_from(value)) {
            headers.insert(header, value);
            used.push(name.clone());
        }
    }
    (headers, used)
}

fn parameters<'a>(document: &'a Document, item: &'a Value, operation: &'a Value) -> Vec<Parameter<'a>> {
    let of = |holder: &'a Value| holder.get("parameters").and_then(Value::as_array).into_iter().flatten();
    let mut found: Vec<Parameter<'a>> = Vec::new();
    for parameter in of(operation).chain(of(item)).filter_map(|parameter| document.resolve(parameter)) {
        let text = |key: &str| parameter.get(key).and_then(Value::as_str).unwrap_or_default();
        let (name, place) = (text("name"), text("in"));
        // An operation's own parameter stands before the one of its path.
        if name.is_empty() || found.iter().any(|known| known.name == name && known.place == place) {
            continue;
        }
        let schema = parameter.get("schema").and_then(|schema| document.resolve(schema)).unwrap_or(&Value::Null);
        let required = parameter.get("required").and_then(Value::as_bool).unwrap_or(false);
        found.push(Parameter { name, place, required, schema, example: parameter.get("example") });
    }
    found
}

fn body_schema<'a>(document: &'a Document, operation: &'a Value) -> Option<&'a Value> {
    let content = document.resolve(operation.get("requestBody")?)?.get("content")?.as_object()?;
    let (_, media) = content.iter().find(|(kind, _)| kind.contains("json"))?;
    document.resolve(media.get("schema")?)
}

fn body_parameters<'a>(document: &'a Document, schema: &'a Value) -> Vec<Parameter<'a>> {
    let required: Vec<&str> =
        schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    properties
        .filter_map(|(name, property)| {
            let schema = document.resolve(property)?;
            let required = required.contains(&name.as_str());
            Some(Parameter { name, place: "body", required, schema, example: schema.get("example") })
        })
        .collect()
}

impl Parameter<'_> {
    /// In the query, or in the body of a POST.
    fn is_ours(&self, method: Method) -> bool {
        self.place == "query" || (method == Method::Post && self.place == "body")
    }

    fn is_number(&self) -> bool {
        matches!(kind(self.schema), "integer" | "number" | "")
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.schema.get(key)?.as_u64()
    }

    /// A value that the document gives.
    fn value(&self) -> Option<Value> {
        let listed = |key: &str| self.schema.get(key).and_then(|list| list.as_array()?.first());
        let given = self.schema.get("default").or(self.example).or_else(|| self.schema.get("const"));
        given.or_else(|| self.schema.get("example")).or_else(|| listed("enum")).or_else(|| listed("examples")).cloned()
    }

    fn has_a_role(&self) -> bool {
        [is_page_param, is_offset_param, is_size_param, is_cursor_param].iter().any(|is| is(self.name))
    }
}

fn paginator(detected: &Detected, parameters: &[Parameter<'_>], method: Method, notes: &mut Vec<String>) -> Paginator {
    let ours = || parameters.iter().filter(|parameter| parameter.is_ours(method));
    let page = ours().find(|p| is_page_param(p.name) && p.is_number());
    let offset = ours().find(|p| is_offset_param(p.name) && matches!(kind(p.schema), "integer"));
    let cursor = ours().find(|p| is_cursor_param(p.name));
    let size_parameter = ours().find(|p| is_size_param(p.name) && p.is_number());
    let size_param = size_parameter.map(|p| p.name.to_owned());
    let size = size_parameter.map(|p| match p.number("maximum") {
        Some(most) => most.min(WANTED_SIZE),
        None => p.number("default").unwrap_or(100),
    });
    let size = size.filter(|size| *size > 0);
    let by_page = |p: &Parameter<'_>| {
        let start = p.number("default").or_else(|| p.number("minimum")).filter(|start| *start <= 1).unwrap_or(1);
        let total_pages = match &detected.paginator {
            Paginator::Page { total_pages, .. } => total_pages.clone(),
            _ => None,
        };
        Paginator::Page { param: p.name.to_owned(), size_param: size_param.clone(), size, start, total_pages }
    };
    let by_offset = |p: &Parameter<'_>| Paginator::Offset {
        param: p.name.to_owned(),
        limit_param: size_param.clone().unwrap_or_else(|| "limit".into()),
        limit: size.unwrap_or(100),
    };
    let counted = page.map(by_page).or_else(|| offset.map(by_offset));
    match detected.paginator.clone() {
        Paginator::Cursor { next, has_more, param, .. } if cursor.is_some() || counted.is_none() => {
            let param = cursor.map_or(param, |p| p.name.to_owned());
            notes.push(format!("paginator: the response has `{next}`, sent back as `{param}`"));
            Paginator::Cursor { param, next, size_param, size, has_more }
        }
        // Counted pages are read in parallel, but need a known end.
        Paginator::NextUrl { next, .. } if counted.is_none() || detected.total.is_none() => {
            notes.push(format!("paginator: the response has `{next}`"));
            Paginator::NextUrl { next, size_param, size }
        }
        Paginator::LinkHeader { rel, .. } if counted.is_none() || detected.total.is_none() => {
            notes.push("paginator: a `Link` header is documented".into());
            Paginator::LinkHeader { rel, size_param, size }
        }
        said => match counted {
            Some(counted) => {
                let name = page.or(offset).map_or("", |p| p.name);
                notes.push(format!("paginator: the operation takes `{name}`"));
                counted
            }
            None if cursor.is_some() && said == Paginator::None => {
                let name = cursor.map_or("", |p| p.name);
                notes.push(format!("paginator: it takes `{name}`, but the response names no next cursor; set `next`"));
                Paginator::None
            }
            None => said,
        },
    }
}

fn incremental(
    column: &Option<CursorColumn>,
    parameters: &[Parameter<'_>],
    method: Method,
    suggestions: &mut Vec<String>,
) -> Incremental {
    let ours = || parameters.iter().filter(|parameter| parameter.is_ours(method) && !parameter.has_a_role());
    let since = ours().find(|p| asks(p.name, &["since", "after", "from", "min", "gte", "gt", "start", "ge", "begin"]));
    let until = ours().find(|p| asks(p.name, &["until", "before", "to", "max", "lte", "lt", "end", "le"]));
    match (column, since) {
        (Some(column), Some(since)) => {
            let format = match (since.schema.get("format").and_then(Value::as_str), kind(since.schema)) {
                (Some("date"), _) => CursorFormat::Date,
                (_, "integer" | "number") if column.format == CursorFormat::UnixMs => CursorFormat::UnixMs,
                (_, "integer" | "number") => CursorFormat::Unix,
                _ => column.format,
            };
            let lookback = if format == CursorFormat::Date { 86_400 } else { 300 };
            Incremental::On(IncrementalCursor {
                cursor: column.column.clone(),
                param: since.name.to_owned(),
                until_param: until.map(|p| p.name.to_owned()),
                lookback: Span::from_secs(lookback),
                format,
                ..IncrementalCursor::default()
            })
        }
        (Some(column), None) => {
            let CursorColumn { column, .. } = column;
            suggestions.push(format!(
                "incremental: {{ cursor: {column}, param: updated_since, lookback: 5m }}   # if the API can filter by it"
            ));
            Incremental::Off
        }
        (None, Some(since)) => {
            suggestions.push(format!(
                "incremental: {{ cursor: updated_at, param: {}, lookback: 5m }}   # name the column that it filters by",
                since.name
            ));
            Incremental::Off
        }
        (None, None) => Incremental::Off,
    }
}

/// `updated_since`, `modified_after`, `updated_at[gte]`; also `since` and `until` alone.
fn asks(name: &str, bounds: &[&str]) -> bool {
    let words = words(name);
    let has = |wanted: &[&str]| words.iter().any(|word| wanted.contains(&word.as_str()));
    let alone = words.len() == 1 && matches!(words[0].as_str(), "since" | "until") && has(bounds);
    let joined = ["updatedsince", "modifiedsince", "changedsince", "updatedafter", "modifiedafter"];
    let changes = ["updated", "modified", "changed", "update", "modification", "change"];
    alone || (has(&changes) && has(bounds)) || (bounds.contains(&"since") && joined.contains(&normal(name).as_str()))
}

/// Gives required parameters a value: the document's, or a variable to set. True when some were left to set.
fn fill_required(resource: &mut Resource, parameters: &[Parameter<'_>], pipeline: &str) -> bool {
    let mut lacks = false;
    for parameter in parameters.iter().filter(|p| p.required && p.place != "path" && !p.has_a_role()) {
        if asks(parameter.name, &["since", "after", "from", "gte"]) && resource.incremental.cursor().is_some() {
            continue;
        }
        let known = parameter.value().filter(|value| !holds_reference(&value.to_string()));
        let ignored = ["accept", "authorization", "contenttype", "cookie"].contains(&normal(parameter.name).as_str());
        if ignored && parameter.place == "header" {
            continue;
        }
        lacks |= known.is_none();
        let variable = variable(pipeline, parameter.name);
        let text = match &known {
            Some(Value::String(text)) => literal(text),
            Some(value) => literal(&value.to_string()),
            None => variable.clone(),
        };
        match (parameter.place, &mut resource.body) {
            ("query", _) => {
                resource.params.insert(literal(parameter.name), text);
            }
            ("header", _) => {
                resource.headers.insert(literal(parameter.name), text);
            }
            ("body", Some(body)) => {
                let value = known.filter(|value| !value.is_string()).map(escaped).unwrap_or(text.into());
                body.insert(literal(parameter.name), value);
            }
            _ => {}
        }
    }
    lacks
}

fn escaped(value: Value) -> Value {
    match value {
        Value::String(text) => literal(&text).into(),
        Value::Array(values) => values.into_iter().map(escaped).collect(),
        Value::Object(fields) => fields.into_iter().map(|(key, value)| (literal(&key), escaped(value))).collect(),
        other => other,
    }
}

/// `${SHOP_ACCOUNT_ID}`
pub(super) fn variable(pipeline: &str, name: &str) -> String {
    let words: Vec<String> = words(pipeline).into_iter().chain(words(name)).map(|word| word.to_uppercase()).collect();
    let name = words.join("_");
    let starts_badly = name.starts_with(|c: char| c.is_ascii_digit()) || name.is_empty();
    format!("${{{}{name}}}", if starts_badly { "_" } else { "" })
}
