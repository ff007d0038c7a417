-- Nothing ever was in it.
DROP INDEX payment_attempts_ref;
-- One order at work for a hold: 1 where it no longer is, see `State::pays_hold`.
ALTER TABLE orders ADD COLUMN left_hold BIGINT;
UPDATE orders SET left_hold = 1 WHERE state NOT IN ('paying', 'authorised', 'booked', 'captured');
DROP INDEX orders_of_hold;
CREATE UNIQUE INDEX orders_of_hold ON orders (hold_id) WHERE left_hold IS NULL;
