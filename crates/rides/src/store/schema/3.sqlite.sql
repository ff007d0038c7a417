-- Push notifications.
CREATE TABLE push_devices (
    id BLOB PRIMARY KEY,
    -- A driver's id, or what a rider's subject is made into.
    owner BLOB NOT NULL,
    -- Of the token that registered it.
    subject TEXT NOT NULL,
    service TEXT NOT NULL,
    -- The app's token, or a browser's endpoint.
    address TEXT NOT NULL,
    -- A browser's key and secret.
    p256dh BLOB,
    auth BLOB,
    seen_at INTEGER NOT NULL
);
CREATE INDEX push_devices_of_owner ON push_devices (owner, seen_at);
CREATE INDEX push_devices_by_address ON push_devices (address);
-- Every attempt to reach a device, for a week.
CREATE TABLE push_attempts (
    id BLOB PRIMARY KEY,
    device_id BLOB NOT NULL,
    ride_id BLOB NOT NULL,
    version INTEGER NOT NULL,
    service TEXT NOT NULL,
    number INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    reason TEXT,
    took_ms INTEGER NOT NULL,
    at INTEGER NOT NULL
);
CREATE INDEX push_attempts_of_ride ON push_attempts (ride_id, at);
CREATE INDEX push_attempts_by_time ON push_attempts (at);
