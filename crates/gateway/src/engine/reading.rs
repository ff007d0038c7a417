//! Reading without a buffer that waits: ten thousand connections may.

use std::io::Result;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, ReadBuf};

const READ_BYTES: usize = 8 << 10;

/// Reads what there is, up to 8 KiB, behind what was read before. Gives how much; 0 at the end.
///
/// # Errors
/// Those of the stream.
pub fn poll_read_some(
    stream: &mut (impl AsyncRead + Unpin),
    cx: &mut Context<'_>,
    read: &mut Bytes,
) -> Poll<Result<usize>> {
    let mut bytes = [MaybeUninit::uninit(); READ_BYTES];
    let mut bytes = ReadBuf::uninit(&mut bytes);
    ready!(Pin::new(stream).poll_read(cx, &mut bytes))?;
    let bytes = bytes.filled();
    *read = if read.is_empty() { Bytes::copy_from_slice(bytes) } else { [read, bytes].concat().into() };
    Poll::Ready(Ok(bytes.len()))
}
