//! The console over its router: what is served with which headers, what is refused, and rules that the assets must keep.

use super::*;
use http::Request;
use tower::ServiceExt;

async fn fetch(path: &str, headers: &[(&str, &str)]) -> Response {
    send("GET", path, headers).await
}

async fn send(method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    router().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

fn head<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).unwrap_or_else(|| panic!("no header {name}")).to_str().unwrap()
}

async fn body(response: Response) -> Vec<u8> {
    axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap().to_vec()
}

#[tokio::test]
async fn the_document_is_at_three_addresses() {
    for path in ["/", "/console", "/console/", "/console/index.html"] {
        let response = fetch(path, &[]).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert_eq!(head(&response, "content-type"), "text/html; charset=utf-8", "{path}");
        assert!(body(response).await.starts_with(b"<!doctype html>"), "{path}");
    }
}

#[tokio::test]
async fn every_asset_is_served_with_its_type_and_guards() {
    let mut seen = 0;
    for name in Assets::iter() {
        let response = fetch(&format!("/console/{name}"), &[]).await;
        assert_eq!(response.status(), StatusCode::OK, "{name}");
        assert_eq!(Some(head(&response, "content-type")), content_type(&name), "{name}");
        assert_eq!(head(&response, "cache-control"), "no-cache");
        assert_eq!(head(&response, "x-content-type-options"), "nosniff");
        assert_eq!(head(&response, "referrer-policy"), "no-referrer");
        let policy = head(&response, "content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert!(!body(response).await.is_empty(), "{name}");
        seen += 1;
    }
    assert!(seen > 10, "only {seen} assets");
}

#[tokio::test]
async fn an_unchanged_asset_is_not_sent_again() {
    let first = fetch("/console/main.js", &[]).await;
    let tag = head(&first, "etag").to_owned();
    for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
        let again = fetch("/console/main.js", &[("if-none-match", &known)]).await;
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{known}");
        assert_eq!(head(&again, "etag"), tag);
        assert_eq!(head(&again, "cache-control"), "no-cache");
        assert!(body(again).await.is_empty());
    }
    let stale = fetch("/console/main.js", &[("if-none-match", "\"other\"")]).await;
    assert_eq!(stale.status(), StatusCode::OK);
    assert_ne!(head(&fetch("/console/dom.js", &[]).await, "etag"), tag);
}

#[tokio::test]
async fn head_has_the_headers_and_no_body() {
    let response = send("HEAD", "/console/base.css", &[]).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(head(&response, "content-type"), "text/css; charset=utf-8");
    assert!(body(response).await.is_empty());
    assert_eq!(send("POST", "/console/base.css", &[]).await.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn known_pages_are_redirected_to_their_fragment() {
    for (path, location) in [
        ("/console/ingest/pipelines", "/console/#/ingest/pipelines"),
        ("/console/ingest/pipelines/a%20b/quality", "/console/#/ingest/pipelines/a%20b/quality"),
        ("/console/ingest/runs/run_1", "/console/#/ingest/runs/run_1"),
        ("/console/tickets", "/console/#/tickets"),
        ("/console/tickets/events/event_1/waiting-room", "/console/#/tickets/events/event_1/waiting-room"),
    ] {
        let response = fetch(path, &[]).await;
        assert_eq!(response.status(), StatusCode::TEMPORARY_REDIRECT, "{path}");
        assert_eq!(head(&response, "location"), location);
    }
}

#[tokio::test]
async fn unknown_addresses_are_not_found() {
    for path in
        ["/console/missing.js", "/console/pages", "/console/pages/", "/console/ingest", "/console/main.js/", "/other"]
    {
        let response = fetch(path, &[]).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
    }
    let response = fetch("/console/missing.js", &[]).await;
    assert_eq!(head(&response, "x-content-type-options"), "nosniff");
    assert!(head(&response, "content-type").starts_with("text/plain"));
}

#[tokio::test]
async fn nothing_outside_the_assets_is_served() {
    for path in [
        "/console/../Cargo.toml",
        "/console/../src/lib.rs",
        "/console/..%2fsrc%2flib.rs",
        "/console/%2e%2e/src/lib.rs",
        "/console/%2e%2e%2findex.html",
        "/console/pages/../main.js",
        "/console/pages/%2e%2e/main.js",
        "/console/..%5cmain.js",
        "/console/./main.js",
        "/console//main.js",
        "/console//etc/passwd",
        "/console/%2fetc%2fhostname.css",
        "/console/main.js%00",
    ] {
        let response = fetch(path, &[]).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
    }
}

/// A file of the assets as text.
fn text(name: &str) -> String {
    String::from_utf8(Assets::get(name).unwrap_or_else(|| panic!("no asset {name}")).data.into_owned()).unwrap()
}

/// What follows each `before`, up to the next quote.
fn quoted<'a>(text: &'a str, before: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(before).skip(1).filter_map(|rest| rest.split(['"', '\'']).next())
}

/// The asset that a module of this name means by a relative path.
fn beside(module: &str, target: &str) -> Option<String> {
    let mut folders: Vec<&str> = module.split('/').collect();
    folders.pop();
    let mut rest = match target.strip_prefix("./") {
        Some(rest) => rest,
        None if target.starts_with("../") => target,
        None => return None,
    };
    while let Some(above) = rest.strip_prefix("../") {
        folders.pop()?;
        rest = above;
    }
    folders.push(rest);
    Some(folders.join("/"))
}

#[test]
fn modules_and_document_name_only_files_that_exist() {
    let document = text(DOCUMENT);
    let mut named: Vec<String> =
        quoted(&document, "href=\"/console/").chain(quoted(&document, "src=\"/console/")).map(str::to_owned).collect();
    for name in Assets::iter().filter(|name| name.ends_with(".js")) {
        for target in quoted(&text(&name), " from '") {
            let target = beside(&name, target)
                .unwrap_or_else(|| panic!("{name} imports `{target}`, which is not a relative path of ours"));
            named.push(target);
        }
    }
    assert!(named.len() > 20, "found only {named:?}");
    for name in named {
        assert!(asset(&name).is_some(), "`{name}` is imported and does not exist");
    }
}

/// API strings reach the page as text nodes only, and nothing is loaded from another host.
#[test]
fn assets_build_no_markup_and_name_no_other_host() {
    let forbidden = [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "srcdoc",
        "DOMParser",
        "@import",
    ];
    for name in Assets::iter() {
        let text = text(&name).replace("http://www.w3.org/2000/svg", "");
        for word in forbidden.into_iter().chain(["http://", "https://"]) {
            assert!(!text.contains(word), "{name} contains `{word}`");
        }
        assert!(!text.contains(" style=\"") && !text.contains(" onclick=\""), "{name} has an inline style or handler");
    }
}

/// A shared link works: what is redirected to a fragment is a page of the shell.
#[test]
fn pages_that_the_server_knows_are_routes_of_the_shell() {
    let shell = text("main.js");
    let routes: Vec<Vec<&str>> = quoted(&shell, "  ['").map(|route| route.split('/').collect()).collect();
    let fits = |page: &[&str]| {
        routes.iter().any(|route| {
            route.len() == page.len()
                && route.iter().zip(page).all(|(want, part)| want == part || want.starts_with(':'))
        })
    };
    for page in pages::PAGES {
        assert!(fits(page), "main.js lost {page:?}");
    }
}
