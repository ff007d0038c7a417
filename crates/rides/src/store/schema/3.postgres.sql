-- Push notifications.
CREATE TABLE push_devices (
    id UUID PRIMARY KEY,
    -- A driver's id, or what a rider's subject is made into.
    owner UUID NOT NULL,
    -- Of the token that registered it.
    subject TEXT NOT NULL,
    service TEXT NOT NULL,
    -- The app's token, or a browser's endpoint.
    address TEXT NOT NULL,
    -- A browser's key and secret.
    p256dh BYTEA,
    auth BYTEA,
    seen_at BIGINT NOT NULL
);
CREATE INDEX push_devices_of_owner ON push_devices (owner, seen_at);
CREATE INDEX push_devices_by_address ON push_devices (address);
-- Every attempt to reach a device, for a week.
CREATE TABLE push_attempts (
    id UUID PRIMARY KEY,
    device_id UUID NOT NULL,
    ride_id UUID NOT NULL,
    version BIGINT NOT NULL,
    service TEXT NOT NULL,
    number BIGINT NOT NULL,
    outcome TEXT NOT NULL,
    reason TEXT,
    took_ms BIGINT NOT NULL,
    at BIGINT NOT NULL
);
CREATE INDEX push_attempts_of_ride ON push_attempts (ride_id, at);
CREATE INDEX push_attempts_by_time ON push_attempts (at);
