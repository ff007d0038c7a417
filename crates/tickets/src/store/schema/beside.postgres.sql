-- Orders say on their own whether they pay for their hold (`left_hold`), also where a process of before changes them, which
-- knows nothing of it: processes are replaced one after the other.
CREATE FUNCTION order_left_hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.left_hold := CASE WHEN NEW.state IN ('paying', 'authorised', 'booked', 'captured') THEN NULL ELSE 1 END;
    RETURN NEW;
END $$;
CREATE TRIGGER orders_left_hold BEFORE UPDATE ON orders FOR EACH ROW
    WHEN ((OLD.state IN ('paying', 'authorised', 'booked', 'captured')) IS DISTINCT FROM
          (NEW.state IN ('paying', 'authorised', 'booked', 'captured')))
    EXECUTE FUNCTION order_left_hold();
-- What such a process changed since the step before.
UPDATE orders SET left_hold = 1 WHERE left_hold IS NULL AND state NOT IN ('paying', 'authorised', 'booked', 'captured');
