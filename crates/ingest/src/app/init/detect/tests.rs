//! One response of each kind.

use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use url::Url;

use super::*;

fn rows(count: u64) -> Vec<Value> {
    (1..=count)
        .map(|id| json!({"id": id, "name": format!("n{id}"), "updated_at": format!("2024-01-{:02}T10:00:00Z", id % 28 + 1)}))
        .collect()
}

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(k, v)| (http::HeaderName::from_bytes(k.as_bytes()).unwrap(), HeaderValue::from_static(v)))
        .collect()
}

fn detect_with(url: &str, pairs: &[(&'static str, &'static str)], body: impl AsRef<[u8]>) -> Detected {
    let url = Url::parse(url).unwrap();
    detect(&Sample { url: &url, status: 200, headers: &headers(pairs), body: body.as_ref() })
}

fn detect_json(url: &str, body: &Value) -> Detected {
    detect_with(url, &[("content-type", "application/json")], body.to_string())
}

const ORDERS: &str = "https://api.example.com/v1/orders";

#[test]
fn finds_the_records() {
    let cases = [
        (json!(rows(3)), "$"),
        (json!({"data": rows(3)}), "data"),
        (json!({"orders": rows(3), "users": rows(9)}), "orders"),
        (json!({"data": {"items": rows(3), "total": 3}}), "data.items"),
        (json!({"_embedded": {"orders": rows(2)}, "_links": {"self": {"href": "/orders"}}}), "_embedded.orders"),
        (json!({"errors": [{"a": 1}], "things": rows(2)}), "things"),
        (
            json!({"response": {"docs": rows(2), "numFound": 2}, "facets": [{"a": 1}, {"b": 2}, {"c": 3}]}),
            "response.docs",
        ),
        (json!({"data": [], "page": 1}), "data"),
    ];
    for (body, path) in cases {
        let found = detect_json(ORDERS, &body);
        assert_eq!((found.shape, found.records.as_str()), (Shape::List, path), "{body}");
    }
}

#[test]
fn a_detail_document_is_no_list() {
    let body = json!({"id": 7, "status": "paid", "items": rows(3), "total": 12});
    let found = detect_json("https://api.example.com/v1/orders/7", &body);
    assert_eq!(found.shape, Shape::Single);
    assert_eq!(found.primary_key, ["id"]);
    let body = json!({"name": "x", "height": 1, "weight": 2, "order": 3, "abilities": [{"slot": 1}]});
    assert_eq!(detect_json("https://api.example.com/pokemon/x", &body).shape, Shape::Single);
}

#[test]
fn an_index_names_endpoints() {
    let body =
        json!({"pokemon": "https://api.example.com/api/v2/pokemon/", "berry": "https://api.example.com/api/v2/berry/"});
    let Shape::Index(links) = detect_json("https://api.example.com/api/v2/", &body).shape else { panic!("no index") };
    assert_eq!(links.len(), 2);
    assert_eq!(links[0].1.path(), "/api/v2/pokemon/");
    let hal = json!({"_links": {"self": {"href": "/"}, "orders": {"href": "/orders{?page}", "templated": true}, "one": {"href": "/o/{id}"}}});
    let Shape::Index(links) = detect_json("https://api.example.com/", &hal).shape else { panic!("no index") };
    assert_eq!(links, [("orders".to_owned(), Url::parse("https://api.example.com/orders").unwrap())]);
    let elsewhere = json!({"docs": "https://other.example.org/a", "more": "https://other.example.org/b"});
    assert_eq!(detect_json("https://api.example.com/", &elsewhere).shape, Shape::Single);
}

