//! Server-sent events over a connection of their own.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use tokio::time::timeout;

use super::{ANSWER_DEADLINE, Ask, Client, chain};
use crate::Error;

/// A stream on which nothing comes for so long is dead: the server says that it is there every ten seconds.
const QUIET: Duration = Duration::from_secs(40);
/// The largest event read.
const MAX_EVENT_BYTES: usize = 1 << 20;

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What sort.
    pub name: String,
    /// What it says.
    pub data: String,
}

/// A stream of events.
pub struct Events {
    body: Incoming,
    unread: BytesMut,
    /// The connection lives as long as it does.
    _connection: SendRequest<Full<Bytes>>,
}

impl Client {
    /// Opens a stream. It takes none of the connections that other calls share.
    ///
    /// # Errors
    /// [`Error::Unanswered`], [`Error::Refused`].
    pub async fn events(&self, ask: &Ask<'_>) -> Result<Events, Error> {
        let unanswered = |reason: String| Error::Unanswered { what: ask.what(), reason };
        let opening = async {
            let request = self.request(ask)?;
            let mut connection = self.connect().await?;
            let response = connection.send_request(request).await.map_err(|error| chain(&error))?;
            Ok((response, connection))
        };
        let opened = timeout(ANSWER_DEADLINE, opening).await.map_err(|_| unanswered("nothing came".into()))?;
        let (response, connection) = opened.map_err(unanswered)?;
        let status = response.status().as_u16();
        if status != 200 {
            return Err(Error::Refused { what: ask.what(), status, detail: String::new() });
        }
        Ok(Events { body: response.into_body(), unread: BytesMut::new(), _connection: connection })
    }
}

impl Events {
    /// The next event; `None` where the stream is over or dead. Nothing is lost where it is given up while waiting.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(at) = self.unread.windows(2).position(|pair| pair == b"\n\n") {
                let block = self.unread.split_to(at + 2);
                match read(&block) {
                    Some(event) => return Some(event),
                    None => continue,
                }
            }
            if self.unread.len() > MAX_EVENT_BYTES {
                return None;
            }
            let frame = timeout(QUIET, self.body.frame()).await.ok()??.ok()?;
            if let Some(data) = frame.data_ref() {
                self.unread.extend_from_slice(data);
            }
        }
    }
}

/// The event of a block; `None` for comments and other signs of life.
fn read(block: &[u8]) -> Option<Event> {
    let text = std::str::from_utf8(block).ok()?;
    let (mut name, mut data) = ("message", None::<String>);
    for line in text.lines() {
        if let Some(value) = line.strip_prefix("event:") {
            name = value.trim();
        } else if let Some(value) = line.strip_prefix("data:") {
            let value = value.strip_prefix(' ').unwrap_or(value);
            match &mut data {
                None => data = Some(value.to_owned()),
                Some(data) => data.extend(["\n", value]),
            }
        }
    }
    data.map(|data| Event { name: name.to_owned(), data })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_events_or_signs_of_life() {
        let event = |name: &str, data: &str| Some(Event { name: name.into(), data: data.into() });
        assert_eq!(read(b"event: ride\ndata: {\"a\":1}\n\n"), event("ride", "{\"a\":1}"));
        assert_eq!(read(b"data:x\ndata: y\n\n"), event("message", "x\ny"));
        assert_eq!((read(b": still here\n\n"), read(b"retry: 1000\n\n"), read(b"\xff\n\n")), (None, None, None));
    }
}
