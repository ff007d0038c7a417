//! A stream of messages as lines of JSON or as server-sent events, message by message as they come.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::Frame;
use prost_reflect::MessageDescriptor;
use serde_json::json;

use super::frame::{Messages, Next};
use super::message::{answer_json, as_text};
use super::status::Status;

/// How a stream is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A line of JSON for each message.
    Lines,
    /// A server-sent event for each.
    Events,
}

/// A stream on its way to the caller.
#[derive(Debug)]
pub struct Transcoded {
    messages: Messages,
    output: MessageDescriptor,
    part: Option<String>,
    all_fields: bool,
    form: Form,
    /// The first message, which was waited for.
    first: Option<Bytes>,
    is_over: bool,
    /// Why it ended before its end.
    pub(crate) broken: Option<String>,
}

/// The first thing that a stream says.
#[derive(Debug)]
pub(crate) enum First {
    /// A message, or an end without one.
    Begun,
    /// It failed before any message.
    Failed(Status),
}

impl Transcoded {
    /// Of an answer that has begun.
    pub(crate) fn new(
        messages: Messages,
        output: MessageDescriptor,
        part: Option<String>,
        all_fields: bool,
        form: Form,
    ) -> Self {
        Self { messages, output, part, all_fields, form, first: None, is_over: false, broken: None }
    }

    /// Waits for the first message or the end, so that what fails at once has a status of its own.
    ///
    /// # Errors
    /// A stream that breaks off.
    pub(crate) async fn begin(&mut self) -> Result<First, String> {
        match self.messages.next().await? {
            Next::Message(message) => self.first = Some(message),
            Next::End(status) => {
                self.is_over = true;
                if status.code != 0 {
                    return Ok(First::Failed(status));
                }
            }
        }
        Ok(First::Begun)
    }

    /// Whether there is nothing more.
    pub(crate) fn is_end(&self) -> bool {
        self.is_over && self.first.is_none()
    }

    /// The next piece for the caller.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(self.written(first)));
        }
        if self.is_over {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(self.messages.poll_next(cx)) {
            Ok(Next::Message(message)) => Some(self.written(message)),
            Ok(Next::End(status)) if status.code == 0 => {
                self.is_over = true;
                None
            }
            Ok(Next::End(status)) => Some(self.ended(&status)),
            Err(reason) => Some(self.failed(reason)),
        })
    }

    fn written(&mut self, message: Bytes) -> Frame<Bytes> {
        match answer_json(&self.output, message, self.part.as_deref(), self.all_fields) {
            Ok((bytes, None)) => self.piece(None, &bytes),
            Ok((bytes, Some(_))) => self.piece(None, &Bytes::from(json!(as_text(&bytes)).to_string())),
            Err(reason) => self.failed(reason),
        }
    }

    fn failed(&mut self, reason: String) -> Frame<Bytes> {
        self.broken = Some(reason);
        self.ended(&Status::new(13, "the service's answer broke off"))
    }

    /// What ends a stream that did not go well: the caller has a good status already.
    fn ended(&mut self, status: &Status) -> Frame<Bytes> {
        self.is_over = true;
        let mut error = json!({ "error": { "code": status.code, "status": status.name(), "message": status.message } });
        let details = status.details(self.output.parent_pool());
        if !details.is_empty() {
            error["error"]["details"] = details.into();
        }
        self.piece(Some("error"), &Bytes::from(error.to_string()))
    }

    fn piece(&self, event: Option<&str>, data: &Bytes) -> Frame<Bytes> {
        let mut text = Vec::with_capacity(data.len() + 16);
        match self.form {
            Form::Lines => {
                text.extend_from_slice(data);
                text.push(b'\n');
            }
            Form::Events => {
                if let Some(event) = event {
                    text.extend_from_slice(format!("event: {event}\n").as_bytes());
                }
                // JSON is written without line ends.
                text.extend_from_slice(b"data: ");
                text.extend_from_slice(data);
                text.extend_from_slice(b"\n\n");
            }
        }
        Frame::data(Bytes::from(text))
    }
}
