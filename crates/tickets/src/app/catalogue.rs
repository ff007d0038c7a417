//! What organisers do: venues, performers, seat plans, events and promotion codes, each change once under its key.
//!
//! A change is data: it is looked up under its key, made from what is stored at present, and written where that is still
//! so. Where somebody was faster it is made anew, unless the caller named the version that it is a change of.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use super::App;
use super::request::{Request, fingerprint};
use crate::Error;
use crate::domain::catalogue::{EventInput, Performer, PerformerInput, PlanInfo, Venue, VenueInput};
use crate::domain::event::{Event, Status};
use crate::domain::generate::Generate;
use crate::domain::ids::{EventId, PerformerId, PlanId, PromoId, SeatNumber, VenueId};
use crate::domain::inventory::Inventory;
use crate::domain::plan::SeatPlan;
use crate::domain::promo::{Promo, PromoInput};
use crate::seats::SeatState;
use crate::store::{Answered, Asked, Deleted, Edit, Edited, NewPlan, Put};

/// How often a change is made anew when others were faster.
const ATTEMPTS: u32 = 4;
/// It was made.
const CREATED: u16 = 201;
/// It was done.
const DONE: u16 = 200;

/// Who changes, under which key, and which version of the thing.
#[derive(Clone, Debug)]
pub struct Editor {
    /// Who, and under which key.
    pub request: Request,
    /// Whether others' things may be changed too.
    pub rights: Rights,
    /// The version that was read, where the caller says it.
    pub if_match: Option<i64>,
}

/// Whose things may be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// One's own.
    Own,
    /// Everybody's.
    All,
}

/// A change.
#[derive(Clone, Debug, Serialize)]
pub enum Change {
    /// A new venue.
    NewVenue(VenueInput),
    /// Another description of a venue.
    Venue(VenueId, VenueInput),
    /// A venue that is not shown any more.
    DeleteVenue(VenueId),
    /// A new performer.
    NewPerformer(PerformerInput),
    /// Another description of a performer.
    Performer(PerformerId, PerformerInput),
    /// A performer that is not shown any more.
    DeletePerformer(PerformerId),
    /// A seat plan from a file in pretix's form.
    NewPlan(String),
    /// A generated seat plan.
    GeneratePlan(Generate),
    /// A seat plan that is not offered any more.
    DeletePlan(PlanId),
    /// A new event, as a draft.
    NewEvent(Box<EventInput>),
    /// Another description of an event.
    Event(EventId, Box<EventInput>),
    /// An event that everyone may see and that is sold.
    Publish(EventId),
    /// An event called off.
    Cancel(EventId),
    /// A draft that is given up.
    DeleteEvent(EventId),
    /// Other capacities of areas, by key.
    Capacities(EventId, Vec<(String, u32)>),
    /// Seats that are not sold, and such that are again, by number.
    Block(EventId, Vec<u32>, Vec<u32>),
    /// A new promotion code.
    NewPromo(EventId, PromoInput),
    /// Other terms of a promotion code.
    Promo(PromoId, PromoInput),
    /// A promotion code that does not count any more.
    DeletePromo(PromoId),
}

impl Editor {
    fn check_owner(&self, what: &'static str, id: impl ToString, owner: &str) -> Result<(), Error> {
        if self.rights == Rights::All || *self.request.subject == *owner {
            return Ok(());
        }
        Err(Error::Forbidden { what: format!("{what} `{}`", id.to_string()) })
    }

    fn check_version(&self, what: &'static str, id: impl ToString, version: i64) -> Result<(), Error> {
        match self.if_match {
            Some(read) if read != version => Err(Error::Changed { what: format!("{what} `{}`", id.to_string()) }),
            _ => Ok(()),
        }
    }
}

impl App {
    /// Carries a change out and gives its answer. The same request again gets the same answer.
    ///
    /// # Errors
    /// [`Error::BadEvent`], [`Error::BadPlan`], [`Error::BadRequest`], [`Error::NotFound`], [`Error::Forbidden`],
    /// [`Error::NotNow`], [`Error::Changed`], [`Error::KeyReused`]; those of the database.
    pub async fn edit(&self, by: &Editor, change: Change) -> Result<Answered, Error> {
        // Plain structs always serialise.
        let content = serde_json::to_vec(&change).unwrap_or_default();
        let version = by.if_match.map(|version| version.to_string()).unwrap_or_default();
        let asked = Asked {
            subject: Arc::clone(&by.request.subject),
            key: by.request.key.clone(),
            request_hash: fingerprint([b"catalogue".as_slice(), version.as_bytes(), &content]),
        };
        if let Some(answered) = self.store.answer(&asked).await? {
            return Ok(answered);
        }
        for _ in 0..ATTEMPTS {
            let (put, status, body) = self.make(by, &change).await?;
            if let Put::Event(event, _) = &put {
                self.draw_seed(event).await?;
            }
            let edit = Edit { asked: Some(asked.clone()), put, status, body };
            match self.store.edit(edit).await? {
                Edited::Done(answered) => {
                    self.forget(&change).await?;
                    return Ok(answered);
                }
                Edited::Exists => return Err(exists(&change)),
                Edited::Changed if by.if_match.is_some() => break,
                Edited::Changed => {}
            }
        }
        Err(Error::Changed { what: "it".into() })
    }

