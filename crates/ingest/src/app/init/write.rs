//! A draft of a pipeline, and its text: YAML that says why each choice was made and what is left to set.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use serde::Serialize;
use serde_json::Value;

use crate::Error;
use crate::spec::{Auth, Environment, Incremental, Method, Paginator, Resource, ResponseFormat, load};

/// A pipeline in the making. Texts of `auth`, `headers`, `params`, `partitions` and `base_url` may hold `${NAME}`; a
/// `$` that came from the API is doubled in them. All other texts are taken as they are.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) name: String,
    /// Where it came from, for the first comment.
    pub(super) origin: String,
    pub(super) description: Option<String>,
    pub(super) base_url: String,
    pub(super) auth: Auth,
    pub(super) auth_notes: Vec<String>,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) destination: String,
    pub(super) resources: Vec<DraftResource>,
}

/// A resource in the making.
#[derive(Clone, Debug)]
pub(super) struct DraftResource {
    pub(super) resource: Resource,
    /// Why it is as it is.
    pub(super) notes: Vec<String>,
    /// What could be set, written as comments below it.
    pub(super) suggestions: Vec<String>,
}

/// `$` doubled, so that a text of the API never reads our environment.
pub(super) fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        out.push(letter);
        // A `$` at the end, as in `records: $`, starts no name.
        if letter == '$' && letters.peek().is_some() {
            out.push('$');
        }
    }
    out
}

/// True for a text with `{name}` in it, which a pipeline takes for a value of a parent's row or of a partition.
pub(super) fn holds_reference(text: &str) -> bool {
    Regex::new(r"\{[A-Za-z0-9_.]+\}").is_ok_and(|reference| reference.is_match(text))
}

/// What most resources share, written once.
#[derive(Default)]
struct Shared {
    paginator: Option<Paginator>,
    records: Option<String>,
    total: Option<String>,
    primary_key: Vec<String>,
}

impl Draft {
    /// The text. It is loaded before it is handed out.
    ///
    /// # Errors
    /// [`Error::Internal`] when the text does not load again, which is a fault of ours.
    pub(super) fn to_yaml(&self) -> Result<String, Error> {
        let shared = Shared::of(&self.resources);
        let mut out = Text::default();
        self.head(&mut out);
        shared.write(&mut out);
        out.line(0, "resources:");
        let mut said = BTreeSet::new();
        for resource in &self.resources {
            write_resource(&mut out, resource, &shared, &mut said);
        }
        out.line(0, "");
        out.comment(0, "Where the files go: a folder, file:///path or s3://bucket/prefix.");
        out.line(0, "destination:");
        out.line(1, &format!("url: {}", scalar(&self.destination, false)));
        out.line(1, "format: parquet");
        self.tail(&mut out);
        verify(&out.0)?;
        Ok(out.0)
    }

    fn head(&self, out: &mut Text) {
        out.comment(0, &format!("Written by `tessera ingest init` from {}.", self.origin));
        out.comment(
            0,
            &format!("Next: `tessera ingest check {0}.yaml`, `preview {0}.yaml`, `run {0}.yaml`.", self.name),
        );
        let variables = self.variables();
        if !variables.is_empty() {
            out.comment(0, &format!("Set in the environment first: {}.", variables.join(", ")));
        }
        out.line(0, "version: 1");
        out.line(0, &format!("name: {}", scalar(&self.name, false)));
        if let Some(description) = &self.description {
            out.line(0, &format!("description: {}", scalar(&literal(description), false)));
        }
        out.comment(0, "owner: data@example.com        # who answers for it, shown in alerts and the catalogue");
        out.comment(0, "schedule: \"*/15 * * * *\"       # when `tessera ingest serve` runs it");
        out.line(0, "");
        out.line(0, "source:");
        out.line(1, &format!("base_url: {}", scalar(&self.base_url, false)));
        self.auth_notes.iter().for_each(|note| out.comment(1, note));
        if !matches!(self.auth, Auth::None) {
            out.field(1, "auth", &value_of(&self.auth));
        }
        if !self.headers.is_empty() {
            out.field(1, "headers", &value_of(&self.headers));
        }
        out.comment(1, "rate_limit: { requests_per_second: 10, burst: 20 }   # our own limit, whatever the API allows");
        out.line(0, "");
    }

