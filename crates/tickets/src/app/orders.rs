//! Orders as their buyers, and those who sell, see them.

use std::collections::HashMap;
use std::sync::Arc;

use tessera_service::Identity;

use super::App;
use super::confirm::Purchase;
use super::request::Request;
use super::reserve::{TicketView, view_ticket};
use super::tickets::{OwnedTicket, sells};
use crate::Error;
use crate::domain::event::Event;
use crate::domain::ids::{OrderId, PromoId, TicketId};
use crate::store::{Booked, Booking, InOrder, Listed, OrderRecord, OrdersOf, PricedSeat, Return};

/// An order and what it is of.
#[derive(Clone, Debug, PartialEq)]
pub struct OrderView {
    /// The order.
    pub order: OrderRecord,
    /// Its event.
    pub event: Arc<Event>,
    /// The name of the venue.
    pub venue: String,
    /// The promotion code, as typed.
    pub promo: Option<String>,
    /// What was bought.
    pub tickets: Vec<TicketView>,
}

impl App {
    /// An order of the caller, or for an event that the caller sells.
    ///
    /// # Errors
    /// [`Error::NotFound`]; those of the database.
    pub async fn show_order(&self, identity: &Identity, id: OrderId) -> Result<OrderView, Error> {
        let missing = || Error::NotFound { what: "order", id: id.to_string() };
        let order = self.store.find_order(id).await?.ok_or_else(missing)?;
        let view = self.view_order(order).await?;
        let own = view.order.subject == identity.subject || sells(identity, &view.event.organiser);
        own.then_some(view).ok_or_else(missing)
    }

    /// Orders of the caller, an organiser's those for its events.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn list_orders(
        &self,
        identity: &Identity,
        order: InOrder,
        listed: &Listed,
    ) -> Result<Vec<OrderView>, Error> {
        let whose = match () {
            () if identity.is("admin") => OrdersOf::Everyone,
            () if identity.is("organiser") => OrdersOf::Organiser(&identity.subject),
            () => OrdersOf::Buyer(&identity.subject),
        };
        let orders = self.store.list_orders(whose, order, listed).await?;
        let codes: Vec<PromoId> = orders.iter().filter_map(|order| order.promo).collect();
        let codes = self.store.promo_codes(&codes).await?;
        let mut views = Vec::with_capacity(orders.len());
        for order in orders {
            views.push(self.view_order_with(order, &codes).await?);
        }
        Ok(views)
    }

    /// Gives an order's tickets back, all or some: a buyer while the event's rules let him, who sells at any time. The same
    /// request again gives the order as it stands by then.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::NotNow`]; [`Error::KeyReused`]; those of [`App::refund`].
    pub async fn refund_order(
        &self,
        identity: &Identity,
        key: String,
        id: OrderId,
        tickets: Option<Vec<TicketId>>,
    ) -> Result<OrderView, Error> {
        let view = self.show_order(identity, id).await?;
        let request = Request { subject: Arc::clone(&identity.subject), key };
        let named = tickets.iter().flatten().map(TicketId::to_string);
        let all = if tickets.is_none() { "all" } else { "some" };
        let asked = request.asked(["refund".to_owned(), id.to_string(), all.to_owned()].into_iter().chain(named));
        if self.store.answer(&asked).await?.is_some() {
            return Ok(view);
        }
        let only_of = match sells(identity, &view.event.organiser) {
            true => None,
            false => {
                let Some(hours) = view.event.details.rules.refundable_until_h else {
                    return Err(Error::NotNow { reason: "tickets of this event are not taken back".into() });
                };
                let last = view.event.starts_at.minus(std::time::Duration::from_secs(u64::from(hours) * 3_600));
                if self.clock.now() >= last {
                    return Err(Error::NotNow {
                        reason: format!("tickets of this event were taken back until {last}"),
                    });
                }
                Some(Arc::clone(&identity.subject))
            }
        };
        let order = self.give_back(id, Return { tickets, only_of, used_too: false }, Some(asked)).await?;
        self.view_order(order).await
    }

    /// Orders of cancelled events that have their seats still, in the order of their ids after one.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn orders_of_cancelled(&self, after: Option<OrderId>, limit: i64) -> Result<Vec<OrderId>, Error> {
        self.store.orders_of_cancelled(after, limit).await
    }

    /// Returns all the money of an order whose event was cancelled, whoever has its tickets and whether they were used.
    ///
    /// # Errors
    /// [`Error::NotNow`] where somebody else has begun it; those of [`App::refund`].
    pub async fn refund_cancelled(&self, id: OrderId) -> Result<OrderRecord, Error> {
        self.give_back(id, Return { tickets: None, only_of: None, used_too: true }, None).await
    }

    /// The tickets that the buyer has of a purchase, with their codes.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn tickets_of(&self, identity: &Identity, purchase: &Purchase) -> Result<Vec<OwnedTicket>, Error> {
        let Purchase { order, booked, .. } = purchase;
        if let Some(booked) = booked.as_ref().filter(|booked| booked.serials.len() == order.seats.len())
            && order.money.has_seats()
        {
            return self.just_booked(identity, order, booked).await;
        }
        let live = self.live.event(order.event).await?;
        let bookings = self.store.bookings_of(order, &identity.subject).await?;
        Ok(bookings.into_iter().map(|booking| self.view_booking(identity, booking, &live)).collect())
    }

    /// Tickets that were booked a moment ago: nothing is read for them.
    async fn just_booked(
        &self,
        identity: &Identity,
        order: &OrderRecord,
        booked: &Booked,
    ) -> Result<Vec<OwnedTicket>, Error> {
        let live = self.live.event(order.event).await?;
        let event = live.event();
        let venue = self.venue_of_late(event.venue).await?;
        // Both are in the order of the seats.
        let booking = |((ticket, serial), priced): (&(TicketId, u32), &PricedSeat)| Booking {
            ticket: *ticket,
            order: order.id,
            subject: order.subject.to_string(),
            price: priced.price,
            currency: order.currency,
            serial: *serial,
            booked_at: booked.at,
            checked_in_at: None,
            gate: None,
            updated_at: booked.at,
            ended: None,
            event_name: event.name.clone(),
            starts_at: event.starts_at,
            organiser: event.organiser.clone(),
            venue: venue.name.clone(),
            address: venue.address.clone(),
            city: venue.city.clone(),
            timezone: venue.timezone.clone(),
        };
        let bookings = booked.serials.iter().zip(&order.seats).map(booking);
        Ok(bookings.map(|booking| self.view_booking(identity, booking, &live)).collect())
    }

    /// An order with its names.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn view_order(&self, order: OrderRecord) -> Result<OrderView, Error> {
        let codes = self.store.promo_codes(order.promo.as_slice()).await?;
        self.view_order_with(order, &codes).await
    }

    async fn view_order_with(&self, order: OrderRecord, codes: &HashMap<PromoId, String>) -> Result<OrderView, Error> {
        let live = self.live.event(order.event).await?;
        let event = live.event();
        let venue = self.venue_of_late(event.venue).await?.name.clone();
        let promo = order.promo.and_then(|id| codes.get(&id).cloned());
        let tickets = order.seats.iter().map(|priced| view_ticket(&event, &live, *priced)).collect();
        Ok(OrderView { order, event, venue, promo, tickets })
    }
}
