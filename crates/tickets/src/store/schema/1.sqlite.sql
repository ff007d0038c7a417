-- What is sold, and where.
CREATE TABLE seat_plans (
    id BLOB PRIMARY KEY,
    name TEXT NOT NULL,
    seats INTEGER NOT NULL,
    document TEXT NOT NULL,
    organiser TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    deleted_at INTEGER
);
CREATE TABLE venues (
    id BLOB PRIMARY KEY,
    name TEXT NOT NULL,
    city TEXT NOT NULL,
    country TEXT NOT NULL,
    address TEXT NOT NULL,
    lat_e7 INTEGER,
    lng_e7 INTEGER,
    timezone TEXT NOT NULL,
    plan_id BLOB REFERENCES seat_plans (id),
    organiser TEXT NOT NULL,
    version INTEGER NOT NULL DEFAULT 1,
    updated_at INTEGER NOT NULL,
    deleted_at INTEGER
);
CREATE TABLE performers (
    id BLOB PRIMARY KEY,
    name TEXT NOT NULL,
    about TEXT NOT NULL,
    organiser TEXT NOT NULL,
    version INTEGER NOT NULL DEFAULT 1,
    updated_at INTEGER NOT NULL,
    deleted_at INTEGER
);
CREATE TABLE events (
    id BLOB PRIMARY KEY,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    status TEXT NOT NULL,
    organiser TEXT NOT NULL,
    venue_id BLOB NOT NULL REFERENCES venues (id),
    plan_id BLOB REFERENCES seat_plans (id),
    starts_at INTEGER NOT NULL,
    currency TEXT NOT NULL,
    tickets INTEGER NOT NULL,
    -- Everything else of the event, as JSON: description, times, price levels, areas, rules, queue.
    document TEXT NOT NULL,
    version INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    deleted_at INTEGER
);
CREATE INDEX events_updated ON events (updated_at, id);
CREATE INDEX venues_updated ON venues (updated_at, id);
CREATE INDEX performers_updated ON performers (updated_at, id);
CREATE TABLE event_performers (
    event_id BLOB NOT NULL REFERENCES events (id),
    position INTEGER NOT NULL,
    performer_id BLOB NOT NULL REFERENCES performers (id),
    PRIMARY KEY (event_id, position)
) WITHOUT ROWID;
CREATE TABLE promo_codes (
    id BLOB PRIMARY KEY,
    event_id BLOB NOT NULL REFERENCES events (id),
    code TEXT NOT NULL,
    -- Exactly one of the two.
    discount_bp INTEGER,
    discount_amount INTEGER,
    max_uses INTEGER,
    uses INTEGER NOT NULL,
    valid_from INTEGER,
    valid_until INTEGER,
    version INTEGER NOT NULL DEFAULT 1,
    updated_at INTEGER NOT NULL,
    deleted_at INTEGER
);
CREATE UNIQUE INDEX promo_codes_code ON promo_codes (event_id, code) WHERE deleted_at IS NULL;

