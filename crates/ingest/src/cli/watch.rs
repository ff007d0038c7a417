//! A run on the terminal: bars when stderr is one, a line now and then when it is not.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{HumanCount, MultiProgress, ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval};

use super::render::counted;
use crate::app::progress::Progress;
use crate::store::Counts;

const BARS: Duration = Duration::from_millis(200);
const LINES: Duration = Duration::from_secs(10);

/// Shows a run until it is told to finish.
pub struct Watch {
    task: JoinHandle<()>,
    stop: tokio_util::sync::CancellationToken,
}

impl Watch {
    /// Begins to show.
    pub fn start(progress: Arc<Progress>, pipeline: &str) -> Self {
        let stop = tokio_util::sync::CancellationToken::new();
        let (token, name) = (stop.clone(), pipeline.to_owned());
        let task = if std::io::stderr().is_terminal() {
            tokio::spawn(bars(progress, token))
        } else {
            tokio::spawn(lines(progress, name, token))
        };
        Self { task, stop }
    }

    /// Shows the end and clears the screen of bars.
    pub async fn finish(self) {
        self.stop.cancel();
        // A panic while drawing must not fail the run.
        let _ = self.task.await;
    }
}

async fn bars(progress: Arc<Progress>, stop: tokio_util::sync::CancellationToken) {
    let screen = MultiProgress::new();
    let mut shown: BTreeMap<String, ProgressBar> = BTreeMap::new();
    let counted = ProgressStyle::with_template("{prefix:<20!} {bar:24.cyan/dim} {pos:>9}/{len:<9} {msg}");
    let open = ProgressStyle::with_template("{prefix:<20!} {spinner:.cyan} {pos:>32} rows {msg}");
    let (Ok(counted), Ok(open)) = (counted, open) else { return };
    let began = Instant::now();
    let mut tick = interval(BARS);
    loop {
        let last = tokio::select! {
            _ = tick.tick() => false,
            () = stop.cancelled() => true,
        };
        for view in progress.view() {
            let bar = shown.entry(view.name.clone()).or_insert_with(|| {
                let bar = screen.add(ProgressBar::no_length()).with_style(open.clone());
                bar.set_prefix(view.name.clone());
                bar
            });
            if let Some(expected) = view.expected_rows {
                bar.set_style(counted.clone());
                bar.set_length(expected.max(view.rows));
            }
            bar.set_position(view.rows);
            bar.set_message(words(&view, began));
            if view.status == "done" && !bar.is_finished() {
                bar.abandon();
            }
            bar.tick();
        }
        if last {
            shown.values().for_each(ProgressBar::abandon);
            return;
        }
    }
}

async fn lines(progress: Arc<Progress>, pipeline: String, stop: tokio_util::sync::CancellationToken) {
    let began = Instant::now();
    let mut tick = interval(LINES);
    tick.tick().await;
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = stop.cancelled() => return,
        }
        for view in progress.view().iter().filter(|view| view.status == "running") {
            let expected = view.expected_rows.map(|expected| format!(" of {expected}")).unwrap_or_default();
            eprintln!("{pipeline}.{}: {}{expected} {}", view.name, counted(view.rows, "row"), words(view, began));
        }
    }
}

fn words(view: &Counts, began: Instant) -> String {
    let seconds = began.elapsed().as_secs_f64().max(0.001);
    let rate = view.rows as f64 / seconds;
    let mut words = match view.status.as_str() {
        "running" => vec![format!("{}/s", HumanCount(rate as u64)), counted(view.requests, "request")],
        status => vec![status.to_owned(), counted(view.requests, "request")],
    };
    if view.retries > 0 {
        words.push(if view.retries == 1 { "1 retry".into() } else { format!("{} retries", view.retries) });
    }
    if view.throttled > 0 {
        words.push(format!("{} × 429", view.throttled));
    }
    if let (Some(expected), "running", true) = (view.expected_rows, view.status.as_str(), rate > 0.0) {
        let left = expected.saturating_sub(view.rows) as f64 / rate;
        words.push(format!("ETA {}s", left.ceil()));
    }
    words.join(", ")
}
