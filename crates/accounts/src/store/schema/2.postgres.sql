-- A name of a program is free again when that is revoked; a code belongs to the session in which it was agreed to, and is remembered
-- for a while with the session that it gave; how long ended sessions are kept goes by when they ended.
-- Codes last a minute: those under way begin again.
DROP TABLE codes;
ALTER TABLE clients DROP CONSTRAINT clients_name_key;
CREATE UNIQUE INDEX clients_name ON clients (name) WHERE is_revoked = 0;
CREATE TABLE codes (
    -- SHA-256.
    hash BYTEA PRIMARY KEY,
    user_id UUID NOT NULL REFERENCES users (id),
    client_id UUID NOT NULL REFERENCES clients (id),
    -- Where it was agreed to.
    session_id UUID NOT NULL,
    -- The session that it gave; none before it is redeemed.
    gave UUID,
    redirect_uri TEXT NOT NULL,
    challenge TEXT NOT NULL,
    nonce TEXT,
    scope TEXT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX codes_expires ON codes (expires_at);
DROP INDEX sessions_open;
CREATE INDEX sessions_of_user ON sessions (user_id);
CREATE INDEX sessions_ended ON sessions (ended_at) WHERE ended_at IS NOT NULL;
ALTER TABLE sessions DROP COLUMN ended_why;