-- Who has which seat for how long. The claims themselves are in the claim store.
CREATE TABLE holds (
    -- Made from the subject and the idempotency key: the same request is the same hold.
    id BLOB PRIMARY KEY,
    event_id BLOB NOT NULL,
    subject TEXT NOT NULL,
    -- Seats and their prices, see `store::seats`.
    seats BLOB NOT NULL,
    count INTEGER NOT NULL,
    total INTEGER NOT NULL,
    token INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    -- 'active' (until expires_at), 'released', 'booked'.
    state TEXT NOT NULL,
    request_hash BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
CREATE INDEX holds_of_subject ON holds (event_id, subject) WHERE state = 'active';

-- An order and its money.
CREATE TABLE orders (
    -- Made from the subject and the idempotency key: the same request is the same order.
    id BLOB PRIMARY KEY,
    event_id BLOB NOT NULL,
    subject TEXT NOT NULL,
    hold_id BLOB NOT NULL,
    -- Of the claim, which the booking must still be under.
    token INTEGER NOT NULL,
    seats BLOB NOT NULL,
    count INTEGER NOT NULL,
    state TEXT NOT NULL,
    currency TEXT NOT NULL,
    total INTEGER NOT NULL,
    -- What the seats are worth now and what stays with us; what was taken; what went back of that.
    keep INTEGER NOT NULL,
    captured INTEGER NOT NULL,
    refunded INTEGER NOT NULL,
    promo_code_id BLOB,
    -- Until when an authorised payment may become a booking.
    book_before INTEGER NOT NULL,
    -- The attempt that counts.
    attempt INTEGER NOT NULL,
    provider TEXT NOT NULL,
    payment_ref TEXT,
    failure_code TEXT,
    failure_detail TEXT,
    request_hash BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
-- One order at work for a hold.
CREATE UNIQUE INDEX orders_of_hold ON orders (hold_id) WHERE state IN ('paying', 'authorised', 'booked', 'captured');
CREATE INDEX orders_of_subject ON orders (subject, created_at);
CREATE INDEX orders_updated ON orders (updated_at, id);
CREATE INDEX orders_of_event ON orders (event_id, state);
CREATE INDEX orders_payment ON orders (payment_ref) WHERE payment_ref IS NOT NULL;
CREATE INDEX orders_open ON orders (updated_at) WHERE state IN ('paying', 'authorised', 'booked', 'refund_due');
CREATE TABLE payment_attempts (
    -- Also the idempotency key that the provider is given; stored before it is called.
    id BLOB PRIMARY KEY,
    order_id BLOB NOT NULL,
    number INTEGER NOT NULL,
    -- 'authorise', 'capture', 'void', 'refund'.
    action TEXT NOT NULL,
    amount INTEGER NOT NULL,
    -- 'started', 'needs_action', 'succeeded', 'failed', 'unknown'.
    state TEXT NOT NULL,
    provider_ref TEXT,
    failure_code TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
CREATE INDEX payment_attempts_of_order ON payment_attempts (order_id, number);
CREATE INDEX payment_attempts_ref ON payment_attempts (provider_ref);
CREATE TABLE provider_events (
    provider TEXT NOT NULL,
    id TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    PRIMARY KEY (provider, id)
) WITHOUT ROWID;

-- The booking: one row for a seat of an event. Its primary key is what a double sale breaks on.
CREATE TABLE bookings (
    -- The ticket: the event's id with the seat's number in its last four bytes.
    ticket_id BLOB PRIMARY KEY,
    event_id BLOB NOT NULL,
    order_id BLOB NOT NULL,
    -- Whose it is now; a transfer changes it.
    subject TEXT NOT NULL,
    token INTEGER NOT NULL,
    price INTEGER NOT NULL,
    -- Goes up with every transfer, so that an old QR code is refused.
    serial INTEGER NOT NULL,
    booked_at INTEGER NOT NULL,
    checked_in_at INTEGER,
    checked_in_by TEXT,
    gate TEXT,
    -- Made from who asked and under which key: a repetition is answered the same again.
    check_in_request BLOB,
    transfer_request BLOB,
    updated_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX bookings_of_order ON bookings (order_id);
CREATE INDEX bookings_of_subject ON bookings (subject, event_id);
CREATE INDEX bookings_updated ON bookings (updated_at, ticket_id);
-- Bookings that were given back. A seat that is sold again begins with a serial above these, so that no old code opens
-- the door.
CREATE TABLE past_bookings (
    ticket_id BLOB NOT NULL,
    serial INTEGER NOT NULL,
    event_id BLOB NOT NULL,
    order_id BLOB NOT NULL,
    subject TEXT NOT NULL,
    ended_at INTEGER NOT NULL,
    PRIMARY KEY (ticket_id, serial)
) WITHOUT ROWID;

-- What changed, in order.
CREATE TABLE seat_feeds (
    event_id BLOB PRIMARY KEY,
    seq INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE seat_feed (
    event_id BLOB NOT NULL,
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    -- See `seats::delta`.
    changes BLOB NOT NULL,
    PRIMARY KEY (event_id, seq)
) WITHOUT ROWID;
CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    -- 'event', 'venue', 'performer', 'order'.
    kind TEXT NOT NULL,
    id BLOB NOT NULL,
    at INTEGER NOT NULL
);
CREATE TABLE outbox_readers (
    name TEXT PRIMARY KEY,
    seq INTEGER NOT NULL
);

-- Writes that were answered, by who asked and under which key.
CREATE TABLE answers (
    subject TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    request_hash BLOB NOT NULL,
    status INTEGER NOT NULL,
    body TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (subject, idempotency_key)
) WITHOUT ROWID;
CREATE INDEX answers_at ON answers (at);
