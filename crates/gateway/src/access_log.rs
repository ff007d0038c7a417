//! Lines of the access log: each worker gathers its own and hands them over in pages; one thread writes them.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use crate::Error;
use crate::metrics::Metrics;
use crate::spec::AccessLog;

/// Pages that wait for the writer. A disk that is slower than that costs lines, not requests.
const MOST_PAGES: usize = 256;
/// Between looks whether a full queue has room again.
const FINISH_PAUSE: Duration = Duration::from_millis(5);
/// A page is handed over when it has this much.
pub const PAGE_BYTES: usize = 32 << 10;

/// Where lines go.
#[derive(Debug)]
pub struct Sink {
    /// What the config file says.
    pub spec: AccessLog,
    pages: SyncSender<Page>,
    metrics: Metrics,
}

/// What the thread that writes is told.
#[derive(Debug)]
enum Page {
    /// Write these lines.
    Lines(String),
    /// Say when all before this are written.
    Told(SyncSender<()>),
}

impl Sink {
    /// Opens the file, and starts the thread that writes. It ends when the sink is dropped.
    ///
    /// # Errors
    /// [`Error::Config`] without a place where the file cannot be opened.
    pub fn open(spec: &AccessLog, folder: &Path, metrics: &Metrics) -> Result<Self, Error> {
        let wrong = |detail: String| Error::Config { place: String::new(), detail };
        let file = spec.file.as_ref().map(|path| {
            let path = folder.join(path);
            let opened = OpenOptions::new().append(true).create(true).open(&path);
            opened.map_err(|error| wrong(format!("the access log `{}` cannot be opened: {error}", path.display())))
        });
        let file = file.transpose()?;
        let (pages, written) = sync_channel(MOST_PAGES);
        let thread = std::thread::Builder::new().name("access-log".into());
        thread
            .spawn(move || write(file, written))
            .map_err(|error| wrong(format!("no thread for the access log: {error}")))?;
        Ok(Self { spec: spec.clone(), pages, metrics: metrics.clone() })
    }

    /// Hands a page over; where too many wait its lines are lost and counted.
    pub fn write(&self, page: String) {
        if let Err(TrySendError::Full(Page::Lines(page)) | TrySendError::Disconnected(Page::Lines(page))) =
            self.pages.try_send(Page::Lines(page))
        {
            self.metrics.log_lost.inc_by(page.bytes().filter(|byte| *byte == b'\n').count() as u64);
        }
    }

    /// Waits until all pages are written, or for so long. Gives whether they are. It blocks the thread.
    pub fn finish(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        let (say, told) = sync_channel(1);
        let mut page = Page::Told(say);
        loop {
            match self.pages.try_send(page) {
                Ok(()) => return told.recv_timeout(until.saturating_duration_since(Instant::now())).is_ok(),
                Err(TrySendError::Full(back)) if Instant::now() < until => page = back,
                Err(_) => return false,
            }
            std::thread::sleep(FINISH_PAUSE);
        }
    }
}

fn write(mut file: Option<File>, pages: Receiver<Page>) {
    let mut is_failing = false;
    for page in pages {
        let page = match page {
            Page::Lines(page) => page,
            Page::Told(told) => {
                let _ = told.try_send(());
                continue;
            }
        };
        let written = match &mut file {
            Some(file) => file.write_all(page.as_bytes()),
            None => std::io::stdout().lock().write_all(page.as_bytes()),
        };
        match written {
            Ok(()) => is_failing = false,
            Err(error) if !is_failing => {
                tracing::error!(%error, "the access log cannot be written");
                is_failing = true;
            }
            Err(_) => {}
        }
    }
}
