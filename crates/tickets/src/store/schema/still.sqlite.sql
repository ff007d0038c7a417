-- Fewer pages again for each purchase.
-- No step of a purchase changes what this holds; the state is read from the row.
DROP INDEX orders_of_event;
CREATE INDEX orders_of_event ON orders (event_id, left_hold);
-- An order names its seats, and bookings are found by these.
DROP INDEX bookings_of_order;