    fn tail(&self, out: &mut Text) {
        let keyed = self.resources.iter().find(|r| r.resource.primary_key.as_ref().is_some_and(|key| !key.is_empty()));
        let Some(keyed) = keyed else { return };
        let key = keyed.resource.primary_key.clone().unwrap_or_default();
        let rules = serde_json::json!({ "unique": key, "not_null": key, "min_rows": 1, "on_fail": "warn" });
        out.line(0, "");
        out.comment(0, "Rules that every run checks; on_fail: warn, fail or quarantine.");
        out.line(0, "quality:");
        out.line(1, &format!("{}: {}", keyed.resource.name, flow(&escaped(rules))));
    }

    /// The API answered without credentials: what a description says of them stays as a comment.
    pub(super) fn leave_out_auth(&mut self) {
        let auth = format!("auth: {}", flow(&value_of(std::mem::take(&mut self.auth))));
        self.auth_notes.push("The API answered without credentials; when it asks for them:".into());
        self.auth_notes.push(auth);
    }

    /// Counts every path from the host's root on: links of the API do so too.
    pub(super) fn count_paths_from_root(&mut self) {
        let Some(base) = url::Url::parse(&self.base_url.replace("$$", "$")).ok() else { return };
        let folder = base.path().trim_end_matches('/').to_owned();
        self.base_url = literal(&base.origin().ascii_serialization());
        for draft in self.resources.iter_mut().filter(|draft| draft.resource.path.starts_with('/')) {
            draft.resource.path.insert_str(0, &folder);
        }
    }

    /// Names of the environment variables that must be set.
    pub(super) fn variables(&self) -> Vec<String> {
        let mut texts =
            vec![self.base_url.clone(), value_of(&self.auth).to_string(), value_of(&self.headers).to_string()];
        for DraftResource { resource, .. } in &self.resources {
            texts.push(value_of(&resource.params).to_string());
            texts.push(value_of(&resource.headers).to_string());
            texts.push(value_of(&resource.partitions).to_string());
            texts.extend(resource.body.as_ref().map(|body| value_of(body).to_string()));
        }
        let mut names = Vec::new();
        for text in texts {
            for name in placeholders(&text) {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        names
    }
}

fn placeholders(text: &str) -> Vec<String> {
    let Ok(pattern) = Regex::new(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)(:-[^}]*)?\}") else { return vec![] };
    let found = pattern.captures_iter(text).filter(|found| found.get(2).is_none());
    found.filter_map(|found| Some(found.get(1)?.as_str().to_owned())).collect()
}

/// The text must load as a pipeline, whatever the variables will hold.
fn verify(text: &str) -> Result<(), Error> {
    let Ok(pattern) = Regex::new(r"\$\$|\$\{[A-Za-z_][A-Za-z0-9_]*(?::-([^}]*))?\}") else { return Ok(()) };
    let filled = pattern.replace_all(text, |found: &regex::Captures<'_>| match (&found[0], found.get(1)) {
        ("$$", _) => "$$".to_owned(),
        (_, Some(default)) => default.as_str().to_owned(),
        _ => "https://placeholder.invalid".to_owned(),
    });
    match load(&filled, "draft", &Environment::default()) {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::Internal(format!("the drafted pipeline does not load: {error}\n{text}"))),
    }
}

impl Shared {
    /// A value is shared when at least half of the resources have it, and more than one does.
    fn of(resources: &[DraftResource]) -> Self {
        let all = || resources.iter().map(|draft| &draft.resource);
        let total = most_common(all().map(|r| r.total.clone()));
        Self {
            paginator: most_common(all().map(|r| r.paginator.clone().filter(|p| *p != Paginator::None))),
            records: most_common(all().map(|r| r.records.clone())),
            // A resource cannot take a default back, so only a total that all have is shared.
            total: total.filter(|total| all().all(|r| r.total.as_ref() == Some(total))),
            primary_key: most_common(all().map(|r| r.primary_key.clone().filter(|key| !key.is_empty())))
                .unwrap_or_default(),
        }
    }

