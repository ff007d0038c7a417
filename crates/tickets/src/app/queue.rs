//! The waiting room, for those who wait: joining, asking, leaving, and the admission that reserving demands.
//!
//! A person is known by its account or by its device, and whoever is known by either already has that place. Who waits
//! learns its place from its pass and the serving number, both in memory; the line is asked when the number's turn has
//! come. An admission counts while its place is inside: leaving, finishing and staying too long end it.

mod rooms;
mod run;

use std::sync::Arc;

use tessera_kernel::{Timestamp, Uuid};
use tessera_store::lines::{self, Joined, Place, Stand};

pub use rooms::{Queues, Room, Stage, View};

use super::App;
use super::passes::{Admission, Pass};
use crate::Error;
use crate::domain::ids::EventId;
use crate::store::OwnedPlace;

/// Who comes to a waiting room. One of both is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Visitor {
    /// The account.
    pub subject: Option<Arc<str>>,
    /// What the device calls itself.
    pub device: Option<String>,
}

/// How somebody stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// By which he asks again.
    pub pass: String,
    /// The arrival, counted from 1: what the lottery draws the number of.
    pub entry: i64,
    /// Whether the doors are open.
    pub open: bool,
    /// The number, once it is drawn.
    pub number: Option<i64>,
    /// How many numbers until his turn; 0 inside.
    pub position: Option<i64>,
    /// The serving number.
    pub serving: i64,
    /// About how long, seconds.
    pub estimate_s: Option<i64>,
    /// When the doors open or opened.
    pub opens_at: Option<Timestamp>,
    /// What he may do inside.
    pub inside: Option<Inside>,
}

/// What an admitted person has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inside {
    /// The admission; none where nobody has signed in, whom it could be given to.
    pub admission: Option<String>,
    /// When the stay is over.
    pub until: Timestamp,
}

fn account(subject: &str) -> Uuid {
    lines::key("account", subject.as_bytes())
}

impl App {
    /// Gives a visitor a place, or the one it has by its account or its device.
    ///
    /// # Errors
    /// [`Error::NotNow`] where there is no waiting room at present; [`Error::NotOnSale`] where it is over;
    /// [`Error::BadRequest`] without account and device; those of the database.
    pub async fn join_queue(&self, event: EventId, visitor: &Visitor) -> Result<Standing, Error> {
        let room = self.queues.room(event);
        room.arrived();
        let mut view = self.view(&room, rooms::FRESH).await?;
        let device = visitor.device.as_ref().map(|device| lines::key("device", device.as_bytes()));
        let account = visitor.subject.as_ref().map(|subject| account(subject));
        let (member, keys) = match (account, device) {
            (Some(account), device) => (account, device.into_iter().collect::<Vec<_>>()),
            (None, Some(device)) => (device, Vec::new()),
            (None, None) => {
                let reason = "nobody is named to wait; sign in, or send the header `x-device-id`".to_owned();
                return Err(Error::BadRequest { reason });
            }
        };
        view.check_joinable()?;
        let mut joined = self.queues.lines().join(view.line, member, keys.clone()).await?;
        if joined == Joined::NoLine {
            view = self.refresh_queue(event).await?;
            view.check_joinable()?;
            joined = self.queues.lines().join(view.line, member, keys).await?;
        }
        let place = match joined {
            Joined::New(place) | Joined::Already(place) => place,
            Joined::NoLine => return Err(lost(event)),
        };
        let pass =
            Pass { line: view.line, entry: place.entry, member: place.member, anonymous: device == Some(place.member) };
        self.standing(&view, &pass, Some(place), account).await
    }

    /// How the owner of a pass stands. Who was let in without an account is given the admission when he asks with one.
    ///
    /// # Errors
    /// [`Error::NotFound`] where we did not make the pass; [`Error::QueueOver`] where its place is no more;
    /// [`Error::NotAdmitted`] where it is another account's; those of the database.
    pub async fn queue_place(&self, pass: &str, subject: Option<&str>) -> Result<Standing, Error> {
        let pass = self.read_pass(pass)?;
        let room = self.queues.room(pass.event());
        let view = self.view(&room, rooms::FRESH).await?;
        self.queue_place_in(&view, &pass, subject).await
    }

