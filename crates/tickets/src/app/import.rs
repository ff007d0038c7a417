//! Adding many things together, such as a season of events: some hundred a transaction.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::App;
use crate::Error;
use crate::domain::inventory::Inventory;
use crate::domain::plan::SeatPlan;
use crate::store::{Edit, Put, Season};

/// Things in one transaction: others wait behind it.
const AT_ONCE: usize = 250;

impl App {
    /// Adds all of it but for what is there already, by id, so that the same season again changes nothing. Events are as
    /// given, published ones too; each must hold together with its plan, which is among these or there.
    ///
    /// # Errors
    /// [`Error::BadEvent`], [`Error::NotFound`]: nothing was added. Those of the database: some may have been.
    pub async fn import(&self, mut season: Season) -> Result<(), Error> {
        self.check_season(&mut season).await?;
        let Season { plans, venues, performers, events } = season;
        // What others refer to goes first. A plan may be megabytes.
        for plan in plans {
            self.add(Season { plans: vec![plan], ..Season::default() }).await?;
        }
        for venues in venues.chunks(AT_ONCE) {
            self.add(Season { venues: venues.to_vec(), ..Season::default() }).await?;
        }
        for performers in performers.chunks(AT_ONCE) {
            self.add(Season { performers: performers.to_vec(), ..Season::default() }).await?;
        }
        for events in events.chunks(AT_ONCE) {
            for (event, _) in events {
                self.draw_seed(event).await?;
            }
            self.add(Season { events: events.to_vec(), ..Season::default() }).await?;
        }
        Ok(())
    }

    async fn add(&self, season: Season) -> Result<(), Error> {
        let put = Put::Season(Box::new(season));
        self.store.edit(Edit { asked: None, put, status: 201, body: Value::Null }).await.map(drop)
    }

    /// Counts the tickets of each event. Events that sell the same are looked at once.
    async fn check_season(&self, season: &mut Season) -> Result<(), Error> {
        let mut plans = HashMap::new();
        for plan in &season.plans {
            plans.insert(plan.id, std::sync::Arc::new(SeatPlan::parse(&plan.document)?));
        }
        let mut seen: HashMap<String, u32> = HashMap::new();
        let mut ids = HashSet::new();
        for (event, tickets) in &mut season.events {
            if !ids.insert(event.id) {
                return Err(Error::BadEvent { reason: format!("event `{}` is there twice; name it once", event.id) });
            }
            let details = &event.details;
            let sold = (event.plan, &details.price_levels, &details.areas, &details.blocked);
            // Plain structs always serialise.
            let sold = serde_json::to_string(&sold).unwrap_or_default();
            *tickets = match seen.get(&sold) {
                Some(tickets) => *tickets,
                None => {
                    let plan = match event.plan {
                        None => None,
                        Some(id) => match plans.get(&id) {
                            Some(plan) => Some(std::sync::Arc::clone(plan)),
                            None => Some(std::sync::Arc::clone(plans.entry(id).or_insert(self.store.plan(id).await?))),
                        },
                    };
                    let counted = Inventory::new(plan.as_deref(), details)?.sold();
                    seen.insert(sold, counted);
                    counted
                }
            };
        }
        Ok(())
    }
}
