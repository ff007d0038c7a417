//! Giving seats back before they are paid.

use std::sync::Arc;

use super::App;
use super::request::Request;
use crate::Error;
use crate::domain::ids::HoldId;
use crate::store::{Asked, Once, ReleaseHold, Released};

impl App {
    /// Frees the seats of a hold; how many were freed. A second time frees none.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::NotNow`] where it is being paid; those of the database and of claims.
    pub async fn release(&self, subject: &Arc<str>, id: HoldId) -> Result<u32, Error> {
        self.release_hold(subject, None, id).await
    }

    /// The same under a key: the same request again is answered the same again.
    ///
    /// # Errors
    /// [`Error::KeyReused`]; those of [`App::release`].
    pub async fn release_once(&self, request: &Request, id: HoldId) -> Result<u32, Error> {
        let asked = request.asked(["release", &id.to_string()]);
        self.release_hold(&request.subject, Some(asked), id).await
    }

    async fn release_hold(&self, subject: &Arc<str>, asked: Option<Asked>, id: HoldId) -> Result<u32, Error> {
        // The row first decides whether it may be given back; only then is the claim let go.
        let own = match &self.claims {
            None => None,
            Some(_) => self.store.find_hold(id).await?.filter(|hold| hold.subject == *subject),
        };
        let freed = match &self.claims {
            None => None,
            Some(claims) => match &own {
                Some(hold) => Some(claims.get(hold.event.uuid(), hold.claim().resources).await?.iter().all(
                    |state| matches!(state, tessera_store::claims::State::Held { token, .. } if *token == hold.token),
                )),
                None => Some(false),
            },
        };
        let released =
            match self.store.release(ReleaseHold { hold: id, subject: Arc::clone(subject), freed, asked }).await? {
                Once::Now(released) => released,
                Once::Before(answered) => {
                    // Who released it then may have ended before its claim was let go.
                    if let (Some(claims), Some(hold)) = (&self.claims, own) {
                        claims.release(hold.claim()).await?;
                    }
                    return answered.read();
                }
            };
        match released {
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