    /// The same, as of a view.
    pub(crate) async fn queue_place_in(
        &self,
        view: &View,
        pass: &Pass,
        subject: Option<&str>,
    ) -> Result<Standing, Error> {
        if pass.line != view.line {
            return Err(over("the line was lost and begins anew"));
        }
        let waits = match view.number(pass.entry) {
            None => view.stands.is_some(),
            Some(number) => number > view.serving(),
        };
        let place = if waits {
            None
        } else {
            let place = self.queues.lines().place(view.line, pass.member).await?;
            Some(place.ok_or_else(|| over("it was left, used, or not used in time"))?)
        };
        self.standing(view, pass, place, subject.map(account)).await
    }

    pub(crate) fn read_pass(&self, text: &str) -> Result<Pass, Error> {
        self.queues.passes().read_pass(text).ok_or_else(|| {
            let id = text.chars().take(16).collect();
            Error::NotFound { what: "place in a waiting room with this pass", id }
        })
    }

    async fn standing(
        &self,
        view: &View,
        pass: &Pass,
        place: Option<Place>,
        account: Option<Uuid>,
    ) -> Result<Standing, Error> {
        let number = match &place {
            Some(place) => place.stand.number(),
            None => view.number(pass.entry),
        };
        let inside = match place {
            Some(Place { member, entry, stand: Stand::Inside { number, until } }) => {
                let pass = Pass { member, entry, ..*pass };
                Some(Inside { admission: self.admission(view, &pass, number, until, account).await?, until })
            }
            _ => None,
        };
        let serving = view.serving();
        let ahead = |number: i64| if inside.is_some() { 0 } else { (number - serving).max(1) };
        let estimate = |number: i64| match &inside {
            Some(_) => Some(0),
            None => view.state.estimate_s(number.max(serving + 1), serving),
        };
        Ok(Standing {
            pass: self.queues.passes().pass(pass),
            entry: pass.entry,
            open: number.is_some(),
            number,
            position: number.map(ahead),
            serving,
            estimate_s: number.and_then(estimate),
            opens_at: view.opens_at(),
            inside,
        })
    }

    /// The admission of a place inside, for its account.
    async fn admission(
        &self,
        view: &View,
        pass: &Pass,
        number: i64,
        expires_at: Timestamp,
        account: Option<Uuid>,
    ) -> Result<Option<String>, Error> {
        let owner = match (pass.anonymous, account) {
            // It is of use to that account only, whoever asks.
            (false, _) => pass.member,
            (true, None) => return Ok(None),
            (true, Some(account)) => {
                self.own(view, pass, account).await?;
                account
            }
        };
        let admission = Admission { line: view.line, number, expires_at, member: pass.member, owner };
        Ok(Some(self.queues.passes().admission(&admission)))
    }

    /// Gives a place that was taken without an account to an account, for good. One account has one place.
    async fn own(&self, view: &View, pass: &Pass, account: Uuid) -> Result<(), Error> {
        let refuse = |reason: &str| Err(Error::NotAdmitted { event: view.event, reason: reason.to_owned() });
        let lines = self.queues.lines();
        if lines.place(view.line, account).await?.is_some() {
            return refuse("your account has a place of its own; use that one");
        }
        let place = OwnedPlace { line: view.line, entry: pass.entry, member: pass.member };
        let before = self.store.owned_place(view.line, account).await?;
        let mut instead_of = None;
        match before {
            Some(before) if before == place => return Ok(()),
            Some(before) => match lines.place(view.line, before.member).await? {
                Some(there) if there.entry == before.entry => {
                    return refuse("your account came in by another place; use that one");
                }
                _ => instead_of = Some(before.entry),
            },
            None => {}
        }
        if self.store.own_place(view.event, place, account, instead_of).await? {
            return Ok(());
        }
        refuse("this place is another account's; sign in with that one")
    }

