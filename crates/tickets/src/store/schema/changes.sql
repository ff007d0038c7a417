-- The index follows venues and performers, and refunds follow events that were cancelled.
CREATE INDEX events_of_venue ON events (venue_id);
CREATE INDEX event_performers_of ON event_performers (performer_id);
CREATE INDEX events_cancelled ON events (id) WHERE status = 'cancelled';
-- Lists by the time of the last change.
CREATE INDEX seat_plans_updated ON seat_plans (organiser, updated_at, id);
CREATE INDEX promo_codes_updated ON promo_codes (event_id, updated_at, id);
-- What was a ticket: given back ('refunded'), or passed on ('transferred') with its older code.
ALTER TABLE past_bookings ADD COLUMN reason TEXT NOT NULL DEFAULT 'refunded';
ALTER TABLE past_bookings ADD COLUMN price BIGINT NOT NULL DEFAULT 0;
ALTER TABLE past_bookings ADD COLUMN booked_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE past_bookings ADD COLUMN checked_in_at BIGINT;
ALTER TABLE past_bookings ADD COLUMN gate TEXT;
CREATE INDEX past_bookings_ended ON past_bookings (ended_at, ticket_id);
CREATE INDEX past_bookings_of_subject ON past_bookings (subject, ended_at);
-- Webhooks are hints at which the provider is asked, so nothing depends on having seen one before.
DROP TABLE provider_events;
