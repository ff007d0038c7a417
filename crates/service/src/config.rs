//! Settings in layers, each with where it came from: code → file → environment → flags.
//!
//! A product describes its settings as a plain struct ([`Section`]) whose `Default` is the lowest layer and whose fields
//! are the only keys there are. Every override is checked on its own, so an error names the one setting that is wrong.
//! Parsed types do the validating: a field whose type refuses a value at `Deserialize` refuses it here by name.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::Error;

mod names;
mod print;

pub use print::star_password;

/// What an environment variable begins with to be a setting: `TESSERA__HTTP__LISTEN` is `http.listen`.
pub const ENVIRONMENT_PREFIX: &str = "TESSERA__";
/// A config file above this is refused: it is not one.
const MAX_FILE_BYTES: u64 = 1 << 20;
const STARS: &str = "***";

/// One table of the config file: `[http]`, `[telemetry]`, one per product.
///
/// Derive `Serialize` and `Deserialize` with `#[serde(default, deny_unknown_fields)]`; write `Default` by hand.
pub trait Section: Serialize + DeserializeOwned + Default {
    /// The table's name.
    const NAME: &'static str;
    /// Dotted keys within the table whose values are never shown.
    const SECRETS: &'static [&'static str] = &[];
}

/// Where an effective value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The default in code.
    Code,
    /// The `--config` file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// A command-line flag.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code => f.write_str("default"),
            Self::File(path) => write!(f, "config file `{}`", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// Collects the layers, then checks and merges them in [`Loader::load`].
#[derive(Default)]
pub struct Loader {
    sections: BTreeMap<&'static str, SectionKind>,
    aliases: Vec<(&'static str, &'static str)>,
    file: Option<PathBuf>,
    environment: Vec<(String, String)>,
    flags: Vec<(&'static str, &'static str, Value)>,
}

struct SectionKind {
    default: Value,
    secrets: &'static [&'static str],
    check: fn(&Value) -> Result<(), String>,
}

impl Loader {
    /// No sections, no layers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a table and its defaults.
    #[must_use]
    pub fn section<S: Section>(mut self) -> Self {
        // A struct of plain fields always serialises; one that did not would have no keys and refuse all of them.
        let default = serde_json::to_value(S::default()).unwrap_or_default();
        let check = |value: &Value| S::deserialize(value).map(drop).map_err(|error| error.to_string());
        self.sections.insert(S::NAME, SectionKind { default, secrets: S::SECRETS, check });
        self
    }

    /// Lets the well-known environment variable `variable` set `key`; our own spelling of it wins.
    #[must_use]
    pub fn alias(mut self, variable: &'static str, key: &'static str) -> Self {
        self.aliases.push((variable, key));
        self
    }

    /// The `--config` file, where there is one.
    #[must_use]
    pub fn file(mut self, path: Option<PathBuf>) -> Self {
        self.file = path;
        self
    }

    /// The process's environment. Variables without our prefix are left alone.
    #[must_use]
    pub fn environment(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        self.environment = variables.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        self
    }

    /// A flag, where it was given: `flag("http.listen", "--listen", value)`.
    #[must_use]
    pub fn flag(mut self, key: &'static str, name: &'static str, value: Option<impl Into<Value>>) -> Self {
        self.flags.extend(value.map(|value| (key, name, value.into())));
        self
    }

    /// Checks every layer and merges them.
    pub fn load(self) -> Result<Config, Error> {
        let mut config = Config::of_defaults(&self.sections);
        if let Some(path) = &self.file {
            for (key, value) in names::leaves(&read_file(path)?, &config.values) {
                self.set(&mut config, &key, Candidates::one(value), Origin::File(path.clone()))?;
            }
        }
        for (variable, key) in &self.aliases {
            if let Some((_, text)) = self.environment.iter().find(|(name, _)| name == variable) {
                let origin = Origin::Environment((*variable).to_owned());
                self.set(&mut config, key, Candidates::of_text(text), origin)?;
            }
        }
        for (name, text) in &self.environment {
            if let Some(rest) = name.strip_prefix(ENVIRONMENT_PREFIX) {
                let key = rest.to_ascii_lowercase().replace("__", ".");
                self.set(&mut config, &key, Candidates::of_text(text), Origin::Environment(name.clone()))?;
            }
        }
        for (key, name, value) in &self.flags {
            self.set(&mut config, key, Candidates::one(value.clone()), Origin::Flag(name))?;
        }
        Ok(config)
    }

