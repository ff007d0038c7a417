//! Extractors whose refusals are problems that name the field.

use std::error::Error as StdError;

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::problem::Problem;
use crate::Error;

/// The longest `Idempotency-Key` taken.
const MAX_KEY_BYTES: usize = 255;

/// A JSON body, in or out.
#[derive(Clone, Copy, Debug)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match axum::Json::<T>::from_request(request, state).await {
            Ok(axum::Json(value)) => Ok(Self(value)),
            Err(JsonRejection::MissingJsonContentType(_)) => Err(Error::NotJson.into()),
            Err(rejection) if rejection.status() == http::StatusCode::PAYLOAD_TOO_LARGE => {
                Err(Error::BodyTooLarge.into())
            }
            Err(rejection) => Err(bad("body", &rejection)),
        }
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// The query string.
#[derive(Clone, Copy, Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        query.map(|query| Self(query.0)).map_err(|rejection: QueryRejection| bad("query", &rejection))
    }
}

/// The parameters in the path.
#[derive(Clone, Copy, Debug)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        path.map(|path| Self(path.0)).map_err(|rejection: PathRejection| bad("path", &rejection))
    }
}

/// The `Idempotency-Key` of a write. Two writes with the same key are one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(pub String);

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get("idempotency-key") else {
            return Err(Error::IdempotencyKey("missing").into());
        };
        match value.to_str() {
            Ok("") => Err(Error::IdempotencyKey("empty").into()),
            Ok(key) if key.len() > MAX_KEY_BYTES => Err(Error::IdempotencyKey("too long").into()),
            Ok(key) if key.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(Self(key.to_owned())),
            _ => Err(Error::IdempotencyKey("not visible ASCII").into()),
        }
    }
}

/// The innermost cause is the one with the field's path in it; the outer ones repeat what sort of thing failed.
fn bad(place: &'static str, rejection: &dyn StdError) -> Problem {
    let mut reason = rejection.to_string();
    let mut cause = rejection.source();
    for _ in 0..2 {
        let Some(inner) = cause else { break };
        reason = inner.to_string();
        cause = inner.source();
    }
    Error::BadRequest { place, reason: in_plain_words(&reason.lines().collect::<Vec<_>>().join(" ")) }.into()
}

/// What the parser says of Rust's types, in words for whoever sends JSON or a query.
fn in_plain_words(reason: &str) -> String {
    const TYPES: &[(&str, &str)] = &[
        ("u8", "a whole number from 0 to 255"),
        ("u16", "a whole number from 0 to 65535"),
        ("u32", "a whole number from 0 to 4294967295"),
        ("u64", "a whole number of 0 or more"),
        ("usize", "a whole number of 0 or more"),
        ("i32", "a whole number from -2147483648 to 2147483647"),
        ("i64", "a whole number"),
        ("f32", "a number"),
        ("f64", "a number"),
    ];
    let Some((before, after)) = reason.split_once(", expected ") else {
        return reason.replace("invalid digit found in string", "it is not a whole number of 0 or more");
    };
    let (word, rest) = after.split_at(after.find(' ').unwrap_or(after.len()));
    match TYPES.iter().find(|(name, _)| *name == word) {
        Some((_, plain)) => format!("{before}, expected {plain}{rest}"),
        None => reason.to_owned(),
    }
}
