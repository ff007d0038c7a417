//! Bytes from the encoder's thread to the lake, in parts, with their checksum.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tessera_store::objects::Objects;
use tokio::sync::mpsc;

use crate::Error;

/// Parts are at least this large; S3 asks for 5 MiB.
const PART: usize = 8 << 20;

/// What the encoder writes to.
pub(super) struct Sink {
    buffer: Vec<u8>,
    hash: Sha256,
    bytes: u64,
    counter: Arc<AtomicU64>,
    parts: mpsc::Sender<Part>,
}

pub(super) enum Part {
    More(Bytes),
    Last(Bytes),
}

/// A sink, and where its parts come out.
pub(super) fn pipe() -> (Sink, mpsc::Receiver<Part>) {
    let (parts, out) = mpsc::channel(1);
    let sink = Sink { buffer: Vec::new(), hash: Sha256::new(), bytes: 0, counter: Arc::default(), parts };
    (sink, out)
}

impl Sink {
    pub(super) fn counter(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.counter)
    }

    fn gone() -> io::Error {
        io::Error::new(io::ErrorKind::BrokenPipe, "the upload stopped")
    }

    /// Hands over what is left; gives size and checksum.
    pub(super) fn finish(mut self) -> io::Result<(u64, String)> {
        let last = std::mem::take(&mut self.buffer);
        self.parts.blocking_send(Part::Last(last.into())).map_err(|_| Self::gone())?;
        let hash = self.hash.finalize();
        Ok((self.bytes, hash.iter().map(|byte| format!("{byte:02x}")).collect()))
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        self.counter.fetch_max(self.bytes, Ordering::Relaxed);
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PART {
            let part = std::mem::take(&mut self.buffer);
            self.parts.blocking_send(Part::More(part.into())).map_err(|_| Self::gone())?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Uploads parts until the last; a file that was given up is aborted and leaves nothing.
pub(super) async fn upload(objects: Objects, path: String, mut parts: mpsc::Receiver<Part>) -> Result<(), Error> {
    let first = match parts.recv().await {
        None => return Ok(()),
        Some(Part::Last(whole)) => return Ok(objects.put(&path, whole).await?),
        Some(Part::More(first)) => first,
    };
    let mut upload = objects.upload(&path).await?;
    let mut next = Some(Part::More(first));
    let outcome = loop {
        let (bytes, last) = match next {
            Some(Part::More(bytes)) => (bytes, false),
            Some(Part::Last(bytes)) => (bytes, true),
            None => break Ok(false),
        };
        if !bytes.is_empty()
            && let Err(error) = upload.put_part(bytes.into()).await
        {
            break Err(error);
        }
        if last {
            break upload.complete().await.map(|_| true);
        }
        next = parts.recv().await;
    };
    match outcome {
        Ok(true) => Ok(objects.flush(&path)?),
        Ok(false) => {
            // Given up by us: nothing is lost if the store cannot be told.
            let _ = upload.abort().await;
            Ok(())
        }
        Err(error) => {
            let _ = upload.abort().await;
            Err(objects.upload_failed(&path, error).into())
        }
    }
}
