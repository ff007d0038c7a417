-- Who may sign in, what is under way for them, and which programs may.
CREATE TABLE users (
    id UUID PRIMARY KEY,
    -- An address or a name, in lower case.
    login TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    -- PHC string of argon2id.
    password TEXT NOT NULL,
    -- A JSON array.
    roles TEXT NOT NULL,
    is_admin BIGINT NOT NULL,
    is_disabled BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX users_updated ON users (updated_at, id);
CREATE INDEX users_admins ON users (id) WHERE is_admin = 1;
-- One row for a family of refresh tokens. A token is worked out of it and of the installation's key, and is not kept.
CREATE TABLE sessions (
    id UUID PRIMARY KEY,
    user_id UUID NOT NULL REFERENCES users (id),
    -- The program that signed its person in; none for our own pages.
    client_id UUID,
    seed BYTEA NOT NULL,
    generation BIGINT NOT NULL,
    rotated_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    ends_at BIGINT NOT NULL,
    ended_at BIGINT,
    ended_why TEXT
);
CREATE INDEX sessions_open ON sessions (user_id) WHERE ended_at IS NULL;
CREATE INDEX sessions_of_client ON sessions (client_id) WHERE client_id IS NOT NULL AND ended_at IS NULL;
CREATE INDEX sessions_ends ON sessions (ends_at);
-- GCRA: the theoretical arrival time of each key, which is a digest of an account's name or of an address.
CREATE TABLE throttles (
    key BYTEA PRIMARY KEY,
    arrival BIGINT NOT NULL
);
CREATE INDEX throttles_arrival ON throttles (arrival);
-- Programs.
CREATE TABLE clients (
    id UUID PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    roles TEXT NOT NULL,
    -- SHA-256; none for a program that cannot keep a secret.
    secret BYTEA,
    redirect_uris TEXT NOT NULL,
    is_revoked BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX clients_updated ON clients (updated_at, id);
-- Authorization codes that were not redeemed yet, by SHA-256.
CREATE TABLE codes (
    hash BYTEA PRIMARY KEY,
    user_id UUID NOT NULL REFERENCES users (id),
    client_id UUID NOT NULL REFERENCES clients (id),
    redirect_uri TEXT NOT NULL,
    challenge TEXT NOT NULL,
    nonce TEXT,
    scope TEXT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX codes_expires ON codes (expires_at);
