//! What a client sends, whatever it comes over.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use super::{BoxError, Flow};

/// What a client sends.
#[derive(Debug)]
pub enum Incoming {
    /// Nothing: that was known from the head.
    Nothing,
    /// Over HTTP/1 and HTTP/2.
    Hyper(hyper::body::Incoming),
    /// Over HTTP/3.
    Flow(Flow),
}

impl From<hyper::body::Incoming> for Incoming {
    fn from(incoming: hyper::body::Incoming) -> Self {
        Self::Hyper(incoming)
    }
}

impl HttpBody for Incoming {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Nothing => Poll::Ready(None),
            Self::Hyper(incoming) => Pin::new(incoming).poll_frame(cx).map_err(BoxError::from),
            Self::Flow(flow) => flow.0.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Hyper(incoming) => incoming.is_end_stream(),
            Self::Flow(flow) => flow.0.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Nothing => SizeHint::with_exact(0),
            Self::Hyper(incoming) => incoming.size_hint(),
            Self::Flow(flow) => flow.0.size_hint(),
        }
    }
}
