//! Reads a config file: environment, YAML, types, rules.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tessera_service::yaml::{self, Environment, line_of};

use super::{Gateway, check};
use crate::Error;

/// A config file above this is refused: it is not one.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// A config that passed every rule.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the file says.
    pub gateway: Arc<Gateway>,
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
    let read = yaml::read(text, environment, "docs/gateway.md shows a first one");
    let gateway: Gateway = read.map_err(|(line, detail)| at(line, detail))?;
    check(&gateway).map_err(|fault| at(line_of(text, &fault.keys), fault.detail))?;
    Ok(Loaded { gateway: Arc::new(gateway), folder: folder.to_owned(), place: place.to_owned(), text: text.to_owned() })
}

/// The JSON Schema of the config file, for editors.
pub fn json_schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(Gateway).to_value();
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("title".into(), "Tessera gateway".into());
    }
    schema
}