    /// Pages and seats of what was changed are read anew, in this process at once.
    async fn forget(&self, change: &Change) -> Result<(), Error> {
        match change {
            Change::Event(id, _)
            | Change::Publish(id)
            | Change::Cancel(id)
            | Change::Capacities(id, _)
            | Change::Block(id, ..) => {
                self.live.refresh(*id).await?;
                self.pages().forget(*id);
                self.show_queue(*id).await;
            }
            _ => {}
        }
        Ok(())
    }

    /// The waiting room of an event that was changed, as it is now: its line is made, and its commitment shown.
    async fn show_queue(&self, id: EventId) {
        match self.refresh_queue(id).await {
            // A draft has none.
            Ok(_) | Err(Error::NotFound { .. }) => {}
            Err(error) => {
                tracing::warn!(event.id = %id, error = &error as &dyn std::error::Error, "waiting room not read");
            }
        }
    }

    async fn make(&self, by: &Editor, change: &Change) -> Result<(Put, u16, Value), Error> {
        let organiser = || by.request.subject.to_string();
        match change.clone() {
            Change::NewVenue(input) => {
                self.check_plan(by, input.plan).await?;
                let venue = input.venue(VenueId::from(self.ids.next()), organiser(), 1)?;
                Ok((Put::Venue(Box::new(venue.clone())), CREATED, body(&venue)))
            }
            Change::Venue(id, input) => {
                let before = self.own_venue(by, id).await?;
                self.check_plan(by, input.plan.filter(|plan| before.plan != Some(*plan))).await?;
                let venue = input.venue(id, before.organiser, before.version + 1)?;
                Ok((Put::Venue(Box::new(venue.clone())), DONE, body(&venue)))
            }
            Change::DeleteVenue(id) => {
                let before = self.own_venue(by, id).await?;
                if self.store.venue_in_use(id, self.clock.now()).await? {
                    let reason = format!("events are planned at venue `{id}`; move or cancel them first");
                    return Err(Error::NotNow { reason });
                }
                Ok((Put::Delete(Deleted::Venue(id, before.version + 1)), DONE, deleted(id)))
            }
            Change::NewPerformer(input) => {
                let performer = input.performer(PerformerId::from(self.ids.next()), organiser(), 1)?;
                Ok((Put::Performer(Box::new(performer.clone())), CREATED, body(&performer)))
            }
            Change::Performer(id, input) => {
                let before = self.own_performer(by, id).await?;
                let performer = input.performer(id, before.organiser, before.version + 1)?;
                Ok((Put::Performer(Box::new(performer.clone())), DONE, body(&performer)))
            }
            Change::DeletePerformer(id) => {
                let before = self.own_performer(by, id).await?;
                Ok((Put::Delete(Deleted::Performer(id, before.version + 1)), DONE, deleted(id)))
            }
            Change::NewPlan(text) => {
                let id = PlanId::from(self.ids.next());
                // A stadium's file is some megabytes: not on the threads that answer requests.
                let plan = tokio::task::spawn_blocking(move || SeatPlan::parse(&text)?.new_plan(id));
                let plan = plan.await.map_err(broke)??;
                Ok(new_plan(plan, organiser()))
            }
            Change::GeneratePlan(generate) => {
                let id = PlanId::from(self.ids.next());
                let plan = tokio::task::spawn_blocking(move || generate.plan()?.new_plan(id));
                let plan = plan.await.map_err(broke)??;
                Ok(new_plan(plan, organiser()))
            }
            Change::DeletePlan(id) => {
                let info = self.store.plan_info(id).await?;
                by.check_owner("seat plan", id, &info.organiser)?;
                Ok((Put::Delete(Deleted::Plan(id)), DONE, deleted(id)))
            }
            Change::NewEvent(input) => {
                let (input, plan) = self.resolve(by, *input, None).await?;
                let event = input.draft(EventId::mint(&*self.ids), organiser(), plan.as_deref())?;
                event_put(event, plan.as_deref(), CREATED)
            }
            Change::Event(id, input) => {
                let before = self.own_event(by, id).await?;
                let (input, plan) = self.resolve(by, *input, Some(&before)).await?;
                let taken = self.taken(&before).await?;
                event_put(input.change(&before, plan.as_deref(), taken)?, plan.as_deref(), DONE)
            }
            Change::Publish(id) => {
                let before = self.own_event(by, id).await?;
                let plan = self.plan_of(&before).await?;
                event_put(before.publish(plan.as_deref())?, plan.as_deref(), DONE)
            }
            Change::Cancel(id) => {
                let before = self.own_event(by, id).await?;
                let plan = self.plan_of(&before).await?;
                event_put(before.cancel()?, plan.as_deref(), DONE)
            }
            Change::DeleteEvent(id) => {
                let before = self.own_event(by, id).await?;
                if before.status != Status::Draft {
                    let reason = "only drafts can be deleted; cancel the event instead".into();
                    return Err(Error::NotNow { reason });
                }
                Ok((Put::Delete(Deleted::Event(id, before.version + 1)), DONE, deleted(id)))
            }
            Change::Capacities(id, capacities) => {
                let before = self.own_event(by, id).await?;
                let plan = self.plan_of(&before).await?;
                let taken = self.taken(&before).await?;
                event_put(before.with_capacities(&capacities, plan.as_deref(), taken)?, plan.as_deref(), DONE)
            }
            Change::Block(id, block, unblock) => {
                let before = self.own_event(by, id).await?;
                let plan = self.plan_of(&before).await?;
                let numbers = |numbers: Vec<u32>| numbers.into_iter().map(SeatNumber).collect::<Vec<_>>();
                let event = before.with_blocked(&numbers(block), &numbers(unblock), plan.as_deref())?;
                event_put(event, plan.as_deref(), DONE)
            }
            Change::NewPromo(event, input) => {
                self.own_event(by, event).await?;
                let promo = input.promo(PromoId::from(self.ids.next()), event, 1)?;
                Ok((Put::Promo(promo.clone()), CREATED, body(&promo)))
            }
            Change::Promo(id, input) => {
                let before = self.own_promo(by, id).await?;
                let mut promo = input.promo(id, before.event, before.version + 1)?;
                if promo.code != before.code {
                    let reason = format!("promotion code `{}` keeps its text; make another one", before.code);
                    return Err(Error::NotNow { reason });
                }
                promo.uses = before.uses;
                Ok((Put::Promo(promo.clone()), DONE, body(&promo)))
            }
            Change::DeletePromo(id) => {
                let before = self.own_promo(by, id).await?;
                Ok((Put::Delete(Deleted::Promo(id, before.version + 1)), DONE, deleted(id)))
            }
        }
    }

