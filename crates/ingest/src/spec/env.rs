//! The secrets found in a pipeline file.

use super::{Auth, Pipeline};

/// The secret values of a pipeline, so that they can be struck out of whatever is written.
#[derive(Clone, Default)]
pub struct Secrets(Vec<String>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

/// Names of headers and parameters whose values are secrets wherever they stand.
pub(crate) fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    let parts = ["authorization", "cookie", "api_key", "apikey", "token", "secret", "password", "signature", "auth"];
    parts.iter().any(|part| name.contains(part)) && !name.ends_with("page_token") && !name.ends_with("pagetoken")
}

impl Secrets {
    /// All secret values in a pipeline.
    pub fn of(pipeline: &Pipeline) -> Self {
        let mut found = Vec::new();
        match &pipeline.source.auth {
            Auth::None => {}
            Auth::Bearer { token } => found.push(token.clone()),
            Auth::Basic { password, username } => {
                found.push(password.clone());
                found.push(basic(username, password));
            }
            Auth::ApiKey { value, .. } => found.push(value.clone()),
            Auth::Oauth2 { client_id, client_secret, refresh_token, .. } => {
                found.push(client_secret.clone());
                found.push(basic(client_id, client_secret));
                found.extend(refresh_token.clone());
            }
            Auth::Session { body, .. } => {
                found.extend(body.iter().filter(|(name, _)| is_secret_name(name)).map(|(_, value)| value.clone()));
            }
            Auth::Jwt { key, .. } => found.push(key.clone()),
        }
        let resources = pipeline.resources.iter().flat_map(|r| r.headers.iter().chain(&r.params));
        let named = pipeline.source.headers.iter().chain(&pipeline.source.params).chain(resources);
        found.extend(named.filter(|(name, _)| is_secret_name(name)).map(|(_, value)| value.clone()));
        found.extend(pipeline.destination.s3.secret_access_key.clone());
        found.extend(pipeline.alerts.slack.as_ref().map(|slack| slack.webhook.clone()));
        found.extend(pipeline.alerts.pagerduty.as_ref().map(|pd| pd.routing_key.clone()));
        if let Some(webhook) = &pipeline.alerts.webhook {
            found.extend(webhook.headers.values().cloned());
        }
        let urls = pipeline.load.iter().map(|load| &load.url).chain([&pipeline.source.base_url]);
        found.extend(urls.filter_map(|url| Some(url::Url::parse(url).ok()?.password()?.to_owned())));
        let mut secrets = Self::default();
        found.into_iter().for_each(|value| secrets.add(value));
        secrets
    }

    /// One more secret, such as a token just obtained. Values shorter than four characters are not kept: striking
    /// them out would tell more than it hides.
    pub fn add(&mut self, value: String) {
        if value.len() >= 4 && !self.0.contains(&value) {
            let encoded: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
            if encoded != value {
                self.0.push(encoded);
            }
            let in_json = serde_json::Value::from(value.as_str()).to_string();
            let in_json = in_json.trim_matches('"');
            if in_json != value {
                self.0.push(in_json.to_owned());
            }
            self.0.push(value);
            self.0.sort_by_key(|value| std::cmp::Reverse(value.len()));
        }
    }

    /// The text with every secret struck out.
    pub fn redact(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| {
            if text.contains(secret.as_str()) { text.replace(secret.as_str(), "***") } else { text }
        })
    }
}

fn basic(username: &str, password: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"))
}