    /// Gives a place up. False where it was given up already.
    ///
    /// # Errors
    /// [`Error::NotFound`] where we did not make the pass; those of the database.
    pub async fn leave_queue(&self, pass: &str) -> Result<bool, Error> {
        let pass = self.read_pass(pass)?;
        let lines = self.queues.lines();
        // Who has left and joined again does not lose his new place by his old pass.
        match lines.place(pass.line, pass.member).await? {
            Some(place) if place.entry == pass.entry => Ok(lines.leave(pass.line, pass.member).await?),
            _ => Ok(false),
        }
    }

    /// Frees the place of a customer who is done. Nothing happens to who still waits.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn finish_queue(&self, event: EventId, subject: &str) -> Result<(), Error> {
        let room = self.queues.room(event);
        let view = self.view(&room, rooms::FRESH).await?;
        if view.stands.is_none() {
            return Ok(());
        }
        let (lines, account) = (self.queues.lines(), account(subject));
        let member = match lines.place(view.line, account).await? {
            Some(place) => Some(place),
            None => match self.store.owned_place(view.line, account).await? {
                Some(owned) => {
                    let place = lines.place(view.line, owned.member).await?;
                    place.filter(|place| place.entry == owned.entry)
                }
                None => None,
            },
        };
        if let Some(Place { member, stand: Stand::Inside { .. }, .. }) = member {
            lines.leave(view.line, member).await?;
        }
        Ok(())
    }

    /// [`App::finish_queue`] after an order, which stands whatever becomes of the place: its stay ends by itself.
    pub(crate) async fn leave_room_for_others(&self, event: EventId, subject: &str) {
        if let Err(error) = self.finish_queue(event, subject).await {
            tracing::warn!(event.id = %event, error = &error as &dyn std::error::Error, "a place inside is not freed");
        }
    }

    /// Refuses who is not let in, where the event has a waiting room at present.
    ///
    /// # Errors
    /// [`Error::NotAdmitted`], which says why; those of the database.
    pub async fn check_admission(&self, event: EventId, subject: &str, admission: Option<&str>) -> Result<(), Error> {
        let room = self.queues.room(event);
        room.arrived();
        let view = self.view(&room, rooms::FRESH).await?;
        let refuse = |reason: String| Err(Error::NotAdmitted { event, reason });
        match &view.stage {
            Stage::None | Stage::Over(_) => return Ok(()),
            Stage::Before | Stage::Open => {}
        }
        let Some(text) = admission else { return refuse("join it first, and reserve with your admission".into()) };
        let Some(admission) = self.queues.passes().read_admission(text) else {
            return refuse("the admission was altered, or is none of ours; ask for your place again".into());
        };
        if admission.event() != event {
            return refuse(format!("the admission is for event `{}`; join the line of this one", admission.event()));
        }
        if admission.owner != account(subject) {
            return refuse("the admission was given to another account; sign in with that one, or join".into());
        }
        if admission.expires_at <= self.clock.now() {
            return refuse(format!("the admission ended at {}; join again", admission.expires_at));
        }
        if admission.line != view.line {
            return refuse("the admission is of a line that was lost; join again".into());
        }
        let place = self.queues.lines().place(view.line, admission.member).await?;
        match place.map(|place| place.stand) {
            Some(Stand::Inside { number, .. }) if number == admission.number => Ok(()),
            _ => refuse("the admission was used, or its place left; join again".into()),
        }
    }
}

fn over(reason: &str) -> Error {
    Error::QueueOver { reason: reason.to_owned() }
}

fn lost(event: EventId) -> Error {
    Error::NotNow { reason: format!("the line of event `{event}` was just lost; join again in a moment") }
}
