//! Giving seats back before they are paid.

use std::sync::Arc;

use super::App;
use crate::Error;
use crate::domain::ids::HoldId;
use crate::store::{ReleaseHold, Released};

impl App {
    /// Frees the seats of a hold; how many were freed. A second time frees none.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::NotNow`] where it is being paid; those of the database and of claims.
    pub async fn release(&self, subject: &Arc<str>, id: HoldId) -> Result<u32, Error> {
        let freed = match &self.claims {
            None => None,
            Some(claims) => match self.store.find_hold(id).await?.filter(|hold| hold.subject == *subject) {
                // The row first decides whether it may be given back; only then is the claim let go.
                Some(hold) => Some(claims.get(hold.event.uuid(), hold.claim().resources).await?.iter().all(
                    |state| matches!(state, tessera_store::claims::State::Held { token, .. } if *token == hold.token),
                )),
                None => Some(false),
            },
        };
        match self.store.release(ReleaseHold { hold: id, subject: Arc::clone(subject), freed }).await? {
            Released::Done(hold, count) => {
                if let Some(claims) = &self.claims {
                    claims.release(hold.claim()).await?;
                }
                Ok(count)
            }
            Released::NotFound => Err(Error::NotFound { what: "hold", id: id.to_string() }),
            Released::InOrder => {
                let reason = format!("hold `{id}` is being paid or is booked; ask for its order instead");
                Err(Error::NotNow { reason })
            }
        }
    }
}
