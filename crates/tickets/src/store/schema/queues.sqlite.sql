-- Waiting rooms. Who waits is kept in the lines.
CREATE TABLE queues (
    event_id BLOB PRIMARY KEY,
    -- Goes up when the line was lost, so that places of the lost one are told apart.
    generation INTEGER NOT NULL,
    -- Whether the line of this generation was made.
    made INTEGER NOT NULL,
    -- Of the lottery.
    seed BLOB NOT NULL,
    -- As JSON: see `domain::queue::Control` and `domain::queue::State`.
    control TEXT NOT NULL,
    state TEXT NOT NULL
) WITHOUT ROWID;
-- Places that were taken without an account, and the account that came in by each.
CREATE TABLE queue_owners (
    line BLOB NOT NULL,
    entry INTEGER NOT NULL,
    member BLOB NOT NULL,
    owner BLOB NOT NULL,
    PRIMARY KEY (line, entry)
) WITHOUT ROWID;
CREATE UNIQUE INDEX queue_owners_one ON queue_owners (line, owner);