    fn write(&self, out: &mut Text) {
        let nothing = self.paginator.is_none() && self.records.is_none() && self.primary_key.is_empty();
        if nothing && self.total.is_none() {
            return;
        }
        out.comment(0, "What holds for every resource that does not say otherwise.");
        out.line(0, "defaults:");
        if let Some(paginator) = &self.paginator {
            out.field(1, "paginator", &escaped(value_of(paginator)));
        }
        if let Some(records) = &self.records {
            out.field(1, "records", &escaped(value_of(records)));
        }
        if let Some(total) = &self.total {
            out.field(1, "total", &escaped(value_of(total)));
        }
        if !self.primary_key.is_empty() {
            out.field(1, "primary_key", &escaped(value_of(&self.primary_key)));
        }
        out.line(0, "");
    }
}

fn most_common<T: PartialEq + Clone>(values: impl Iterator<Item = Option<T>>) -> Option<T> {
    let values: Vec<Option<T>> = values.collect();
    let count = |wanted: &T| values.iter().flatten().filter(|value| *value == wanted).count();
    let best = values.iter().flatten().rev().max_by_key(|value| count(value))?;
    (count(best) > 1 && count(best) * 2 >= values.len()).then(|| best.clone())
}

fn write_resource(out: &mut Text, draft: &DraftResource, shared: &Shared, said: &mut BTreeSet<String>) {
    let resource = &draft.resource;
    for note in &draft.notes {
        // A reason is given once: the next resource's differs in its numbers only.
        let reason: String = note.chars().filter(|c| !c.is_ascii_digit()).collect();
        if note.starts_with(|c: char| c.is_ascii_digit()) || said.insert(reason) {
            out.comment(1, note);
        }
    }
    out.line(1, &format!("- name: {}", scalar(&resource.name, false)));
    out.field(2, "path", &escaped(value_of(&resource.path)));
    if resource.method == Method::Post {
        out.line(2, "method: POST");
    }
    for (name, texts) in [("params", &resource.params), ("headers", &resource.headers)] {
        if !texts.is_empty() {
            out.field(2, name, &value_of(texts));
        }
    }
    if let Some(body) = &resource.body {
        out.field(2, "body", &value_of(body));
    }
    if !resource.partitions.is_empty() {
        out.field(2, "partitions", &value_of(&resource.partitions));
    }
    if !resource.include.is_empty() {
        out.field(2, "include", &escaped(value_of(&resource.include)));
    }
    let paginator = resource.paginator.clone().unwrap_or_default();
    if paginator != shared.paginator.clone().unwrap_or_default() {
        out.field(2, "paginator", &escaped(value_of(&paginator)));
    }
    if resource.records.is_some() && resource.records != shared.records {
        out.field(2, "records", &escaped(value_of(&resource.records)));
    }
    if resource.total.is_some() && resource.total != shared.total {
        out.field(2, "total", &escaped(value_of(&resource.total)));
    }
    if resource.format != ResponseFormat::Auto {
        out.field(2, "format", &value_of(resource.format));
    }
    let key = resource.primary_key.clone().unwrap_or_default();
    if key != shared.primary_key {
        out.field(2, "primary_key", &escaped(value_of(&key)));
    }
    if let Incremental::On(cursor) = &resource.incremental {
        let mut value = value_of(cursor);
        if let Some(fields) = value.as_object_mut().filter(|fields| fields.get("format") == Some(&"rfc3339".into())) {
            fields.shift_remove("format");
        }
        out.field(2, "incremental", &escaped(value));
    }
    if !resource.empty_on.is_empty() {
        out.field(2, "empty_on", &value_of(&resource.empty_on));
    }
    draft.suggestions.iter().for_each(|suggestion| out.comment(2, suggestion));
}

