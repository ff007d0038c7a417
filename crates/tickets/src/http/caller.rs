//! Who asks, where nobody has to say so.

use axum::extract::{FromRef, FromRequestParts};
use http::header::AUTHORIZATION;
use http::request::Parts;
use tessera_service::{Identity, Keys, Problem};

/// Who asks, where somebody says so. A token that does not hold is refused, not overlooked.
pub(super) struct MaybeIdentity(pub(super) Option<Identity>);

impl<S: Send + Sync> FromRequestParts<S> for MaybeIdentity
where
    Keys: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        if !parts.headers.contains_key(AUTHORIZATION) {
            return Ok(Self(None));
        }
        Identity::from_request_parts(parts, state).await.map(Some).map(Self)
    }
}
