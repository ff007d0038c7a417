//! Room that was used and is used again: what each request needs twice and is too large for the allocator's fast path.

use std::cell::RefCell;
use std::io::Result;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use tokio::io::AsyncRead;
use tokio_util::io::poll_read_buf;

/// The most room for a head that is kept.
const MOST_PAGE_BYTES: usize = 64 << 10;
/// Maps that are kept, and the most headers that one of them has room for.
const MOST_MAPS: usize = 64;
const MOST_LINES: usize = 64;
/// Headers that a new map has room for.
const LINES: usize = 24;

/// Answers are read into pieces of so many bytes, each of which is there until the last answer in it is gone;
const ARENA_BYTES: usize = 32 << 10;
/// and one reading has room for this much at least.
const READ_BYTES: usize = 8 << 10;

/// A worker's spare room.
#[derive(Debug)]
pub struct Spare {
    page: RefCell<Vec<u8>>,
    maps: RefCell<Vec<HeaderMap>>,
    arena: RefCell<BytesMut>,
}

impl Default for Spare {
    fn default() -> Self {
        let arena = BytesMut::with_capacity(ARENA_BYTES).into();
        Self { page: RefCell::default(), maps: RefCell::default(), arena }
    }
}

impl Spare {
    /// Room to write a head in.
    pub fn page(&self) -> Vec<u8> {
        self.page.take()
    }

    /// Keeps it for the next one.
    pub fn keep_page(&self, mut page: Vec<u8>) {
        page.clear();
        if page.capacity() <= MOST_PAGE_BYTES {
            self.page.replace(page);
        }
    }

    /// Reads what there is, behind what was read before. Gives how much; 0 at the end. For what is soon gone: others' bytes
    /// are in the same piece.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn poll_read(
        &self,
        stream: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
        read: &mut Bytes,
    ) -> Poll<Result<usize>> {
        let mut arena = self.arena.borrow_mut();
        arena.reserve(READ_BYTES);
        let count = ready!(poll_read_buf(Pin::new(stream), cx, &mut *arena))?;
        let bytes = arena.split().freeze();
        *read = if read.is_empty() { bytes } else { [read.as_ref(), &bytes].concat().into() };
        Poll::Ready(Ok(count))
    }

    /// A map without headers.
    pub fn map(&self) -> HeaderMap {
        self.maps.borrow_mut().pop().unwrap_or_else(|| HeaderMap::with_capacity(LINES))
    }

    /// Keeps a map that nobody needs any more.
    pub fn keep_map(&self, mut map: HeaderMap) {
        let mut maps = self.maps.borrow_mut();
        if maps.len() < MOST_MAPS && (LINES..=MOST_LINES).contains(&map.capacity()) {
            map.clear();
            maps.push(map);
        }
    }
}
