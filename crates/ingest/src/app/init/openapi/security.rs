//! Security schemes as `auth`, with placeholders for what is secret.

use serde_json::Value;
use url::Url;

use super::super::write::literal;
use super::schema::Document;
use crate::spec::{Auth, ClientAuth, KeyPlace};

/// The auth that the document asks for, and comments about it.
pub(super) fn auth(document: &Document, url: &Url, name: &str) -> (Auth, Vec<String>) {
    let schemes = document.root.pointer("/components/securitySchemes").and_then(Value::as_object);
    let asked = asked_for(document);
    let variable = |what: &str| format!("${{{}_{what}}}", name.to_uppercase().replace('-', "_"));
    let mut found: Vec<(String, Auth, String)> = Vec::new();
    for (scheme_name, scopes) in asked {
        let Some(scheme) = schemes.and_then(|s| s.get(&scheme_name)).and_then(|s| document.resolve(s)) else {
            continue;
        };
        let is_known = found.iter().any(|(known, ..)| *known == scheme_name);
        let read = of_scheme(scheme, &scopes, url, &variable).filter(|_| !is_known);
        found.extend(read.map(|(auth, note)| (scheme_name, auth, note)));
    }
    // What needs nobody at a browser comes first.
    found.sort_by_key(|(_, auth, _)| match auth {
        Auth::Oauth2 { refresh_token: Some(_), .. } => 1,
        _ => 0,
    });
    let others: Vec<String> = found.iter().skip(1).map(|(name, ..)| name.clone()).collect();
    let Some((scheme_name, auth, note)) = found.into_iter().next() else { return (Auth::None, vec![]) };
    let mut notes = vec![format!("The document's scheme `{scheme_name}`{note}.")];
    if !others.is_empty() {
        notes.push(format!("It also accepts: {}.", others.join(", ")));
    }
    (auth, notes)
}

/// Names of the schemes with their scopes: of the whole document first, then of its operations.
fn asked_for(document: &Document) -> Vec<(String, Vec<String>)> {
    let mut lists: Vec<&Value> = document.root.get("security").into_iter().collect();
    if lists.is_empty() {
        let paths = document.root.get("paths").and_then(Value::as_object).into_iter().flatten();
        lists.extend(paths.filter_map(|(_, item)| document.resolve(item)?.get("get")?.get("security")));
    }
    let requirements = lists.iter().filter_map(|list| list.as_array()).flatten().filter_map(Value::as_object).flatten();
    requirements
        .map(|(name, scopes)| {
            let scopes = scopes.as_array().into_iter().flatten().filter_map(|scope| scope.as_str().map(str::to_owned));
            (name.clone(), scopes.collect())
        })
        .collect()
}

fn of_scheme(
    scheme: &Value,
    scopes: &[String],
    url: &Url,
    variable: &dyn Fn(&str) -> String,
) -> Option<(Auth, String)> {
    let text = |key: &str| scheme.get(key).and_then(Value::as_str).unwrap_or_default();
    let plain = |auth| Some((auth, String::new()));
    match text("type") {
        "http" if text("scheme").eq_ignore_ascii_case("basic") => {
            plain(Auth::Basic { username: variable("USERNAME"), password: variable("PASSWORD") })
        }
        "http" if text("scheme").eq_ignore_ascii_case("bearer") => plain(Auth::Bearer { token: variable("TOKEN") }),
        "apiKey" => {
            let place = match text("in") {
                "query" => KeyPlace::Query,
                "cookie" => KeyPlace::Cookie,
                _ => KeyPlace::Header,
            };
            plain(Auth::ApiKey { name: literal(text("name")), value: variable("API_KEY"), place })
        }
        "openIdConnect" => {
            Some((Auth::Bearer { token: variable("TOKEN") }, " is OpenID Connect: a token of its issuer".into()))
        }
        "oauth2" => oauth2(scheme.get("flows")?, scopes, url, variable),
        _ => None,
    }
}

fn oauth2(flows: &Value, scopes: &[String], url: &Url, variable: &dyn Fn(&str) -> String) -> Option<(Auth, String)> {
    let endpoint = |flow: &Value, key: &str| {
        let text = flow.get(key)?.as_str()?;
        Some(literal(url.join(text).map_or_else(|_| text.to_owned(), String::from).as_str()))
    };
    let scope = |flow: &Value| {
        let all = flow.get("scopes").and_then(Value::as_object).into_iter().flatten().map(|(name, _)| name.clone());
        let read: Vec<String> = if scopes.is_empty() { all.collect() } else { scopes.to_vec() };
        (!read.is_empty()).then(|| literal(&read.join(" ")))
    };
    let build = |token_url: String, refresh_token: Option<String>, scope: Option<String>| Auth::Oauth2 {
        token_url,
        client_id: variable("CLIENT_ID"),
        client_secret: variable("CLIENT_SECRET"),
        refresh_token,
        scope,
        audience: None,
        client_auth: ClientAuth::default(),
    };
    if let Some(flow) = flows.get("clientCredentials") {
        return Some((build(endpoint(flow, "tokenUrl")?, None, scope(flow)), " (client credentials)".into()));
    }
    if let Some(flow) = flows.get("authorizationCode") {
        let token_url = endpoint(flow, "refreshUrl").or_else(|| endpoint(flow, "tokenUrl"))?;
        let note = " needs a person to sign in once; give the refresh token of that".into();
        return Some((build(token_url, Some(variable("REFRESH_TOKEN")), None), note));
    }
    flows.as_object().filter(|flows| !flows.is_empty())?;
    Some((Auth::Bearer { token: variable("TOKEN") }, ": a token that you obtained".into()))
}
