//! `tessera tickets`: the search index is built anew, whether the service runs or not.

use tessera_tessera::roles;
use tessera_tessera::settings::{self, Flags};
use tessera_testkit::ScratchDir;
use tessera_testkit::bin::{Finished, Process};

use crate::tessera;

fn reindex(data: &str) -> Finished {
    Process::tessera(tessera(), ["tickets", "reindex", "--data", data].iter()).wait()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_index_is_built_anew_here_or_by_who_has_it() {
    let scratch = ScratchDir::new();
    let data = scratch.file("data");
    let data = data.to_str().unwrap();
    let nothing = reindex(data);
    assert_eq!((nothing.code(), nothing.stdout.as_str()), (Some(2), ""), "{nothing:?}");
    assert!(nothing.stderr.contains("tickets.db") && nothing.stderr.contains("data folder"), "{nothing:?}");

    let flags = Flags { data: Some(data.into()), listen: Some("127.0.0.1:0".into()), ..Flags::default() };
    let config = settings::load(&flags, []).unwrap();
    let running = tessera_tessera::up::start(&config, &[roles::find("tickets").unwrap()]).await.unwrap();
    let up = reindex(data);
    assert_eq!((up.code(), up.stderr.as_str()), (Some(0), ""), "{up:?}");
    assert!(up.stdout.contains("each service"), "{up:?}");
    running.stop().await;
    let down = reindex(data);
    assert_eq!((down.code(), down.stderr.as_str()), (Some(0), ""), "{down:?}");
    assert!(down.stdout.contains("built anew"), "{down:?}");
}
