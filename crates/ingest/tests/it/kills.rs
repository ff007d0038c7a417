//! Killed, paused and contending processes: every row exactly once, whatever happens.

use std::path::Path;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tessera_ingest::demo_api::Options;
use tessera_testkit::ScratchDir;

use crate::support::{Shop, files_below, finish, pipeline, present, rows_of, snapshot, start};

const KILLS: u32 = 200;
const AT_ONCE: u32 = 4;
const ORDERS: u64 = 240;

/// Four kinds of paging, children, small files, frequent checkpoints.
pub fn shop_yaml(base: &str, lake: &str) -> String {
    format!(
        "version: 1
name: shop
source: {{ base_url: \"{base}\", concurrency: 4 }}
defaults: {{ primary_key: [id] }}
resources:
  - name: orders
    path: /orders
    paginator: {{ type: page, size_param: per_page, size: 20 }}
    records: data
    total: total
    incremental: {{ cursor: updated_at, param: updated_since }}
  - {{ name: order_items, path: \"/orders/{{orders.id}}/items\" }}
  - name: payments
    path: /payments
    paginator: {{ type: cursor, param: cursor, next: next_cursor, size_param: limit, size: 20 }}
    records: data
    incremental: {{ cursor: created_at, param: created_since }}
  - name: refunds
    path: /refunds
    paginator: {{ type: next_url, next: next, size_param: limit, size: 5 }}
    records: results
    incremental: {{ cursor: created_at, param: created_since }}
    write: append
  - {{ name: products, path: /products, paginator: {{ type: offset, limit: 7 }}, records: items, total: count }}
destination: {{ url: \"{lake}\", checkpoint: 100ms, chunk: {{ rows: 100 }} }}
"
    )
}

const TABLES: [&str; 5] = ["orders", "order_items", "payments", "refunds", "products"];

pub fn assert_all_there(shop: &Shop, yaml: &str) {
    let loaded = pipeline(yaml);
    TABLES.into_iter().for_each(|table| shop.assert_copied(&loaded, table));
}

#[test]
fn two_hundred_kills_and_every_row_is_there_once() {
    let seed: u64 = std::env::var("KILL_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(rand::random);
    println!("KILL_SEED={seed}");
    let workers: Vec<_> = (0..AT_ONCE)
        .map(|worker| std::thread::spawn(move || kill_and_resume(seed.wrapping_add(u64::from(worker)))))
        .collect();
    let resumed: u32 = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
    assert!(resumed > 0, "no run was ever resumed: the kills came before the first checkpoint");
}

/// A share of the kills, in a lake of its own. Gives how many runs went on with an interrupted one.
fn kill_and_resume(seed: u64) -> u32 {
    let mut random = StdRng::seed_from_u64(seed);
    let shop =
        Shop::open(Options { orders: ORDERS, products: 30, latency: Duration::from_millis(4), ..Options::default() });
    let scratch = ScratchDir::new();
    let yaml = shop_yaml(shop.base(), scratch.file("lake").to_str().unwrap());
    let file = scratch.write("shop.yaml", &yaml);
    let progress = scratch.file("lake/shop/_tessera/progress");
    let (mut kills, mut resumed) = (0, 0);
    while kills < KILLS / AT_ONCE {
        let run = start(&file, &["--run-type", "backfill"], &[]);
        if random.random_ratio(1, 4) {
            // On a slow machine all moments drawn below may come before the first checkpoint.
            comes(&progress, 200, |_| true);
        }
        std::thread::sleep(Duration::from_millis(random.random_range(20..300)));
        run.signal("KILL");
        let ended = run.wait();
        match ended.code() {
            None => kills += 1,
            code => assert_eq!(code, Some(0), "{}", ended.stderr),
        }
        if ended.code().is_some() || random.random_ratio(1, 12) {
            let ended = finish(&file, &["--run-type", "backfill"], &[]);
            assert_eq!(ended.code(), Some(0), "seed {seed}: {}", ended.stderr);
            resumed += u32::from(ended.stderr.contains("resumed"));
            assert_all_there(&shop, &yaml);
        }
    }
    let ended = finish(&file, &["--run-type", "backfill"], &[]);
    assert_eq!(ended.code(), Some(0), "seed {seed}: {}", ended.stderr);
    assert_all_there(&shop, &yaml);
    // Nothing of the killed runs is left.
    for folder in ["staging", "progress"] {
        let left = files_below(&scratch.file("lake/shop/_tessera").join(folder));
        assert!(left.is_empty(), "seed {seed}: {left:?}");
    }
    resumed
}

/// The store's own name of a file that is not complete is not listed, so a folder with nothing else is not seen.
#[test]
fn a_run_killed_in_its_first_write_leaves_nothing() {
    let shop = Shop::open(Options { orders: 10, products: 3, ..Options::default() });
    let scratch = ScratchDir::new();
    let yaml = shop_yaml(shop.base(), scratch.file("lake").to_str().unwrap());
    let file = scratch.write("shop.yaml", &yaml);
    let progress = scratch.file("lake/shop/_tessera/progress");
    let killed = progress.join("run_01a1fdf36b747272bcc520ab529174f8");
    std::fs::create_dir_all(&killed).unwrap();
    std::fs::write(killed.join("000000000001.json#1"), "{").unwrap();
    let ended = finish(&file, &["--run-type", "backfill"], &[]);
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    assert_all_there(&shop, &yaml);
    let left = files_below(&progress);
    assert!(left.is_empty(), "{left:?}");
}

/// Waits until a file below the folder appears that the test accepts.
pub fn wait_for_file(folder: &Path, accept: impl Fn(&Path) -> bool) {
    assert!(comes(folder, 6_000, accept), "nothing came below {}", folder.display());
}

/// Whether one appears while it is looked for so often, every 5 ms.
fn comes(folder: &Path, looks: usize, accept: impl Fn(&Path) -> bool) -> bool {
    (0..looks).any(|_| {
        let is_there = files_below(folder).iter().any(|path| accept(path));
        if !is_there {
            std::thread::sleep(Duration::from_millis(5));
        }
        is_there
    })
}

#[test]
fn a_paused_process_whose_lease_was_taken_over_changes_nothing() {
    let shop = Shop::small(400);
    shop.faults("slow_every=1,slow_ms=40");
    let scratch = ScratchDir::new();
    let lake = scratch.file("lake");
    let yaml = shop_yaml(shop.base(), lake.to_str().unwrap());
    let file = scratch.write("shop.yaml", &yaml);
    let paused = start(&file, &["--run-type", "backfill"], &[]);
    wait_for_file(&lake.join("shop/_tessera/progress"), |path| path.ends_with("000000000003.json"));
    paused.signal("STOP");
    // Its lease ends sooner than it believes, so that the test need not wait half a minute.
    let locks = files_below(&lake.join("shop/_tessera/lock"));
    let text = std::fs::read_to_string(locks.last().unwrap()).unwrap();
    std::fs::write(locks.last().unwrap(), text.replace("30000", "300")).unwrap();

    shop.faults("none");
    let second = finish(&file, &["--run-type", "backfill"], &[]);
    assert_eq!(second.code(), Some(0), "{}", second.stderr);
    assert!(second.stderr.contains("resumed"), "{}", second.stderr);
    assert_all_there(&shop, &yaml);
    let counts = |path: &Path| !path.to_str().unwrap().contains("/_tessera/");
    let data = |lake: &Path| snapshot(lake).into_iter().filter(|(path, _)| counts(path)).collect::<Vec<_>>();
    let (before, number) = (data(&lake), present(&pipeline(&yaml)).number);

    paused.signal("CONT");
    let ended = paused.wait();
    assert_eq!(ended.code(), Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("another process") || ended.stderr.contains("another run"), "{}", ended.stderr);
    assert!(data(&lake) == before, "the paused process changed the data");
    assert_eq!(present(&pipeline(&yaml)).number, number);
    let again = finish(&file, &["--run-type", "incremental"], &[]);
    assert_eq!(again.code(), Some(0), "{}", again.stderr);
    assert_all_there(&shop, &yaml);
}

#[test]
fn two_runs_of_one_pipeline_exclude_each_other() {
    let shop = Shop::small(400);
    shop.faults("slow_every=1,slow_ms=200");
    let scratch = ScratchDir::new();
    let lake = scratch.file("lake");
    let yaml = shop_yaml(shop.base(), lake.to_str().unwrap());
    let file = scratch.write("shop.yaml", &yaml);
    let first = start(&file, &["--run-type", "backfill"], &[]);
    wait_for_file(&lake.join("shop/_tessera/progress"), |_| true);
    let begun = std::fs::read_dir(lake.join("shop/_tessera/progress")).unwrap().next().unwrap().unwrap();
    let second = finish(&file, &[], &[]);
    assert_eq!(second.code(), Some(1), "{}", second.stderr);
    let holder = begun.file_name().into_string().unwrap();
    assert!(second.stderr.contains("is being written by") && second.stderr.contains(&holder), "{}", second.stderr);
    assert!(second.stderr.contains("ingest.locked"), "{}", second.stderr);
    shop.faults("none");
    assert_eq!(first.wait().code(), Some(0));
    assert_all_there(&shop, &yaml);
}

#[test]
fn a_stop_saves_progress_and_the_next_run_goes_on() {
    let shop = Shop::small(600);
    shop.faults("slow_every=1,slow_ms=20");
    let scratch = ScratchDir::new();
    let lake = scratch.file("lake");
    let yaml = shop_yaml(shop.base(), lake.to_str().unwrap());
    let file = scratch.write("shop.yaml", &yaml);
    let progress = lake.join("shop/_tessera/progress");
    for signal in ["TERM", "INT"] {
        let before = files_below(&progress);
        let run = start(&file, &["--run-type", "backfill"], &[]);
        wait_for_file(&progress, |path| !before.contains(&path.to_owned()) && !path.ends_with("000000000001.json"));
        run.signal(signal);
        let ended = run.wait();
        assert_eq!(ended.code(), Some(1), "{}", ended.stderr);
        assert!(ended.stderr.contains("the next run goes on"), "{}", ended.stderr);
    }
    shop.faults("none");
    let ended = finish(&file, &["--run-type", "backfill"], &[]);
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("resumed"), "{}", ended.stderr);
    assert_all_there(&shop, &yaml);
}

#[test]
fn a_crash_between_the_commit_and_its_publication_is_made_good() {
    let shop = Shop::small(300);
    let scratch = ScratchDir::new();
    let lake = scratch.file("lake");
    let yaml = shop_yaml(shop.base(), lake.to_str().unwrap());
    let file = scratch.write("shop.yaml", &yaml);
    assert_eq!(finish(&file, &["--run-type", "backfill"], &[]).code(), Some(0));
    let loaded = pipeline(&yaml);
    let dataset = lake.join("shop");
    let before = snapshot(&dataset);
    assert_eq!(finish(&file, &["--run-type", "backfill"], &[]).code(), Some(0));
    let manifest = std::fs::read_to_string(dataset.join("_tessera/log/000000000002.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let run = manifest["run_id"].as_str().unwrap();
    // Back to the moment after the manifest was created: files staged, the replaced ones still there, the hint old.
    let mut moved = 0;
    for commit in manifest["resources"].as_object().unwrap().values() {
        for (number, added) in commit["added"].as_array().unwrap().iter().enumerate() {
            let path = added["path"].as_str().unwrap();
            let staged = dataset.join("_tessera/staging").join(run).join(path);
            std::fs::create_dir_all(staged.parent().unwrap()).unwrap();
            // Every other file had been moved already.
            if number % 2 == 0 {
                std::fs::rename(dataset.join(path), staged).unwrap();
                moved += 1;
            }
        }
        for removed in commit["removed"].as_array().unwrap() {
            let path = dataset.join(removed.as_str().unwrap());
            std::fs::write(&path, &before[&path]).unwrap();
        }
    }
    assert!(moved > 0);
    std::fs::write(dataset.join("_tessera/last.json"), "1").unwrap();
    let ended = finish(&file, &["--run-type", "incremental"], &[]);
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    assert_all_there(&shop, &yaml);
    assert_eq!(rows_of(&loaded, "orders", &["id"]).len(), 300);
    assert!(files_below(&dataset.join("_tessera/staging")).is_empty());
}