fn value_of(value: impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// Every text in a value taken literally.
fn escaped(value: Value) -> Value {
    match value {
        Value::String(text) => literal(&text).into(),
        Value::Array(values) => values.into_iter().map(escaped).collect(),
        Value::Object(fields) => Value::Object(fields.into_iter().map(|(key, value)| (key, escaped(value))).collect()),
        other => other,
    }
}

/// Lines longer than this become blocks.
const MAX_WIDTH: usize = 110;

#[derive(Default)]
struct Text(String);

impl Text {
    fn line(&mut self, depth: usize, text: &str) {
        if !text.is_empty() {
            self.0.push_str(&"  ".repeat(depth));
            self.0.push_str(text);
        }
        self.0.push('\n');
    }

    /// A comment on one line, whatever the text holds.
    fn comment(&mut self, depth: usize, text: &str) {
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
        self.line(depth, &format!("# {}", text.trim_end()));
    }

    fn field(&mut self, depth: usize, name: &str, value: &Value) {
        let one_line = format!("{name}: {}", if value.is_string() { block_scalar(value) } else { flow(value) });
        match value {
            Value::Object(fields) if one_line.len() + depth * 2 > MAX_WIDTH => {
                self.line(depth, &format!("{name}:"));
                fields.iter().for_each(|(key, value)| self.field(depth + 1, &scalar(key, false), value));
            }
            _ => self.line(depth, &one_line),
        }
    }
}

fn block_scalar(value: &Value) -> String {
    value.as_str().map_or_else(String::new, |text| scalar(text, false))
}

/// A value on one line.
fn flow(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text, true),
        Value::Array(values) => format!("[{}]", values.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) if fields.is_empty() => "{}".into(),
        Value::Object(fields) => {
            let fields: Vec<String> = fields.iter().map(|(k, v)| format!("{}: {}", scalar(k, true), flow(v))).collect();
            format!("{{ {} }}", fields.join(", "))
        }
        other => other.to_string(),
    }
}