#[test]
fn finds_every_paginator() {
    let page = |param: &str, size_param: Option<&str>, size, start, total_pages: Option<&str>| Paginator::Page {
        param: param.into(),
        size_param: size_param.map(Into::into),
        size,
        start,
        total_pages: total_pages.map(Into::into),
    };
    let cursor = |param: &str, next: &str, has_more: Option<&str>| Paginator::Cursor {
        param: param.into(),
        next: next.into(),
        size_param: None,
        size: None,
        has_more: has_more.map(Into::into),
    };
    let next_url = |next: &str| Paginator::NextUrl { next: next.into(), size_param: None, size: None };
    let offset = |param: &str, limit_param: &str, limit| Paginator::Offset {
        param: param.into(),
        limit_param: limit_param.into(),
        limit,
    };
    let data = rows(2);
    let cases = [
        (json!({"data": data, "next": "https://api.example.com/v1/orders?after=abc"}), next_url("next")),
        (json!({"data": data, "links": {"next": "/v1/orders?after=abc"}}), next_url("links.next")),
        (json!({"data": data, "_links": {"next": {"href": "?after=abc"}}}), next_url("_links.next.href")),
        (
            json!({"data": data, "paging": {"next": {"after": "x", "link": "https://api.example.com/v1/orders?after=x"}}}),
            next_url("paging.next.link"),
        ),
        (
            json!({"value": data, "@odata.nextLink": "https://api.example.com/v1/orders?$skiptoken=9"}),
            next_url("@odata.nextLink"),
        ),
        (json!({"data": data, "next_page_url": null}), next_url("next_page_url")),
        (json!({"count": 2, "next": null, "previous": null, "results": data}), next_url("next")),
        (
            json!({"count": 50, "next": "https://api.example.com/v1/orders?offset=2&limit=2", "results": data}),
            offset("offset", "limit", 2),
        ),
        (
            json!({"count": 50, "next": "https://api.example.com/v1/orders?page=2", "results": data}),
            page("page", None, None, 1, None),
        ),
        (
            json!({"data": data, "next_cursor": "abc", "has_more": true}),
            cursor("cursor", "next_cursor", Some("has_more")),
        ),
        (json!({"data": data, "next_cursor": null}), cursor("cursor", "next_cursor", None)),
        (json!({"data": data, "next_cursor": 42}), cursor("cursor", "next_cursor", None)),
        (json!({"items": data, "nextPageToken": "abc"}), cursor("pageToken", "nextPageToken", None)),
        (json!({"items": data, "next_page_token": ""}), cursor("page_token", "next_page_token", None)),
        (json!({"items": data, "meta": {"next_cursor": "x"}}), cursor("cursor", "meta.next_cursor", None)),
        (
            json!({"items": data, "pagination": {"next_token": "x"}}),
            cursor("next_token", "pagination.next_token", None),
        ),
        (
            json!({"items": data, "pageInfo": {"hasNextPage": true, "endCursor": "x"}}),
            cursor("after", "pageInfo.endCursor", Some("pageInfo.hasNextPage")),
        ),
        (json!({"records": data, "offset": "itr12/rec3"}), cursor("offset", "offset", None)),
        (json!({"data": data, "page": 1, "per_page": 2, "total": 9}), page("page", Some("per_page"), Some(2), 1, None)),
        (json!({"data": data, "current_page": 1, "last_page": 5}), page("page", None, None, 1, Some("last_page"))),
        (
            json!({"data": data, "meta": {"page": 1, "total_pages": 5}}),
            page("page", None, None, 1, Some("meta.total_pages")),
        ),
        (
            json!({"content": data, "number": 0, "size": 2, "totalPages": 5, "totalElements": 9}),
            page("page", Some("size"), Some(2), 0, Some("totalPages")),
        ),
        (json!({"data": data, "next_page": 2}), page("page", None, None, 1, None)),
        (json!({"data": data, "offset": 0, "limit": 2, "total": 9}), offset("offset", "limit", 2)),
        (json!({"issues": data, "startAt": 0, "maxResults": 2, "total": 9}), offset("startAt", "maxResults", 2)),
        (json!({"data": data, "skip": 0, "limit": 2, "count": 9}), offset("skip", "limit", 2)),
        (json!({"data": data, "has_more": true}), Paginator::None),
        (json!({"data": data}), Paginator::None),
        (json!(data), Paginator::None),
    ];
    for (body, paginator) in cases {
        assert_eq!(detect_json(ORDERS, &body).paginator, paginator, "{body}");
    }
}

