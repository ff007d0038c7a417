//! The rules of the house (ARCHITECTURE.md), checked: floors between crates, rooms within a product, `//!` at the top of
//! every file, a page for every error code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Crates by floor; a crate imports only from floors below its own. A new crate gets its line here.
const FLOORS: &[(u8, &[&str])] = &[
    (0, &["kernel"]),
    (1, &["service", "store"]),
    (2, &["accounts", "console", "gateway", "ingest", "rides", "sim", "tickets"]),
    (3, &["tessera"]),
];
/// Crates for tests and chores: nobody depends on them but in `[dev-dependencies]`.
const DEV_ONLY: &[&str] = &["testkit", "xtask"];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn floor(name: &str) -> Option<u8> {
    FLOORS.iter().find(|(_, names)| names.contains(&name)).map(|(floor, _)| *floor)
}

/// Benchmarks look at whatever they measure.
fn is_bench(name: &str) -> bool {
    name.starts_with("bench-")
}

/// Why a crate may not depend on another, if it may not.
fn objection(from: &str, to: &str) -> Option<String> {
    if is_bench(to) && !(is_bench(from) && to == "bench-common") {
        return Some(format!("{from} depends on {to}; nobody depends on a benchmark"));
    }
    if is_bench(from) {
        return None;
    }
    if DEV_ONLY.contains(&to) {
        return Some(format!("{from} depends on {to}, which is for [dev-dependencies] only"));
    }
    if DEV_ONLY.contains(&from) {
        return (floor(to) != Some(0)).then(|| format!("{from} depends on {to}; it may know only floor 0"));
    }
    match (floor(from), floor(to)) {
        (Some(above), Some(below)) if below < above => None,
        (Some(above), Some(below)) => Some(format!("{from} (floor {above}) depends on {to} (floor {below})")),
        _ => Some(format!("{from} or {to} has no floor; give it one in FLOORS")),
    }
}

#[test]
fn crates_depend_only_on_floors_below() {
    assert!(objection("ingest", "tickets").is_some() && objection("service", "store").is_some());
    assert!(objection("store", "ingest").is_some() && objection("ingest", "testkit").is_some());
    assert!(objection("ingest", "bench-ingest").is_some() && objection("bench-ingest", "ingest").is_none());
    assert!(objection("bench-rides", "bench-tickets").is_some() && objection("bench-rides", "bench-common").is_none());
    assert!(objection("ingest", "store").is_none() && objection("tessera", "ingest").is_none());
    let mut objections = Vec::new();
    for (name, folder) in crates() {
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        let manifest: toml::Table = manifest.parse().unwrap();
        let dependencies = manifest.get("dependencies").and_then(toml::Value::as_table);
        let names = dependencies.into_iter().flat_map(|table| table.keys());
        let ours = names.filter_map(|dependency| dependency.strip_prefix("tessera-"));
        objections.extend(ours.filter_map(|to| objection(&name, to)));
        let known = floor(&name).is_some() || DEV_ONLY.contains(&name.as_str()) || is_bench(&name);
        assert!(known, "crate `{name}` has no floor");
    }
    assert!(objections.is_empty(), "{objections:#?}");
}

/// How far up a room is within its product: a room imports only from rooms further down, and rooms at 1 (the stages and
/// stores, and `config`, `error`, `metrics`) also from each other.
fn height(room: &str) -> u8 {
    match room {
        "domain" => 0,
        "app" => 2,
        "http" | "jobs" => 3,
        "cli" => 4,
        _ => 1,
    }
}

fn may_import(from: &str, to: &str) -> bool {
    from == to || to == "error" || height(to) < height(from) || (height(from) == 1 && height(to) == 1)
}

#[test]
fn rooms_import_only_from_below() {
    assert!(may_import("http", "app") && may_import("app", "store") && may_import("lake", "write"));
    assert!(!may_import("app", "http") && !may_import("store", "app") && !may_import("jobs", "http"));
    assert!(!may_import("domain", "store"));
    assert_eq!(crate_paths("use crate::{app::run, lake};\nfn f() { crate::http::serve() }"), ["app", "lake", "http"]);
    let mut objections = Vec::new();
    let products = crates().into_iter().filter(|(name, _)| floor(name) == Some(2));
    for (_, folder) in products {
        let source = folder.join("src");
        let rooms: BTreeSet<String> = entries(&source).iter().map(|path| stem(path)).collect();
        for file in rust_files(&source) {
            let inside = file.strip_prefix(&source).unwrap();
            let from = stem(Path::new(inside.components().next().unwrap().as_os_str()));
            if matches!(from.as_str(), "lib" | "main" | "bin") {
                continue;
            }
            let imported = crate_paths(&fs::read_to_string(&file).unwrap());
            let bad = imported.iter().filter(|to| rooms.contains(*to) && !may_import(&from, to));
            objections.extend(bad.map(|to| format!("{}: `{from}` imports `{to}`", shown(&file))));
        }
    }
    assert!(objections.is_empty(), "{objections:#?}");
}

