//! An answer on its way into the cache: it is read as fast as the upstream sends it, whatever the caller does, so that
//! others wait for the upstream only, and not for a slow caller.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use crate::cache::{Flight, Key, Landing, Store, Stored};
use crate::engine::{BoxError, Flow, Held, Source};

/// An answer that is to be kept.
pub(super) struct Filling {
    pub(super) store: Arc<Store>,
    pub(super) key: Key,
    /// All but its body.
    pub(super) stored: Stored,
    /// The largest body that is kept.
    pub(super) most_bytes: u64,
    /// How long the upstream may say nothing.
    pub(super) idle_timeout: Duration,
    /// Who waits for it.
    pub(super) flight: Option<Flight>,
    /// What counts its upstream as busy.
    pub(super) held: Held,
}

/// What the caller's side gets of the reading side. Its queue is bounded by `most_bytes`: what comes after that is read by
/// the caller's side itself.
enum Piece {
    Data(Bytes),
    Trailers(http::HeaderMap),
    /// It turned out too large to be kept.
    Rest(Box<Source>, Held),
    Broken(String),
    End,
}

/// Reads an answer into the cache; gives what the caller gets of it.
pub(super) fn fill(
    filling: Filling,
    incoming: Source,
    spawn: impl FnOnce(Pin<Box<dyn Future<Output = ()>>>),
) -> Source {
    let left = incoming.size_hint().exact();
    let (sender, receiver) = unbounded_channel();
    spawn(Box::pin(read(filling, incoming, sender)));
    Source::Flow(Flow(Box::pin(Filled { receiver, rest: None, left, is_over: left == Some(0) })))
}

async fn read(filling: Filling, mut incoming: Source, caller: UnboundedSender<Piece>) {
    let Filling { store, key, mut stored, most_bytes, idle_timeout, flight, held } = filling;
    // Where the caller has gone, the answer is read for those to come.
    let tell = |piece| drop(caller.send(piece));
    let mut pieces: Vec<Bytes> = Vec::new();
    let mut length = 0;
    let mut is_plain = true;
    loop {
        let frame = match timeout(idle_timeout, incoming.frame()).await {
            Err(_) => return tell(Piece::Broken("the answer said nothing for too long".into())),
            Ok(Some(Err(error))) => return tell(Piece::Broken(error.to_string())),
            Ok(Some(Ok(frame))) => frame,
            Ok(None) => break,
        };
        match frame.into_data() {
            Ok(data) => {
                length += data.len() as u64;
                pieces.push(data.clone());
                tell(Piece::Data(data));
            }
            Err(frame) => {
                // Trailers are not kept, and an answer without its own would be another.
                is_plain = false;
                if let Ok(trailers) = frame.into_trailers() {
                    tell(Piece::Trailers(trailers));
                }
            }
        }
        if length > most_bytes {
            return tell(Piece::Rest(Box::new(incoming), held));
        }
    }
    if is_plain {
        stored.body = joined(&pieces, length as usize);
        store.keep(key, Arc::new(stored));
        if let Some(flight) = flight {
            flight.land(Landing::Kept);
        }
    }
    tell(Piece::End);
}

/// Copied, so that what is kept does not hold the buffers it came in.
fn joined(pieces: &[Bytes], length: usize) -> Bytes {
    let mut whole = BytesMut::with_capacity(length);
    pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
    whole.freeze()
}

/// What the caller gets.
struct Filled {
    receiver: UnboundedReceiver<Piece>,
    rest: Option<(Box<Source>, Held)>,
    /// Bytes to come, where the upstream announced them.
    left: Option<u64>,
    is_over: bool,
}

impl HttpBody for Filled {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            if self.is_over {
                return Poll::Ready(None);
            }
            if let Some((incoming, _)) = &mut self.rest {
                return Pin::new(incoming.as_mut()).poll_frame(cx);
            }
            match futures::ready!(self.receiver.poll_recv(cx)) {
                Some(Piece::Data(data)) => {
                    self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Piece::Trailers(trailers)) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                Some(Piece::Rest(incoming, held)) => self.rest = Some((incoming, held)),
                Some(Piece::End) => self.is_over = true,
                Some(Piece::Broken(reason)) => return Poll::Ready(Some(Err(reason.into()))),
                None => return Poll::Ready(Some(Err("the answer broke off".into()))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.left == Some(0) || self.rest.as_ref().is_some_and(|(incoming, _)| incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.rest {
            Some((incoming, _)) => incoming.size_hint(),
            None => self.left.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
