//! What a caller sends, read whole into memory, for phases that must see all of it.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use serde_json::Value;

use super::{Exchange, forward};
use crate::Error;
use crate::engine::Incoming;
use crate::snapshot::Route;

/// The whole body, under the route's limit.
///
/// # Errors
/// [`Error::BodyTooLarge`], [`Error::BadCoding`], [`Error::SlowClient`].
pub(super) async fn whole(exchange: &mut Exchange, route: &Route, incoming: Incoming) -> Result<Bytes, Error> {
    if incoming.is_end_stream() {
        return Ok(Bytes::new());
    }
    let mut body = forward::upload(exchange, route, incoming, false)?;
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return Err(exchange.record.upload_fault().unwrap_or(Error::SlowClient));
        };
        if let Ok(data) = frame.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.freeze())
}

/// The whole body as JSON; null where there is none.
///
/// # Errors
/// As [`whole`], and [`Error::NotJson`].
pub(super) async fn json(exchange: &mut Exchange, route: &Route, incoming: Incoming) -> Result<Value, Error> {
    parse(&whole(exchange, route, incoming).await?)
}

/// JSON; null where there is nothing.
///
/// # Errors
/// [`Error::NotJson`] with line and column.
pub(super) fn parse(body: &[u8]) -> Result<Value, Error> {
    if body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(body).map_err(|error| Error::NotJson { line: error.line(), column: error.column() })
}