#[test]
fn finds_paginators_in_headers() {
    let body = json!(rows(2)).to_string();
    let of = |pairs: &[(&'static str, &'static str)]| detect_with(ORDERS, pairs, &body);
    let link = r#"<https://api.example.com/v1/orders?page=1>; rel="prev", <https://api.example.com/v1/orders?after=xy&per_page=2>; rel="next""#;
    assert_eq!(
        of(&[("link", link)]).paginator,
        Paginator::LinkHeader { rel: "next".into(), size_param: Some("per_page".into()), size: Some(2) }
    );
    let counted = of(&[("link", "</v1/orders?page=2&per_page=2>; rel=next"), ("x-total-count", "31")]);
    assert!(
        matches!(&counted.paginator, Paginator::Page { param, size: Some(2), .. } if param == "page"),
        "{counted:?}"
    );
    assert_eq!(counted.total.as_deref(), Some("header:X-Total-Count"));
    assert_eq!(counted.total_rows, Some(31));
    let cursor = of(&[("x-next-cursor", "abc")]).paginator;
    assert!(matches!(cursor, Paginator::Cursor { next, .. } if next == "header:X-Next-Cursor"));
    let pages = of(&[("x-page", "1"), ("x-per-page", "2"), ("x-total-pages", "9")]).paginator;
    assert!(matches!(pages, Paginator::Page { total_pages: Some(path), .. } if path == "header:X-Total-Pages"));
}

#[test]
fn the_total_is_not_the_size_of_the_page() {
    let with = |body: Value| detect_json(ORDERS, &body).total;
    assert_eq!(with(json!({"data": rows(2), "count": 2, "page": 1, "total_pages": 4})), None);
    assert_eq!(with(json!({"data": rows(2), "count": 2, "total": 8, "page": 1})).as_deref(), Some("total"));
    assert_eq!(with(json!({"data": rows(2), "meta": {"total": 8}})).as_deref(), Some("meta.total"));
    assert_eq!(with(json!({"hits": {"total": {"value": 8}, "hits": rows(2)}})).as_deref(), Some("hits.total.value"));
    assert_eq!(with(json!({"value": rows(2), "@odata.count": 8})).as_deref(), Some("@odata.count"));
}

#[test]
fn a_number_that_is_asked_for_is_seen_as_such() {
    let body = json!({"count": 50, "next": "https://api.example.com/v1/orders?offset=6&limit=2", "results": rows(2)});
    let found = detect_json("https://api.example.com/v1/orders?offset=4&limit=2", &body);
    assert!(matches!(found.paginator, Paginator::Offset { limit: 2, .. }));
    let present = json!({"data": rows(2), "cursor": "abc"});
    assert_eq!(detect_json("https://api.example.com/v1/orders?cursor=abc", &present).paginator, Paginator::None);
}

#[test]
fn finds_the_key() {
    let key = |rows: Value| detect_json(ORDERS, &rows).primary_key;
    assert_eq!(key(json!(rows(3))), ["id"]);
    assert_eq!(key(json!([{"name": "a", "order_id": 1}, {"name": "b", "order_id": 2}])), ["order_id"]);
    assert_eq!(key(json!([{"id": 1, "uuid": "a"}, {"id": 1, "uuid": "b"}])), ["uuid"]);
    assert_eq!(key(json!([{"orderId": "a", "total": 1}])), ["orderId"]);
    assert_eq!(key(json!([{"paid": 1}, {"paid": 2}])), Vec::<String>::new());
    assert_eq!(key(json!([{"id": null}, {"id": 2}])), Vec::<String>::new());
    let lines = json!([{"order_id": 1, "line_no": 1}, {"order_id": 1, "line_no": 2}, {"order_id": 2, "line_no": 1}]);
    assert_eq!(key(lines), ["order_id", "line_no"]);
}

