//! What a process serves, for who hands requests on within it.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::Request;
use http::request::Parts;
use tower::ServiceExt;

use crate::http::edge::Quicks;

/// All routes of a process with what surrounds them: a request that is handed over here is answered as one that came over
/// a connection. Whoever hands it over sets [`Peer`](crate::http::Peer) in its extensions. Cheap to clone; empty until the
/// process has started.
#[derive(Clone, Default)]
pub struct Inside(Arc<OnceLock<(Router, Quicks)>>);

impl std::fmt::Debug for Inside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Inside")
    }
}

impl Inside {
    pub(super) fn set(&self, router: Router, quicks: Quicks) {
        // A process starts once.
        let _ = self.0.set((router, quicks));
    }

    /// The answer, where it is in memory. It neither blocks nor waits.
    pub fn at_once(&self, head: &Parts) -> Option<Response> {
        self.0.get()?.1.answer(head)
    }

    /// The answer; none before the process has started.
    pub async fn answer(&self, request: Request<Body>) -> Option<Response> {
        let (router, _) = self.0.get()?;
        Some(router.clone().oneshot(request).await.unwrap_or_else(|never: Infallible| match never {}))
    }
}