    /// Puts one value in place, if the key is known and its section takes one of the readings of the value.
    fn set(&self, config: &mut Config, key: &str, candidates: Candidates, origin: Origin) -> Result<(), Error> {
        if !names::is_known(&config.values, key) {
            let hint = names::hint(&config.values, key);
            return Err(Error::UnknownSetting { origin: origin.to_string(), key: key.to_owned(), hint });
        }
        let section_name = key.split('.').next().unwrap_or(key);
        let Some(section) = self.sections.get(section_name) else { return Ok(()) };
        let mut refusals: Vec<String> = Vec::new();
        for value in &candidates.0 {
            let mut trial = config.values.clone();
            names::put(&mut trial, key, value.clone());
            match (section.check)(&trial[section_name]) {
                Ok(()) => {
                    config.values = trial;
                    config.origins.insert(key.to_owned(), origin);
                    return Ok(());
                }
                Err(reason) => refusals.push(reason),
            }
        }
        // The most telling refusal is of a reading whose type was right.
        let telling = refusals.iter().find(|reason| !reason.starts_with("invalid type"));
        let refused = telling.or(refusals.first()).cloned().unwrap_or_default();
        let written = candidates.0.first().map(|value| config.shown(key, value)).unwrap_or_default();
        let reason = if config.is_secret(key) { "it does not fit this setting".to_owned() } else { refused };
        Err(Error::BadSetting { origin: origin.to_string(), key: key.to_owned(), value: written, reason })
    }
}

/// The readings of a value, in the order they are tried: text from the environment has no type of its own.
struct Candidates(Vec<Value>);

impl Candidates {
    fn one(value: Value) -> Self {
        Self(vec![value])
    }

    fn of_text(text: &str) -> Self {
        let list = text.split(',').map(|part| Value::String(part.trim().to_owned())).collect();
        let literal = serde_json::from_str(text).ok();
        let text = Value::String(text.to_owned());
        Self([Some(text), Some(Value::Array(list)), literal].into_iter().flatten().collect())
    }
}

/// The effective settings.
#[derive(Clone)]
pub struct Config {
    /// Every section, with `null` where an optional key is not set.
    values: Value,
    /// Where the keys that are not default came from.
    origins: BTreeMap<String, Origin>,
    secrets: Vec<String>,
}

impl Config {
    fn of_defaults(sections: &BTreeMap<&'static str, SectionKind>) -> Self {
        let values: Map<_, _> =
            sections.iter().map(|(name, section)| ((*name).to_owned(), section.default.clone())).collect();
        let secrets = sections
            .iter()
            .flat_map(|(name, section)| section.secrets.iter().map(move |key| format!("{name}.{key}")))
            .collect();
        Self { values: Value::Object(values), origins: BTreeMap::new(), secrets }
    }

    /// The settings of one section.
    pub fn get<S: Section>(&self) -> Result<S, Error> {
        S::deserialize(&self.values[S::NAME]).map_err(|error| Error::BadSetting {
            origin: "config".to_owned(),
            key: S::NAME.to_owned(),
            value: "what it is".to_owned(),
            reason: error.to_string(),
        })
    }

    /// Where the effective value of a dotted key came from.
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Code)
    }

    /// Whether a key's value must not be shown: declared so by its section, or named like one.
    fn is_secret(&self, key: &str) -> bool {
        let last = key.rsplit('.').next().unwrap_or(key);
        let named = ["token", "secret", "password", "api_key", "private_key", "routing_key", "webhook"];
        self.secrets.iter().any(|secret| secret == key) || named.iter().any(|name| last.ends_with(name))
    }
}

/// A value that is never shown: its `Debug` and `Serialize` are stars.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// From its text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one place that uses it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "\"\"" } else { STARS })
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.0.is_empty() { "" } else { STARS })
    }
}

fn read_file(path: &Path) -> Result<Value, Error> {
    let refuse = |reason: String| Error::ConfigFile { path: path.to_owned(), reason };
    let size_bytes = std::fs::metadata(path)
        .map_err(|error| refuse(format!("cannot be read: {error}; check the path given to --config")))?
        .len();
    if size_bytes > MAX_FILE_BYTES {
        return Err(refuse(format!("is {size_bytes} bytes, over the limit of {MAX_FILE_BYTES}; give a config file")));
    }
    let text = std::fs::read_to_string(path)
        .map_err(|error| refuse(format!("cannot be read: {error}; give a UTF-8 text file")))?;
    toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        let message = error.message().lines().collect::<Vec<_>>().join(" ");
        refuse(format!("line {line} is not TOML: {message}; correct it"))
    })
}

#[cfg(test)]
mod tests;
