-- Waiting rooms. Who waits is kept in the lines.
CREATE TABLE queues (
    event_id UUID PRIMARY KEY,
    -- Goes up when the line was lost, so that places of the lost one are told apart.
    generation BIGINT NOT NULL,
    -- Whether the line of this generation was made.
    made BIGINT NOT NULL,
    -- Of the lottery.
    seed BYTEA NOT NULL,
    -- As JSON: see `domain::queue::Control` and `domain::queue::State`.
    control TEXT NOT NULL,
    state TEXT NOT NULL
);
-- Places that were taken without an account, and the account that came in by each.
CREATE TABLE queue_owners (
    line UUID NOT NULL,
    entry BIGINT NOT NULL,
    member UUID NOT NULL,
    owner UUID NOT NULL,
    PRIMARY KEY (line, entry)
);
CREATE UNIQUE INDEX queue_owners_one ON queue_owners (line, owner);
