-- Rides, and who drives them.
CREATE TABLE drivers (
    id UUID PRIMARY KEY,
    subject TEXT NOT NULL UNIQUE,
    -- Vehicle, plate, seats, as JSON.
    profile TEXT NOT NULL,
    approved BIGINT NOT NULL,
    on_duty BIGINT NOT NULL,
    -- Of the last claim under which an offer was made: one with a lower token is too late.
    token BIGINT NOT NULL,
    offered BIGINT NOT NULL,
    accepted BIGINT NOT NULL,
    -- Since when the driver has had nothing to do.
    idle_since BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX drivers_updated ON drivers (updated_at, id);
CREATE TABLE rides (
    id UUID PRIMARY KEY,
    rider TEXT NOT NULL,
    state TEXT NOT NULL,
    version BIGINT NOT NULL,
    area BIGINT NOT NULL,
    driver_id UUID,
    requested_at BIGINT,
    -- When the state ends by itself: an estimate, an offer.
    due_at BIGINT,
    -- The whole ride, as JSON.
    document TEXT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX rides_updated ON rides (updated_at, id);
CREATE INDEX rides_of_rider ON rides (rider, updated_at, id);
CREATE INDEX rides_of_driver ON rides (driver_id, updated_at, id) WHERE driver_id IS NOT NULL;
CREATE INDEX rides_waiting ON rides (area, requested_at, id) WHERE state = 'requested';
CREATE INDEX rides_due ON rides (due_at) WHERE due_at IS NOT NULL;
-- A driver who is asked or drives. Both keys are what a double match breaks on.
CREATE TABLE bindings (
    driver_id UUID PRIMARY KEY REFERENCES drivers (id),
    ride_id UUID NOT NULL UNIQUE REFERENCES rides (id),
    offer_id UUID NOT NULL,
    token BIGINT NOT NULL
);
-- Every offer that was made. No driver is asked twice for one ride.
CREATE TABLE offers (
    id UUID PRIMARY KEY,
    ride_id UUID NOT NULL REFERENCES rides (id),
    number BIGINT NOT NULL,
    driver_id UUID NOT NULL REFERENCES drivers (id),
    token BIGINT NOT NULL,
    made_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    UNIQUE (ride_id, number),
    UNIQUE (ride_id, driver_id)
);
-- The history of a ride: append only.
CREATE TABLE ride_events (
    ride_id UUID NOT NULL REFERENCES rides (id),
    version BIGINT NOT NULL,
    kind TEXT NOT NULL,
    at BIGINT NOT NULL,
    -- The ride after it, as JSON.
    document TEXT NOT NULL,
    PRIMARY KEY (ride_id, version)
);
