//! Who may ask: operators, for all that is here. What a pipeline reads, where it writes and what its runs found concern those who run
//! it, and whoever may see them may start and stop them.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use tessera_service::{Identity, Problem};
use utoipa::Modify;
use utoipa::openapi::path::Operation;
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, ResponseBuilder};

use crate::app::service::Service;

/// A caller who is an operator; anybody else is refused before the request is read.
pub(super) struct Operator;

impl FromRequestParts<Service> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, service: &Service) -> Result<Self, Problem> {
        let identity = Identity::from_request_parts(parts, service).await?;
        identity.require(&["operator"])?;
        Ok(Self)
    }
}

/// Says in the document of each operation how [`Operator`] refuses.
pub(super) struct Described;

impl Modify for Described {
    fn modify(&self, document: &mut OpenApi) {
        let items = document.paths.paths.values_mut();
        for operation in items.flat_map(|item| [&mut item.get, &mut item.post]).flatten() {
            guard(operation);
        }
    }
}

fn guard(operation: &mut Operation) {
    for (status, description) in [("401", "no token, or one that does not hold"), ("403", "operators and admins only")]
    {
        let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        let refusal = ResponseBuilder::new().description(description).content("application/problem+json", problem);
        operation.responses.responses.insert(status.to_owned(), refusal.build().into());
    }
}
