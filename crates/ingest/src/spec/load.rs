//! Reads a pipeline file: environment, YAML, types, rules; and warns of secrets in plain text.

use std::path::Path;
use std::sync::Arc;

use regex::Regex;
use tessera_service::yaml;

use super::{Environment, Pipeline, Secrets, check};
use crate::Error;

/// A pipeline that passed every rule.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the file says.
    pub pipeline: Arc<Pipeline>,
    /// What should be struck out of everything written.
    pub secrets: Secrets,
    /// What is allowed but unwise, a line each.
    pub warnings: Vec<String>,
}

/// Reads the file at `path`.
///
/// # Errors
/// [`Error::Spec`] with the file, the line and what to do.
pub fn load_file(path: &Path, environment: &Environment) -> Result<Loaded, Error> {
    let place = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| Error::Spec {
        place: place.clone(),
        detail: match error.kind() {
            std::io::ErrorKind::NotFound => {
                "there is no such file; `tessera ingest init URL` writes a first one".into()
            }
            _ => format!("cannot be read: {error}"),
        },
    })?;
    load(&text, &place, environment)
}

/// Reads a pipeline from text; `place` names it in errors.
///
/// # Errors
/// [`Error::Spec`] with the place, the line and what to do.
pub fn load(text: &str, place: &str, environment: &Environment) -> Result<Loaded, Error> {
    let at = |line: usize, detail: String| Error::Spec { place: format!("{place}:{line}"), detail };
    let read = yaml::read(text, environment, "`tessera ingest init URL` writes a first one");
    let pipeline: Pipeline = read.map_err(|(line, detail)| at(line, detail))?;
    let secrets = Secrets::of(&pipeline);
    check(&pipeline).map_err(|fault| at(yaml::line_of(text, &fault.keys), secrets.redact(&fault.detail)))?;
    let warnings = plain_secrets(text, place);
    Ok(Loaded { pipeline: Arc::new(pipeline), secrets, warnings })
}

/// The JSON Schema of the pipeline file, for editors.
pub fn json_schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(Pipeline).to_value();
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("title".into(), "Tessera ingest pipeline".into());
    }
    schema
}

fn plain_secrets(text: &str, place: &str) -> Vec<String> {
    let key = r"token|password|client_secret|refresh_token|secret_access_key|routing_key|key|value|webhook";
    let Ok(secret) = Regex::new(&format!(r#"(?:^|[\s{{,])({key})\s*:\s*["']?([^\s"',}}]+)"#)) else { return vec![] };
    let Ok(password) = Regex::new(r#"([a-z][a-z0-9+]*://[^\s:/@"'$]+):[^\s:/@"'$]+@"#) else { return vec![] };
    let mut section = String::new();
    let mut warnings = Vec::new();
    for (line, text) in text.lines().enumerate() {
        if let Some((name, _)) = text.split_once(':').filter(|_| text.starts_with(|c: char| c.is_alphabetic())) {
            section = name.to_owned();
        }
        if let Some(found) = password.captures(text).filter(|_| !text.trim_start().starts_with('#')) {
            let shown = format!("{}:${{PASSWORD}}@", &found[1]);
            warnings.push(format!(
                "{place}:{}: a password stands in plain text in a URL; write {shown}… and set it in the environment",
                line + 1
            ));
        }
        if !matches!(section.as_str(), "source" | "alerts" | "destination") || text.trim_start().starts_with('#') {
            continue;
        }
        for found in secret.captures_iter(text) {
            let (name, value) = (&found[1], &found[2]);
            let plain = !value.contains('$') && !value.starts_with(['{', '[', '&', '*', '|', '>', '#']);
            if plain && (!matches!(name, "key" | "value") || section == "source") {
                let variable = name.to_uppercase();
                warnings.push(format!("{place}:{}: `{name}` is a secret in plain text; write ${{{variable}}} and set it in the environment", line + 1));
            }
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_of_the_wrong_type_is_not_shown() {
        let variables = [("URL", "http://x"), ("SECRET", "hunter2\"!")];
        for key in [
            "concurrency: ${SECRET}",
            "attempts: $SECRET",
            "timeout: ${SECRET:-5s}",
            "max_body: \"${SECRET}\"",
            "auth: ${SECRET}",
            "auth: { type: \"${SECRET}\" }",
            "auth: { type: jwt, key: a, ttl: \"${SECRET}\" }",
            "allowed_hosts: ${SECRET}",
            "rate_limit: { requests_per_second: ${SECRET} }",
        ] {
            let text = format!(
                "version: 1\nname: p\nsource:\n  base_url: ${{URL}}\n  {key}\nresources: [{{ name: r, path: /r }}]\ndestination: {{ url: x }}\n"
            );
            let error = load(&text, "p.yaml", &Environment::from(variables)).unwrap_err().to_string();
            assert!(error.starts_with("p.yaml:") && !error.contains("hunter2"), "{key}: {error}");
        }
    }

    #[test]
    fn a_password_in_the_url_of_a_load_is_warned_of() {
        let warnings = |url: &str| {
            let text = format!(
                "version: 1\nname: p\nsource: {{ base_url: http://x }}\nresources: [{{ name: r, path: /r }}]\n\
                 destination: {{ url: x }}\nload: [{{ url: \"{url}\" }}]\n"
            );
            load(&text, "p.yaml", &Environment::from([("PASSWORD", "hunter2")])).unwrap().warnings
        };
        let said = warnings("postgres://me:hunter2@db:5432/shop");
        assert!(
            said.len() == 1 && said[0].starts_with("p.yaml:6: a password") && !said[0].contains("hunter2"),
            "{said:?}"
        );
        assert!(said[0].contains("postgres://me:${PASSWORD}@"), "{said:?}");
        for url in ["postgres://me:${PASSWORD}@db/shop", "postgres://me@db:5432/shop", "sqlite:a@b.db"] {
            assert_eq!(warnings(url), [""; 0], "{url}");
        }
    }

    #[test]
    fn an_unknown_key_is_named_beside_a_variable_too() {
        let text = "version: 1\nname: p\nsource:\n  base_url: ${URL}\n  concurency: 8\nresources: []\ndestination: { url: x }\n";
        let error = load(text, "p.yaml", &Environment::from([("URL", "http://x")])).unwrap_err().to_string();
        assert_eq!(error, "p.yaml:5: unknown key `concurency`; did you mean `concurrency`?");
    }

    #[test]
    fn an_empty_file_and_a_key_said_twice_are_told_with_the_remedy() {
        let said = |text: &str| load(text, "p.yaml", &Environment::from([("URL", "x")])).unwrap_err().to_string();
        assert_eq!(said(" \n"), "p.yaml:1: the file is empty; `tessera ingest init URL` writes a first one");
        assert_eq!(
            said("version: 1\nname: a\nname: b\n"),
            "p.yaml:3: key `name` stands here a second time; keep one of them"
        );
    }
}