/// The rooms that a text names as `crate::room` or in `use crate::{room, …}`.
fn crate_paths(text: &str) -> Vec<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut found = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => found.push(word(rest)),
            Some(group) => {
                let mut depth = 0;
                let mut expecting = true;
                for (at, c) in group.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => expecting = true,
                        c if expecting && c.is_alphabetic() => {
                            found.push(word(&group[at..]));
                            expecting = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    found
}

#[test]
fn every_file_says_what_lives_in_it() {
    let folders = ["crates", "xtask", "bench"].map(|folder| root().join(folder));
    let files: Vec<PathBuf> = folders.iter().flat_map(|folder| rust_files(folder)).collect();
    assert!(files.len() > 20, "the sources were found");
    let silent: Vec<String> = files
        .iter()
        .filter(|file| !fs::read_to_string(file).unwrap().starts_with("//! "))
        .map(|file| shown(file))
        .collect();
    assert!(silent.is_empty(), "these do not open with `//!`: {silent:#?}");
}

#[test]
fn every_error_code_has_its_page() {
    let example =
        "fn code(&self) -> &'static str { match self { A => \"a.b\", B { .. } => \"a.c\" } } fn x() { \"no\" }";
    assert_eq!(codes(example), ["a.b", "a.c"]);
    assert!(codes("fn code(&self) -> &'static str;\nfn status(&self) { \"a.b\" }").is_empty());

    let mut used: BTreeMap<String, String> = BTreeMap::new();
    for file in rust_files(&root().join("crates")).into_iter().filter(|file| is_product_source(file)) {
        let text = fs::read_to_string(&file).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let mut found = codes(text);
        if let Some(listed) = listed_codes(text) {
            found.sort();
            found.dedup();
            let mut listed = listed;
            listed.sort();
            assert_eq!(listed, found, "{}: CODES and code() differ", shown(&file));
        }
        used.extend(found.into_iter().map(|code| (code, shown(&file))));
    }
    let folder = root().join("docs/errors");
    for (code, file) in &used {
        let page = fs::read_to_string(folder.join(format!("{code}.md")))
            .unwrap_or_else(|_| panic!("{file}: error code `{code}` has no page docs/errors/{code}.md"));
        assert!(page.starts_with(&format!("# `{code}`\n")), "docs/errors/{code}.md opens with its code");
    }
    let pages: BTreeSet<String> =
        entries(&folder).iter().filter(|page| !page.ends_with("README.md")).map(|page| stem(page)).collect();
    let orphans: Vec<&String> = pages.iter().filter(|page| !used.contains_key(*page)).collect();
    assert!(orphans.is_empty(), "pages of codes that no code() returns: {orphans:?}");
}

fn is_product_source(file: &Path) -> bool {
    let path = shown(file);
    path.contains("/src/") && !path.ends_with("/tests.rs") && !path.contains("/tests/") && !path.contains("/testkit/")
}

/// The string literals in the bodies of functions called `code`.
fn codes(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("fn code(") {
        let rest = &text[at..];
        let (Some(open), end) = (rest.find('{'), rest.find(';').unwrap_or(rest.len())) else { continue };
        if end < open {
            continue;
        }
        let mut depth = 0;
        let close = rest[open..].char_indices().find_map(|(at, c)| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            (depth == 0).then_some(open + at)
        });
        found.extend(literals(&rest[open..close.unwrap_or(rest.len())]));
    }
    found.retain(|code| code.contains('.'));
    found
}

fn listed_codes(text: &str) -> Option<Vec<String>> {
    let (_, rest) = text.split_once("const CODES:")?;
    let (_, rest) = rest.split_once('=')?;
    Some(literals(rest.split_once(';')?.0))
}

fn literals(text: &str) -> Vec<String> {
    text.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Our crates by the name of their folder; benchmarks, which are called like what they measure, as `bench-…`.
fn crates() -> Vec<(String, PathBuf)> {
    let named = |folder: PathBuf| (stem(&folder), folder);
    let benches = entries(&root().join("bench")).into_iter().map(|folder| (format!("bench-{}", stem(&folder)), folder));
    let mut crates: Vec<_> = entries(&root().join("crates")).into_iter().map(named).chain(benches).collect();
    crates.push(named(root().join("xtask")));
    crates.retain(|(_, folder)| folder.join("Cargo.toml").is_file());
    crates
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in entries(folder) {
        if path.is_dir() && stem(&path) != "target" {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn stem(path: &Path) -> String {
    // Pages are called `<product>.<code>.md`: only the last extension goes.
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}
