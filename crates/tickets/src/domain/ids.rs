//! What things are called. A ticket's id holds its event's id and its seat's number, so none need be stored before it is
//! sold.

use tessera_kernel::{Ids, Uuid, typed_id};

typed_id!(
    /// An event. Its last 32 bits are zero: they number its tickets.
    EventId = "event"
);
typed_id!(
    /// A place where events happen.
    VenueId = "venue"
);
typed_id!(
    /// A seat plan; never changed once it is there.
    PlanId = "plan"
);
typed_id!(
    /// Who plays.
    PerformerId = "performer"
);
typed_id!(
    /// Seats kept for a buyer for some minutes.
    HoldId = "hold"
);
typed_id!(
    /// A purchase.
    OrderId = "order"
);
typed_id!(
    /// A seat, or a place in general admission, of one event.
    TicketId = "ticket"
);
typed_id!(
    /// A promotion code.
    PromoId = "promo"
);
typed_id!(
    /// One attempt at moving money; also the idempotency key that the payment provider is given.
    AttemptId = "attempt"
);

const NUMBER_BITS: u128 = 0xffff_ffff;

impl EventId {
    /// A new one.
    pub fn mint(ids: &dyn Ids) -> Self {
        // Version 7 keeps 42 random bits a millisecond above these; the primary key refuses a repetition.
        Self::from(Uuid::from_u128(ids.next().as_u128() & !NUMBER_BITS))
    }
}

/// The number of a seat or place within its event: 0, 1, 2 … in the order of the seat plan, then of the areas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeatNumber(pub u32);

impl TicketId {
    /// The ticket for a seat of an event.
    pub fn new(event: EventId, seat: SeatNumber) -> Self {
        Self::from(Uuid::from_u128(event.uuid().as_u128() | (u128::from(seat.0) + 1)))
    }

    /// None of the event's has a greater id.
    pub fn last_of(event: EventId) -> Self {
        Self::new(event, SeatNumber(u32::MAX - 1))
    }

    /// Of which event it is.
    pub fn event(self) -> EventId {
        EventId::from(Uuid::from_u128(self.uuid().as_u128() & !NUMBER_BITS))
    }

    /// For which seat it is; `None` where it is no ticket's id.
    pub fn seat(self) -> Option<SeatNumber> {
        let number = self.uuid().as_u128() & NUMBER_BITS;
        u32::try_from(number).ok()?.checked_sub(1).map(SeatNumber)
    }
}

#[cfg(test)]
mod tests {
    use tessera_kernel::RandomIds;

    use super::*;

    #[test]
    fn a_ticket_names_its_event_and_seat() {
        let event = EventId::mint(&RandomIds);
        for number in [0, 1, 59_999, u32::MAX - 1] {
            let ticket: TicketId = TicketId::new(event, SeatNumber(number)).to_string().parse().unwrap();
            assert_eq!((ticket.event(), ticket.seat()), (event, Some(SeatNumber(number))));
        }
        assert_eq!(TicketId::from(event.uuid()).seat(), None);
    }
}
