//! The OpenAPI document against what the routes answer.

use super::*;

/// Whether a value fits a schema, as far as this document uses them.
fn fits(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(reference.trim_start_matches('#')).ok_or(format!("no {reference}"))?;
        return fits(document, target, value);
    }
    if let Some(choices) = schema.get("oneOf").or(schema.get("anyOf")).and_then(Value::as_array) {
        let reasons: Vec<String> = choices.iter().filter_map(|choice| fits(document, choice, value).err()).collect();
        return if reasons.len() < choices.len() { Ok(()) } else { Err(reasons.join("; ")) };
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind.as_str()],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        other => return Err(format!("a schema without a type: {other} in {schema}")),
    };
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if !(kinds.contains(&kind) || kind == "integer" && kinds.contains(&"number")) {
        return Err(format!("{value} is {kind}, not {kinds:?}"));
    }
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| fits(document, &schema["items"], item)),
        Value::Object(fields) if schema.get("properties").is_some() => {
            for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                fields.get(name).ok_or(format!("`{name}` is required"))?;
            }
            fields.iter().try_for_each(|(name, value)| {
                let field = schema["properties"].get(name).ok_or(format!("`{name}` is not described"))?;
                fits(document, field, value).map_err(|reason| format!("{name}: {reason}"))
            })
        }
        _ => Ok(()),
    }
}

#[tokio::test]
async fn the_openapi_document_tells_the_truth() {
    let shop = Shop::small(0);
    let document = shop.json("/openapi.json").await;
    let index = shop.json("/").await;
    for endpoint in index["endpoints"].as_array().unwrap() {
        let (method, path) = (endpoint["method"].as_str().unwrap(), endpoint["path"].as_str().unwrap());
        let operation = &document["paths"][path][method.to_ascii_lowercase()];
        assert!(operation["operationId"].is_string(), "{method} {path} is not described");
        let content = operation["responses"]["200"]["content"].as_object().unwrap();
        let (kind, content) = content.iter().next().unwrap();
        let asked = path.replace("{id}", "7");
        let (status, headers, body) = match (method, path) {
            ("GET", _) => shop.get(&asked).await,
            ("POST", "/oauth/token") => {
                let form = "grant_type=client_credentials&client_id=demo-client&client_secret=demo-secret";
                shop.send(Request::post(path).body(Body::from(form)).unwrap()).await
            }
            ("POST", "/session") => {
                shop.send(Request::post(path).body(Body::from("username=demo&password=demo-password")).unwrap()).await
            }
            _ => shop.send(Request::builder().method(method).uri(path).body(Body::from("{}")).unwrap()).await,
        };
        assert_eq!(status, StatusCode::OK, "{method} {path}");
        assert!(
            headers[header::CONTENT_TYPE].to_str().unwrap().starts_with(kind.as_str()),
            "{method} {path}: {headers:?}"
        );
        for name in operation["responses"]["200"]["headers"].as_object().unwrap().keys() {
            assert!(headers.contains_key(name.to_ascii_lowercase()), "{method} {path} sends no {name}");
        }
        let values: Vec<Value> = match kind.as_str() {
            "application/json" => vec![serde_json::from_slice(&body).unwrap()],
            "application/x-ndjson" => {
                body.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
            }
            _ => continue,
        };
        for value in values {
            fits(&document, &content["schema"], &value).unwrap_or_else(|reason| panic!("{method} {path}: {reason}"));
        }
    }
    for path in ["/orders/0", "/orders?page=0"] {
        let problem: Value = serde_json::from_slice(&shop.get(path).await.2).unwrap();
        fits(&document, &document["components"]["schemas"]["Problem"], &problem).unwrap();
    }
    // Late rows too, where the types have drifted.
    let page = shop.json("/orders?per_page=1000").await;
    fits(
        &document,
        &document["paths"]["/orders"]["get"]["responses"]["200"]["content"]["application/json"]["schema"],
        &page,
    )
    .unwrap();
}