#[test]
fn finds_the_column_that_grows() {
    let cursor = |row: Value| detect_json(ORDERS, &json!([row])).cursor.map(|c| (c.column, c.format, c.sees_changes));
    let found = |column: &str, format, sees| Some((column.to_owned(), format, sees));
    assert_eq!(
        cursor(json!({"created_at": "2024-01-01T00:00:00Z", "updated_at": "2024-01-01T00:00:00Z"})),
        found("updated_at", CursorFormat::Rfc3339, true)
    );
    assert_eq!(cursor(json!({"lastModified": 1_700_000_000})), found("lastModified", CursorFormat::Unix, true));
    assert_eq!(cursor(json!({"updated": 1_700_000_000_000_i64})), found("updated", CursorFormat::UnixMs, true));
    assert_eq!(cursor(json!({"modified": "2024-01-31"})), found("modified", CursorFormat::Date, true));
    assert_eq!(cursor(json!({"changed_at": "2024-01-31 10:00:00"})), found("changed_at", CursorFormat::Rfc3339, true));
    assert_eq!(
        cursor(json!({"createdAt": "2024-01-31T10:00:00+0000"})),
        found("createdAt", CursorFormat::Rfc3339, false)
    );
    assert_eq!(
        cursor(json!({"attributes": {"updated_at": "2024-01-31T10:00:00Z"}})),
        found("attributes.updated_at", CursorFormat::Rfc3339, true)
    );
    assert_eq!(cursor(json!({"updated_by": "2024-01-31", "updated": true, "date_of_birth": "2024-01-31"})), None);
}

#[test]
fn finds_the_way_to_the_details() {
    let list = json!({"count": 2, "next": null, "results": [
        {"name": "a", "url": "https://api.example.com/v1/orders/1/"}, {"name": "b", "url": "https://api.example.com/v1/orders/2/"}]});
    let found = detect_json(ORDERS, &list);
    assert_eq!((found.detail.as_deref(), found.thin, found.primary_key), (Some("url"), true, vec!["name".to_owned()]));
    let elsewhere = json!([{"id": 1, "url": "https://shop.example.org/1"}]);
    assert_eq!(detect_json(ORDERS, &elsewhere).detail, None);
}

#[test]
fn reads_other_formats() {
    let csv = detect_with(
        ORDERS,
        &[("content-type", "text/csv")],
        "id,name,updated_at\n1,a,2024-01-31\n2,\"b,c\",2024-02-01\n",
    );
    assert_eq!((csv.format, csv.rows, csv.primary_key.as_slice()), (ResponseFormat::Csv, 2, &["id".to_owned()][..]));
    assert_eq!(csv.cursor.map(|c| c.format), Some(CursorFormat::Date));
    let lines = detect_with(ORDERS, &[], "{\"id\":1}\n{\"id\":2}\n{\"id\":");
    assert_eq!((lines.format, lines.rows), (ResponseFormat::Jsonl, 2));
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, json!({"data": rows(4)}).to_string().as_bytes()).unwrap();
    let packed = detect_with(ORDERS, &[], encoder.finish().unwrap());
    assert!(packed.gzip);
    assert_eq!((packed.format, packed.rows), (ResponseFormat::Json, 4));
}

#[test]
fn says_what_it_cannot_read() {
    for (body, part) in [
        ("<html>hello</html>", "HTML"),
        ("{\"data\": [", "not valid JSON"),
        ("", "empty"),
        ("hello, world", "neither JSON"),
        ("[1, 2]", "neither an object nor a list of objects"),
        ("\"text\"", "neither"),
    ] {
        let Shape::Unreadable(reason) = detect_with(ORDERS, &[], body).shape else { panic!("{body} was read") };
        assert!(reason.contains(part), "{reason}");
    }
    let url = Url::parse(ORDERS).unwrap();
    let refused = detect(&Sample { url: &url, status: 404, headers: &HeaderMap::new(), body: b"{}" });
    assert_eq!(refused.shape, Shape::Unreadable("it answered 404".into()));
}

#[test]
fn paths_with_dots_in_keys_are_found() {
    let body = json!({"@odata.nextLink": "a", "meta": {"x.y": {"z": 1}}});
    assert_eq!(lookup(&body, "@odata.nextLink"), Some(&json!("a")));
    assert_eq!(lookup(&body, "meta.x.y.z"), Some(&json!(1)));
    assert_eq!(lookup(&body, "meta.q"), None);
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_survived(body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        detect_with(ORDERS, &[], body);
    }

    #[test]
    fn any_key_is_survived(key in "\\PC{0,8}", other in "next[_A-Zß-ü]{0,4}", text in "\\PC{0,12}") {
        detect_json(ORDERS, &json!({"data": [{key.clone(): 1, other.clone(): text.clone()}], other: text, key: null}));
    }
}
