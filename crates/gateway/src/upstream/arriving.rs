//! The body of an answer as it comes from an endpoint. Whoever reads it to its end has given the connection back.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::SendRequest;

use super::pool::{Home, Sender};
use super::wire::Wire;
use crate::engine::{Body, BoxError};

/// The body. Dropped before its end, it closes a connection that others could not share.
#[derive(Debug)]
pub struct Arriving(From);

#[derive(Debug)]
enum From {
    /// All of it came with the head.
    Whole(Bytes),
    /// The rest is to come on this connection.
    Wire(Option<(Box<Wire>, Home)>),
    /// It broke off before its end.
    Cut,
    /// The library reads it.
    Library(Incoming, Option<(SendRequest<Body>, Home)>),
}

impl Arriving {
    /// On a connection on which the head of the answer was read.
    pub(crate) fn on_wire(mut wire: Box<Wire>, home: Home) -> Self {
        let Some(whole) = wire.whole() else { return Self(From::Wire(Some((wire, home)))) };
        keep(wire, home);
        Self(From::Whole(whole))
    }

    /// One that the library reads, with the connection that is to be kept behind it.
    pub(crate) fn by_library(incoming: Incoming, kept: Option<(SendRequest<Body>, Home)>) -> Self {
        Self(From::Library(incoming, kept))
    }

    /// Gives the connection of the library back where all of it was read.
    fn settle(&mut self) {
        if let From::Library(incoming, kept) = &mut self.0
            && incoming.is_end_stream()
            && let Some((sender, home)) = kept.take()
            && !sender.is_closed()
        {
            home.keep(Sender::Http1(sender));
        }
    }
}

fn keep(wire: Box<Wire>, home: Home) {
    if wire.is_idle() {
        home.keep(Sender::Wire(wire));
    }
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            From::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            From::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            From::Wire(connection) => {
                let Some((wire, _)) = connection else { return Poll::Ready(None) };
                let frame = ready!(wire.poll_frame(cx));
                if wire.is_over()
                    && let Some((wire, home)) = connection.take()
                {
                    keep(wire, home);
                }
                if matches!(frame, Some(Err(_))) {
                    self.0 = From::Cut;
                }
                Poll::Ready(frame.map(|frame| frame.map_err(BoxError::from)))
            }
            From::Cut => Poll::Ready(None),
            From::Library(incoming, _) => {
                let frame = ready!(Pin::new(incoming).poll_frame(cx));
                if frame.is_none() {
                    self.settle();
                }
                Poll::Ready(frame.map(|frame| frame.map_err(BoxError::from)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            From::Whole(bytes) => bytes.is_empty(),
            From::Wire(connection) => connection.is_none(),
            From::Cut => false,
            From::Library(incoming, _) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            From::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            From::Wire(connection) => {
                let length = connection.as_ref().map_or(Some(0), |(wire, _)| wire.length());
                length.map_or_else(SizeHint::default, SizeHint::with_exact)
            }
            From::Cut => SizeHint::default(),
            From::Library(incoming, _) => incoming.size_hint(),
        }
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.settle();
    }
}
