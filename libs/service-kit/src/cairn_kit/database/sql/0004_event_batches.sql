-- How many events a row holds: those of one type that one transaction announced about one project travel together.
ALTER TABLE outbox ADD COLUMN events integer NOT NULL DEFAULT 1 CHECK (events > 0);