    async fn own_venue(&self, by: &Editor, id: VenueId) -> Result<Venue, Error> {
        let venue = self.store.venue(id).await?;
        if venue.deleted_at.is_some() {
            return Err(Error::NotFound { what: "venue", id: id.to_string() });
        }
        by.check_owner("venue", id, &venue.organiser)?;
        by.check_version("venue", id, venue.version)?;
        Ok(venue)
    }

    async fn own_performer(&self, by: &Editor, id: PerformerId) -> Result<Performer, Error> {
        let performer = self.store.performer(id).await?;
        if performer.deleted_at.is_some() {
            return Err(Error::NotFound { what: "performer", id: id.to_string() });
        }
        by.check_owner("performer", id, &performer.organiser)?;
        by.check_version("performer", id, performer.version)?;
        Ok(performer)
    }

    async fn own_event(&self, by: &Editor, id: EventId) -> Result<Event, Error> {
        let event = self.store.event(id).await?;
        by.check_owner("event", id, &event.organiser)?;
        by.check_version("event", id, event.version)?;
        Ok(event)
    }

    async fn own_promo(&self, by: &Editor, id: PromoId) -> Result<Promo, Error> {
        let promo = self.store.promo_by_id(id).await?;
        let event = self.store.event(promo.event).await?;
        by.check_owner("promotion code", id, &event.organiser)?;
        by.check_version("promotion code", id, promo.version)?;
        Ok(promo)
    }

    /// An event of the caller's own, drafts too.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Forbidden`]; those of the database.
    pub async fn organisers_event(&self, subject: &str, rights: Rights, id: EventId) -> Result<Event, Error> {
        let event = self.store.event(id).await?;
        if rights == Rights::All || event.organiser == subject {
            return Ok(event);
        }
        Err(Error::Forbidden { what: format!("event `{id}`") })
    }

