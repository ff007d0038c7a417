-- Fewer pages for each purchase. What an index holds of a column whose value an update gives is written again by it, though
-- it stays the same.
-- Nothing ever was in it.
DROP INDEX payment_attempts_ref;
-- Only attempts that are under way are looked for.
DROP INDEX payment_attempts_of_order;
CREATE INDEX payment_attempts_open ON payment_attempts (order_id) WHERE state = 'started';
-- One order at work for a hold: 1 where it no longer is, see `State::pays_hold`. Its index does not depend on the state,
-- which each step of a purchase changes.
ALTER TABLE orders ADD COLUMN left_hold BIGINT;
UPDATE orders SET left_hold = 1 WHERE state NOT IN ('paying', 'authorised', 'booked', 'captured');
DROP INDEX orders_of_hold;
CREATE UNIQUE INDEX orders_of_hold ON orders (hold_id) WHERE left_hold IS NULL;
