//! Reads a config file: environment, YAML, types, rules.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use regex::Regex;
use serde_saphyr::PropertySyntax;

use super::explain::{explain, line_of};
use super::{Gateway, check};
use crate::Error;

/// A config file above this is refused: it is not one.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// Variables for `${NAME}` in a config file. Passed in, so that tests need not change the process.
#[derive(Clone, Debug, Default)]
pub struct Environment(HashMap<String, String>);

impl Environment {
    /// The process's own, as it was when called. Values that are no UTF-8 are left out.
    pub fn of_process() -> Self {
        Self(std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect())
    }

    /// The first `${NAME}` without a default that is not set, with its line.
    fn first_missing(&self, text: &str) -> Option<(String, usize)> {
        let reference = Regex::new(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)\}|\$([A-Za-z_][A-Za-z0-9_]*)").ok()?;
        text.lines().enumerate().find_map(|(line, text)| {
            let text = if text.trim_start().starts_with('#') { "" } else { text };
            reference.captures_iter(text).find_map(|found| {
                let name = found.get(1).or_else(|| found.get(2))?.as_str();
                (!self.0.contains_key(name)).then(|| (name.to_owned(), line + 1))
            })
        })
    }
}

impl<K: Into<String>, V: Into<String>, const N: usize> From<[(K, V); N]> for Environment {
    fn from(pairs: [(K, V); N]) -> Self {
        Self(pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }
}

/// A config that passed every rule.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the file says.
    pub gateway: Gateway,
    /// The folder that relative paths in it start from.
    pub folder: PathBuf,
    /// Where it came from, for messages.
    pub place: String,
    /// The file as it was read.
    pub text: String,
}

impl Loaded {
    /// An error at the line that these keys and values lead to.
    pub fn fault(&self, keys: &[&str], detail: String) -> Error {
        let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        Error::Config { place: format!("{}:{}", self.place, line_of(&self.text, &keys)), detail }
    }
}

/// Reads the file at `path`.
///
/// # Errors
/// [`Error::Config`] with the file, the line and what to do.
pub fn load_file(path: &Path, environment: &Environment) -> Result<Loaded, Error> {
    let place = path.display().to_string();
    let refuse = |detail: String| Error::Config { place: place.clone(), detail };
    let size = std::fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => refuse("there is no such file; docs/gateway.md shows a first one".into()),
        _ => refuse(format!("cannot be read: {error}")),
    })?;
    if size.len() > MAX_FILE_BYTES {
        return Err(refuse(format!("is {} bytes, over the limit of {MAX_FILE_BYTES}; give a config file", size.len())));
    }
    let text = std::fs::read_to_string(path).map_err(|error| refuse(format!("cannot be read: {error}")))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    load(&text, &place, folder, environment)
}

/// Reads a config from text; `place` names it in errors, and relative paths start from `folder`.
///
/// # Errors
/// [`Error::Config`] with the place, the line and what to do.
pub fn load(text: &str, place: &str, folder: &Path, environment: &Environment) -> Result<Loaded, Error> {
    let at = |line: usize, detail: String| Error::Config { place: format!("{place}:{line}"), detail };
    if let Some((name, line)) = environment.first_missing(text) {
        let detail = format!("environment variable `{name}` is not set; export it, or write ${{{name}:-default}}");
        return Err(at(line, detail));
    }
    let options = serde_saphyr::options! {
        with_snippet: false,
        strict_booleans: true,
        property_syntax: PropertySyntax::DockerCompose,
    }
    .with_properties(environment.0.clone());
    let gateway: Gateway = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let (line, detail) = explain(&error, text);
        at(line, detail)
    })?;
    check(&gateway).map_err(|fault| at(line_of(text, &fault.keys), fault.detail))?;
    Ok(Loaded { gateway, folder: folder.to_owned(), place: place.to_owned(), text: text.to_owned() })
}

/// The JSON Schema of the config file, for editors.
pub fn json_schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(Gateway).to_value();
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("title".into(), "Tessera gateway".into());
    }
    schema
}
