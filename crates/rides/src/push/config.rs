//! `[rides.push]`: which services are used, and where they are.

use serde::{Deserialize, Serialize};

use super::Service;

/// `[rides.push]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Firebase Cloud Messaging.
    pub fcm: FcmConfig,
    /// Apple's.
    pub apns: ApnsConfig,
    /// Browsers.
    pub web: WebConfig,
}

impl Config {
    /// Whether a service is set up.
    pub fn has(&self, service: Service) -> bool {
        match service {
            Service::Fcm => self.fcm.credentials.is_some(),
            Service::Apns => self.apns.key.is_some(),
            Service::Web => self.web.private_key.is_some(),
        }
    }
}

/// `[rides.push.fcm]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FcmConfig {
    /// The file of a service account, JSON; not used where not set.
    pub credentials: Option<String>,
    /// Where messages are sent.
    pub url: String,
}

impl Default for FcmConfig {
    fn default() -> Self {
        Self { credentials: None, url: "https://fcm.googleapis.com".to_owned() }
    }
}

/// `[rides.push.apns]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApnsConfig {
    /// The file of the signing key, `AuthKey_….p8`; not used where not set.
    pub key: Option<String>,
    /// Its id.
    pub key_id: Option<String>,
    /// The team's id.
    pub team_id: Option<String>,
    /// The bundle id of the app.
    pub topic: Option<String>,
    /// Where notes are sent; Apple's sandbox is `https://api.sandbox.push.apple.com`.
    pub url: String,
}

impl Default for ApnsConfig {
    fn default() -> Self {
        let url = "https://api.push.apple.com".to_owned();
        Self { key: None, key_id: None, team_id: None, topic: None, url }
    }
}

/// `[rides.push.web]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebConfig {
    /// The private VAPID key, 32 bytes in base64url; not used where not set.
    pub private_key: Option<String>,
    /// The public one, 65 bytes in base64url.
    pub public_key: Option<String>,
    /// Whom a push service may ask about us: `mailto:…` or `https://…`.
    pub subject: Option<String>,
    /// The origins that browsers' endpoints may have, a `*.` for any name below.
    pub services: Vec<String>,
}

impl Default for WebConfig {
    fn default() -> Self {
        let services = [
            "https://fcm.googleapis.com",
            "https://updates.push.services.mozilla.com",
            "https://*.push.apple.com",
            "https://*.notify.windows.com",
        ];
        let services = services.map(str::to_owned).into();
        Self { private_key: None, public_key: None, subject: None, services }
    }
}

impl WebConfig {
    /// Whether a browser's endpoint lies with a service that is known: nobody sends us anywhere else.
    pub fn knows(&self, endpoint: &reqwest::Url) -> bool {
        let (Some(host), true) = (endpoint.host_str(), endpoint.username().is_empty() && endpoint.password().is_none())
        else {
            return false;
        };
        self.services.iter().filter_map(|service| service.split_once("://")).any(|(scheme, known)| {
            let known = known.trim_end_matches('/');
            let port = endpoint.port().map(|port| format!(":{port}")).unwrap_or_default();
            let same = match known.strip_prefix("*.") {
                Some(below) => port.is_empty() && host.strip_suffix(below).is_some_and(|name| name.ends_with('.')),
                None => known == format!("{host}{port}"),
            };
            same && scheme == endpoint.scheme()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_services_are_sent_to() {
        let mut config = WebConfig::default();
        config.services.push("http://127.0.0.1:9".into());
        let knows = |url: &str| config.knows(&url.parse().unwrap());
        assert!(knows("https://updates.push.services.mozilla.com/wpush/v2/abc"));
        assert!(knows("https://web.push.apple.com/abc") && knows("https://wns2-par02p.notify.windows.com/w/?token=1"));
        assert!(knows("http://127.0.0.1:9/x"));
        for foreign in [
            "http://updates.push.services.mozilla.com/x",
            "https://updates.push.services.mozilla.com:8443/x",
            "https://fcm.googleapis.com@evil.example/x",
            "https://me@fcm.googleapis.com/x",
            "https://evilpush.apple.com/x",
            "https://push.apple.com.evil.example/x",
            "https://a.push.apple.com:1/x",
            "http://127.0.0.1:10/x",
            "https://169.254.169.254/latest",
            "file:///etc/passwd",
        ] {
            assert!(!knows(foreign), "{foreign}");
        }
    }
}
