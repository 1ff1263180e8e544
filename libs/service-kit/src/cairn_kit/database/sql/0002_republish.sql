-- How often an event was asked to be published again: part of its Nats-Msg-Id, so that the broker's dedupe window
-- does not drop what it has lost.
ALTER TABLE outbox ADD COLUMN republished integer NOT NULL DEFAULT 0;
