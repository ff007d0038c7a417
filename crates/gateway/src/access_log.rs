//! Lines of the access log: each worker gathers its own and hands them over in pages; one thread writes them.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::Error;
use crate::metrics::Metrics;
use crate::spec::AccessLog;

/// Pages that wait for the writer. A disk that is slower than that costs lines, not requests.
const MOST_PAGES: usize = 256;
/// A page is handed over when it has this much.
pub const PAGE_BYTES: usize = 32 << 10;

/// Where lines go.
#[derive(Debug)]
pub struct Sink {
    /// What the config file says.
    pub spec: AccessLog,
    pages: SyncSender<String>,
    metrics: Metrics,
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
        if let Err(error) = self.pages.try_send(page) {
            let page = match error {
                std::sync::mpsc::TrySendError::Full(page) | std::sync::mpsc::TrySendError::Disconnected(page) => page,
            };
            self.metrics.log_lost.inc_by(page.bytes().filter(|byte| *byte == b'\n').count() as u64);
        }
    }
}

fn write(mut file: Option<File>, pages: Receiver<String>) {
    let mut is_failing = false;
    for page in pages {
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
