//! Reads an OpenAPI 3.0 or 3.1 document into the draft of a pipeline: its lists, how they are paged and filtered, their
//! keys, and how requests prove who sends them. Pure.

mod lists;
mod parents;
mod schema;
mod security;

use serde_json::Value;
use url::Url;

use super::write::Draft;
use schema::Document;

/// What a body is.
pub(super) enum Read {
    /// A document that we read.
    Document(Box<Description>),
    /// A description of an API in a version that we do not read, and what to do.
    Outdated(String),
    /// Something else.
    Other,
}

/// An API description.
pub(super) struct Description {
    document: Document,
    /// Where it was read: `http`, `https` or, of a local file, `file`.
    url: Url,
    /// Where the API lives, if the user said so.
    base: Option<Url>,
    /// Why it was read although the user named something else.
    because: Option<String>,
}

/// Large descriptions have some hundred thousand nodes.
const MAX_NODES: usize = 5_000_000;

/// Reads a body that `url` answered, JSON or YAML.
pub(super) fn read(body: &[u8], url: &Url) -> Read {
    let Ok(text) = std::str::from_utf8(body) else { return Read::Other };
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let names_itself = text.contains("openapi") || text.contains("swagger");
    if !names_itself || text.starts_with('<') {
        return Read::Other;
    }
    let root: Option<Value> = if text.starts_with('{') {
        serde_json::from_str(text).ok()
    } else {
        let options = serde_saphyr::options! {
            with_snippet: false,
            budget: serde_saphyr::budget! { max_nodes: MAX_NODES, max_events: 2 * MAX_NODES, max_depth: 200 },
        };
        serde_saphyr::from_str_with_options(text, options).ok()
    };
    let Some(root) = root else { return Read::Other };
    // An index of endpoints may have an entry of this name as well, which is a link.
    let version = |key: &str| {
        let version = root.get(key).map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
        version.filter(|version| version.starts_with(|c: char| c.is_ascii_digit()))
    };
    match (version("openapi"), version("swagger")) {
        (Some(version), _) if version.starts_with("3.") && root.get("paths").is_some_and(Value::is_object) => {
            let document = Document::new(root);
            Read::Document(Box::new(Description { document, url: url.clone(), base: None, because: None }))
        }
        (Some(version), _) if version.starts_with("3.") => Read::Outdated(format!(
            "the OpenAPI document at {url} has no `paths`; give the URL of a list endpoint instead"
        )),
        (Some(version), _) | (None, Some(version)) => Read::Outdated(format!(
            "{url} describes the API in version {version}, and 3.0 and 3.1 are read; convert it to OpenAPI 3, or give the URL of a list endpoint"
        )),
        _ => Read::Other,
    }
}

/// What a description gives.
pub(super) struct Described {
    pub(super) draft: Draft,
    /// For each resource of the draft: what to ask it for a first page; `None` where that needs values we lack.
    pub(super) probes: Vec<Option<Url>>,
    pub(super) notes: Vec<String>,
}

impl Description {
    /// The API's title, if it has one.
    pub(super) fn title(&self) -> Option<&str> {
        self.document.root.pointer("/info/title")?.as_str()
    }

    /// The API lives at `base`, whatever the document says.
    pub(super) fn live_at(&mut self, base: Option<Url>) {
        self.base = base;
    }

    /// It is not what the user named: it was found beside that, `because` of what was there.
    pub(super) fn found_beside(&mut self, because: String) {
        self.because = Some(because);
    }

    /// Where the API lives: as the user said, or the first server, its variables at their defaults, relative to the
    /// document. Of a local file that names no whole URL it is none.
    pub(super) fn base_url(&self) -> Option<Url> {
        if let Some(base) = &self.base {
            return Some(base.clone());
        }
        let server = self.document.root.pointer("/servers/0");
        let mut text = server.and_then(|server| server.get("url")?.as_str()).unwrap_or("/").to_owned();
        let variables = server.and_then(|server| server.get("variables")?.as_object());
        for (name, variable) in variables.into_iter().flatten() {
            let default = variable.get("default").and_then(Value::as_str).unwrap_or_default();
            text = text.replace(&format!("{{{name}}}"), default);
        }
        let is_web = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host();
        let joined = self.url.join(&text).ok().filter(is_web);
        let mut url = joined.or_else(|| Some(self.url.clone()).filter(is_web))?;
        url.set_query(None);
        url.set_fragment(None);
        Some(url)
    }

    /// The draft of a pipeline called `name`.
    pub(super) fn describe(&self, name: &str, destination: &str) -> Described {
        let base = self.base_url().unwrap_or_else(|| self.url.clone());
        let mut notes: Vec<String> =
            self.because.iter().map(|because| format!("{because}; {} was read instead", self.url)).collect();
        let is_local = self.url.scheme() == "file";
        if self.base.is_none() && !is_local && !super::detect::same_origin(&base, &self.url) {
            notes.push(format!("the document says that the API lives at {base}; set base_url if it does not"));
        }
        let lists = lists::find(&self.document, &base, name, &mut notes);
        let (resources, probes) = parents::connect(lists, name).into_iter().unzip();
        let (auth, auth_notes) = security::auth(&self.document, if is_local { &base } else { &self.url }, name);
        let draft = Draft {
            name: name.to_owned(),
            origin: match &self.because {
                Some(because) => format!("{}, since {because}", self.url),
                None => self.url.to_string(),
            },
            description: self.title().map(str::to_owned),
            base_url: super::write::literal(base.as_str().trim_end_matches('/')),
            auth,
            auth_notes,
            headers: Default::default(),
            destination: destination.to_owned(),
            resources,
        };
        Described { draft, probes, notes }
    }
}

#[cfg(test)]
mod tests;