    async fn check_plan(&self, by: &Editor, plan: Option<PlanId>) -> Result<(), Error> {
        let Some(id) = plan else { return Ok(()) };
        let info = self.store.plan_info(id).await?;
        by.check_owner("seat plan", id, &info.organiser)
    }

    async fn plan_of(&self, event: &Event) -> Result<Option<Arc<SeatPlan>>, Error> {
        match event.plan {
            Some(plan) => Ok(Some(self.store.plan(plan).await?)),
            None => Ok(None),
        }
    }

    /// Settles which plan is meant, and sees that what is named is there.
    async fn resolve(
        &self,
        by: &Editor,
        mut input: EventInput,
        before: Option<&Event>,
    ) -> Result<(EventInput, Option<Arc<SeatPlan>>), Error> {
        let venue = self.store.venue(input.venue).await?;
        if venue.deleted_at.is_some() && before.is_none_or(|before| before.venue != venue.id) {
            return Err(Error::NotFound { what: "venue", id: venue.id.to_string() });
        }
        let kept = before.filter(|before| before.status != Status::Draft).and_then(|before| before.plan);
        let others = [before.and_then(|before| before.plan), venue.plan];
        if input.plan.is_some() && !others.contains(&input.plan) {
            self.check_plan(by, input.plan).await?;
        }
        input.plan = input.plan.or(kept).or(venue.plan).filter(|_| input.seated);
        let performers = self.store.performers(&input.performers).await?;
        for id in &input.performers {
            let there = performers.iter().find(|performer| performer.id == *id);
            let billed = before.is_some_and(|before| before.performers.contains(id));
            if there.is_none_or(|performer| performer.deleted_at.is_some() && !billed) {
                return Err(Error::NotFound { what: "performer", id: id.to_string() });
            }
        }
        let plan = match input.plan {
            Some(plan) => Some(self.store.plan(plan).await?),
            None => None,
        };
        Ok((input, plan))
    }

    /// Which places of an event somebody has.
    async fn taken(&self, event: &Event) -> Result<impl Fn(SeatNumber) -> bool + use<>, Error> {
        let live = match event.status {
            Status::Draft => None,
            Status::Published | Status::Cancelled => {
                let live = self.live.event(event.id).await?;
                self.live.follow_event(&live).await?;
                Some(live)
            }
        };
        let now = self.clock.now();
        Ok(move |seat| {
            live.as_ref().is_some_and(|live| {
                live.with(|states| matches!(states.get(seat, now), SeatState::Held(_) | SeatState::Booked))
            })
        })
    }
}

impl SeatPlan {
    /// As it is stored.
    fn new_plan(&self, id: PlanId) -> Result<NewPlan, Error> {
        let unreadable =
            |error: serde_json::Error| Error::BadPlan { place: "the plan".into(), reason: error.to_string() };
        let document = serde_json::to_string(self).map_err(unreadable)?;
        // The plan was checked to have at most as many as an event may have.
        Ok(NewPlan { id, name: self.name.clone(), seats: self.seats() as u32, document, organiser: String::new() })
    }
}

fn new_plan(plan: NewPlan, organiser: String) -> (Put, u16, Value) {
    let NewPlan { id, name, seats, document, .. } = plan;
    let updated_at = tessera_kernel::Timestamp::from_micros(0);
    let info = PlanInfo { id, name: name.clone(), seats, organiser: organiser.clone(), updated_at, deleted_at: None };
    (Put::Plan(NewPlan { id, name, seats, document, organiser }), CREATED, body(&info))
}

fn event_put(event: Event, plan: Option<&SeatPlan>, status: u16) -> Result<(Put, u16, Value), Error> {
    let tickets = Inventory::new(plan, &event.details)?.sold();
    let body = body(&event);
    Ok((Put::Event(Box::new(event), tickets), status, body))
}

fn body(thing: &impl Serialize) -> Value {
    // Plain structs always serialise.
    serde_json::to_value(thing).unwrap_or_default()
}

fn deleted(id: impl Serialize) -> Value {
    json!({ "id": id, "deleted": true })
}

fn exists(change: &Change) -> Error {
    let reason = match change {
        Change::NewPromo(_, input) => {
            format!("the event has a promotion code `{}` already; change that one", input.code)
        }
        _ => "there is one with this id already; send the request again".into(),
    };
    Error::NotNow { reason }
}

fn broke(error: tokio::task::JoinError) -> Error {
    Error::Corrupt { what: "a seat plan".into(), reason: error.to_string() }
}
