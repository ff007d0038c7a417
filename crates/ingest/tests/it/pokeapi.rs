//! The data of a real API: eight resources of PokéAPI, served as the live API serves them, through
//! `examples/pokeapi.yaml`. The row counts are those of `tests/data/pokeapi/README.md`.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::{Value, json};
use tessera_ingest::spec::{Environment, Loaded, load_file};
use tessera_testkit::ScratchDir;

use crate::support::{Api, finish, rows_of};

const COUNTS: [(&str, usize); 8] = [
    ("item", 2223),
    ("location", 1104),
    ("ability", 373),
    ("berry", 68),
    ("nature", 25),
    ("item_category", 54),
    ("type", 21),
    ("pokemon_form", 1579),
];

/// Documents by path below the API's root: `item` is the list, `item/1` a detail.
fn documents() -> &'static BTreeMap<String, Bytes> {
    static DOCUMENTS: OnceLock<BTreeMap<String, Bytes>> = OnceLock::new();
    DOCUMENTS.get_or_init(|| {
        let packed =
            std::fs::File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/pokeapi/api.tar.gz")).unwrap();
        let mut tar = Vec::new();
        flate2::read::GzDecoder::new(packed).read_to_end(&mut tar).unwrap();
        let found = files(&tar).filter_map(|(name, body)| {
            let key = name.strip_prefix("data/api/v2/")?.strip_suffix("/index.json")?;
            Some((key.to_owned(), Bytes::copy_from_slice(body)))
        });
        found.collect()
    })
}

/// The regular files of a tar archive: blocks of 512 bytes, a header and then the content.
fn files(mut tar: &[u8]) -> impl Iterator<Item = (&str, &[u8])> {
    std::iter::from_fn(move || {
        loop {
            let header = tar.get(..512)?;
            let text = |range: std::ops::Range<usize>| {
                std::str::from_utf8(&header[range]).unwrap().trim_end_matches(['\0', ' '])
            };
            let name = text(0..100);
            if name.is_empty() {
                return None;
            }
            let size = usize::from_str_radix(text(124..136), 8).unwrap();
            let (body, kind) = (&tar[512..512 + size], header[156]);
            tar = &tar[512 + size.next_multiple_of(512)..];
            if kind == b'0' {
                return Some((name, body));
            }
        }
    })
}

/// How the server misbehaves; 0 is never.
#[derive(Clone, Copy, Default)]
struct Trouble {
    fail_every: u64,
    cut_every: u64,
    rate: u32,
}

struct Server {
    base: String,
    lists: BTreeMap<&'static str, Vec<Value>>,
    trouble: Trouble,
    seen: AtomicU64,
    window: Mutex<(Instant, u32)>,
}

fn serve(trouble: Trouble) -> Api {
    let lists = documents().iter().filter(|(key, _)| !key.contains('/')).map(|(key, list)| {
        let list: Value = serde_json::from_slice(list).unwrap();
        (key.as_str(), list["results"].as_array().unwrap().clone())
    });
    let lists: BTreeMap<&'static str, Vec<Value>> = lists.collect();
    Api::serve(|base| {
        let server = Server {
            base: format!("{base}/api/v2"),
            lists,
            trouble,
            seen: AtomicU64::new(0),
            window: Mutex::new((Instant::now(), 0)),
        };
        Router::new().fallback(answer).with_state(Arc::new(server))
    })
}

async fn answer(
    State(server): State<Arc<Server>>,
    uri: Uri,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    let number = server.seen.fetch_add(1, Ordering::SeqCst) + 1;
    let trouble = server.trouble;
    let due = |every: u64| every > 0 && number.is_multiple_of(every);
    if trouble.rate > 0 {
        let mut window = server.window.lock().unwrap();
        if window.0.elapsed() >= Duration::from_secs(1) {
            *window = (Instant::now(), 0);
        }
        window.1 += 1;
        if window.1 > trouble.rate {
            return (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "1")], "slow down").into_response();
        }
    }
    if due(trouble.fail_every) {
        return (StatusCode::SERVICE_UNAVAILABLE, "try again").into_response();
    }
    let key = uri.path().trim_matches('/').trim_start_matches("api/v2").trim_matches('/');
    let body = match (server.lists.get(key), documents().get(key)) {
        (Some(rows), _) => {
            let number = |name: &str, or: usize| query.get(name).map_or(or, |text| text.parse().unwrap());
            let (offset, limit) = (number("offset", 0), number("limit", 20));
            let link = |at: usize| format!("{}/{key}/?offset={at}&limit={limit}", server.base);
            let page: Vec<&Value> = rows.iter().skip(offset).take(limit).collect();
            let next = (offset + limit < rows.len()).then(|| link(offset + limit));
            let previous = (offset > 0).then(|| link(offset.saturating_sub(limit)));
            Bytes::from(json!({ "count": rows.len(), "next": next, "previous": previous, "results": page }).to_string())
        }
        (None, Some(document)) => document.clone(),
        (None, None) => return (StatusCode::NOT_FOUND, "{\"detail\":\"Not found.\"}").into_response(),
    };
    let kind = [(header::CONTENT_TYPE, "application/json; charset=utf-8")];
    if due(trouble.cut_every) {
        // The length of the whole, then half of it, then the end of the connection.
        let half = body.slice(..body.len() / 2);
        let parts = futures::stream::iter([Ok(half), Err(std::io::Error::other("cut"))]);
        return (kind, [(header::CONTENT_LENGTH, body.len().to_string())], Body::from_stream(parts)).into_response();
    }
    (kind, body).into_response()
}

fn run_and_count(trouble: Trouble) -> (ScratchDir, Loaded) {
    let api = serve(trouble);
    let scratch = ScratchDir::new();
    let (url, lake) = (format!("{}/api/v2", api.base), scratch.file("lake").display().to_string());
    let example = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/pokeapi.yaml"));
    let settings = [("POKEAPI_URL", url.as_str()), ("LAKE", lake.as_str()), ("POKEAPI_RATE", "5000")];
    let ended = finish(example, &["--run-type", "backfill"], &settings);
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    let loaded = load_file(example, &Environment::from(settings)).unwrap();
    for (table, rows) in COUNTS {
        let mut ids: Vec<String> = rows_of(&loaded, table, &["id"]).into_iter().flatten().collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), rows, "{table}");
        assert_eq!(rows_of(&loaded, &format!("{table}_list"), &["url"]).len(), rows, "{table}_list");
    }
    (scratch, loaded)
}

#[test]
fn every_row_of_a_real_api_arrives() {
    let (_scratch, loaded) = run_and_count(Trouble::default());
    // And its content: ids, texts in other scripts, nested lists.
    let names = rows_of(&loaded, "berry", &["id", "name", "flavors"]);
    let cheri = names.iter().find(|row| row[0] == "1").unwrap();
    assert!(cheri[1] == "cheri" && cheri[2].contains("spicy"), "{cheri:?}");
    let texts = rows_of(&loaded, "item", &["names"]);
    assert!(texts.iter().any(|row| row[0].contains("マスターボール")), "no Japanese names");
}

#[test]
fn every_row_of_a_real_api_arrives_through_faults() {
    run_and_count(Trouble { fail_every: 9, cut_every: 13, rate: 1_500 });
}