/// A text as YAML: plain where no reader could take it for anything else, in double quotes otherwise.
fn scalar(text: &str, in_flow: bool) -> String {
    let more = if in_flow { "_-./" } else { "_-./:~@%+= " };
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '/' || c == '.');
    let simple = text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
        && !text.ends_with([':', ' '])
        && !text.contains(": ");
    let is_span = text.len() < 9
        && text.trim_end_matches(['s', 'm', 'h', 'd', 'w']).parse::<u32>().is_ok()
        && text.parse::<u32>().is_err();
    let words = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let special = words.contains(&text.to_ascii_lowercase().as_str())
        || text.parse::<f64>().is_ok()
        || text.starts_with(".i")
        || text.starts_with(".n");
    if (starts_well && simple && !special) || is_span {
        return text.to_owned();
    }
    // JSON's escapes are YAML's, except for these two line separators, which YAML would fold.
    let quoted = Value::from(text).to_string();
    quoted
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
        .replace('\u{85}', "\\u0085")
        .replace('\u{7f}', "\\u007f")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{IncrementalCursor, KeyPlace, Span};

    fn draft(resources: Vec<Resource>) -> Draft {
        Draft {
            name: "shop".into(),
            origin: "https://api.example.com".into(),
            description: None,
            base_url: "https://api.example.com/v1".into(),
            auth: Auth::None,
            auth_notes: vec![],
            headers: BTreeMap::new(),
            destination: "./lake".into(),
            resources: resources
                .into_iter()
                .map(|resource| DraftResource { resource, notes: vec!["why: so".into()], suggestions: vec![] })
                .collect(),
        }
    }

    fn resource(name: &str) -> Resource {
        Resource { name: name.into(), path: format!("/{name}"), ..Resource::default() }
    }

    #[test]
    fn texts_of_the_api_come_back_as_they_were() {
        let odd = [
            "$",
            "$top",
            "${HOME}",
            "a: b",
            "- x",
            "#c",
            "no",
            "1e3",
            "007",
            "",
            "ü \"q\" \\ \n\u{2028}",
            "@odata.nextLink",
            "{a}",
            "~",
            ".inf",
            "*a",
            "&a",
            "!t",
            "%x",
            "'",
            "a #b",
            "0x1f",
            "5m",
            "+5m",
            "two words",
            " x",
            "x ",
            "a  b",
            "k: ",
            "=",
            "<<",
            "2024-01-31",
        ];
        for text in odd {
            let mut first = resource("orders");
            first.records = Some(text.into());
            first.primary_key = Some(vec![text.into()]);
            let plain = text.replace(['{', '}'], "");
            first.params.insert("p".into(), literal(&plain));
            first.params.insert(plain.replace('$', ""), "x".into());
            first.paginator = Some(Paginator::Cursor {
                param: text.into(),
                next: text.into(),
                size_param: None,
                size: None,
                has_more: None,
            });
            let yaml = draft(vec![first]).to_yaml().unwrap();
            let loaded = load(&yaml, "t", &Environment::default()).unwrap_or_else(|e| panic!("{e}\n{yaml}"));
            let read = &loaded.pipeline.resources[0];
            assert_eq!(read.records.as_deref(), Some(text), "{yaml}");
            assert_eq!(read.params["p"], plain, "{yaml}");
            assert!(matches!(&read.paginator, Some(Paginator::Cursor { next, .. }) if next == text), "{yaml}");
        }
    }

    #[test]
    fn what_resources_share_is_written_once() {
        let paginator = Paginator::Offset { param: "offset".into(), limit_param: "limit".into(), limit: 500 };
        let list = |name: &str| Resource {
            paginator: Some(paginator.clone()),
            records: Some("results".into()),
            primary_key: Some(vec!["id".into()]),
            total: Some("count".into()),
            ..resource(name)
        };
        let mut single = resource("status");
        single.records = Some("$".into());
        let yaml = draft(vec![list("orders"), list("users"), list("items"), single]).to_yaml().unwrap();
        assert_eq!(yaml.matches("type: offset").count(), 1, "{yaml}");
        let loaded = load(&yaml, "t", &Environment::default()).unwrap().pipeline;
        assert_eq!(loaded.defaults.paginator, Some(paginator));
        assert_eq!(loaded.resources[3].paginator, Some(Paginator::None));
        assert_eq!(loaded.resources[3].primary_key, Some(vec![]));
        assert_eq!(loaded.resources[3].total, None);
        assert_eq!(loaded.resources[0].total.as_deref(), Some("count"));
    }

    #[test]
    fn secrets_are_placeholders_and_named_at_the_top() {
        let mut draft = draft(vec![resource("orders")]);
        draft.auth =
            Auth::ApiKey { name: "X-Api-Key".into(), value: "${SHOP_API_KEY}".into(), place: KeyPlace::Header };
        draft.base_url = "${SHOP_URL}".into();
        draft.resources[0].resource.incremental = Incremental::On(IncrementalCursor {
            cursor: "updated_at".into(),
            param: "updated_since".into(),
            lookback: Span::from_secs(300),
            ..IncrementalCursor::default()
        });
        draft.resources[0].resource.primary_key = Some(vec!["id".into()]);
        let yaml = draft.to_yaml().unwrap();
        assert!(yaml.contains("Set in the environment first: SHOP_URL, SHOP_API_KEY."), "{yaml}");
        assert!(load(&yaml, "t", &Environment::default()).unwrap_err().to_string().contains("SHOP_URL"));
        let environment = Environment::from([("SHOP_URL", "https://x.example.com"), ("SHOP_API_KEY", "secret-key")]);
        let loaded = load(&yaml, "t", &environment).unwrap();
        assert_eq!(loaded.warnings, Vec::<String>::new());
        assert!(matches!(&loaded.pipeline.source.auth, Auth::ApiKey { value, .. } if value == "secret-key"));
        assert_eq!(loaded.pipeline.resources[0].incremental.cursor().unwrap().param, "updated_since");
    }
}
