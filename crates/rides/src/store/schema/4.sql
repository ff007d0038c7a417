-- Estimates that nobody requested in time, to be removed.
CREATE INDEX rides_never_requested ON rides (updated_at) WHERE requested_at IS NULL AND due_at IS NULL;
