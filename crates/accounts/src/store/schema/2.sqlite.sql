-- A name of a program is free again when that is revoked; a code belongs to the session in which it was agreed to, and is remembered
-- for a while with the session that it gave; how long ended sessions are kept goes by when they ended.
-- Codes last a minute: those under way begin again.
DROP TABLE codes;
CREATE TABLE clients_2 (
    id BLOB PRIMARY KEY,
    name TEXT NOT NULL,
    roles TEXT NOT NULL,
    -- SHA-256; none for a program that cannot keep a secret.
    secret BLOB,
    redirect_uris TEXT NOT NULL,
    is_revoked INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
INSERT INTO clients_2 (id, name, roles, secret, redirect_uris, is_revoked, created_at, updated_at)
    SELECT id, name, roles, secret, redirect_uris, is_revoked, created_at, updated_at FROM clients;
DROP TABLE clients;
ALTER TABLE clients_2 RENAME TO clients;
CREATE UNIQUE INDEX clients_name ON clients (name) WHERE is_revoked = 0;
CREATE INDEX clients_updated ON clients (updated_at, id);
CREATE TABLE codes (
    -- SHA-256.
    hash BLOB PRIMARY KEY,
    user_id BLOB NOT NULL REFERENCES users (id),
    client_id BLOB NOT NULL REFERENCES clients (id),
    -- Where it was agreed to.
    session_id BLOB NOT NULL,
    -- The session that it gave; none before it is redeemed.
    gave BLOB,
    redirect_uri TEXT NOT NULL,
    challenge TEXT NOT NULL,
    nonce TEXT,
    scope TEXT NOT NULL,
    expires_at INTEGER NOT NULL
);
CREATE INDEX codes_expires ON codes (expires_at);
DROP INDEX sessions_open;
CREATE INDEX sessions_of_user ON sessions (user_id);
CREATE INDEX sessions_ended ON sessions (ended_at) WHERE ended_at IS NOT NULL;
ALTER TABLE sessions DROP COLUMN ended_why;
