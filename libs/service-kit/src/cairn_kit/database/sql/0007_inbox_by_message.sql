-- A row of the inbox is a message now, under the id that it has on the bus, and not each of the events that it brings.
-- Which of them are handled: a bit for each, the first event's the lowest; NULL for all.
ALTER TABLE inbox ADD COLUMN done bytea;
