-- The kit's own tables, in every service's schema.

-- What this service has announced. Kept as long as the stream keeps it, so that a lost stream can be rebuilt.
-- event_id is a UUIDv7: its order is the order of announcing, its first 48 bits are the time.
CREATE TABLE outbox (
  event_id     uuid PRIMARY KEY,
  event_type   text NOT NULL,
  nats_subject text NOT NULL,
  tenant       text NOT NULL,
  project      text NOT NULL,
  resource     text NOT NULL,
  revision     bigint NOT NULL,
  traceparent  text NOT NULL,
  occurred_at  timestamptz NOT NULL,
  body         bytea NOT NULL CHECK (octet_length(body) <= 262144),
  published_at timestamptz
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.05);

CREATE INDEX outbox_waiting ON outbox (event_id) WHERE published_at IS NULL;

-- What this service has handled. The row and the effect commit together.
CREATE TABLE inbox (
  consumer    text NOT NULL,
  event_id    uuid NOT NULL,
  received_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (consumer, event_id)
);

CREATE INDEX inbox_age ON inbox USING brin (received_at);

-- How often an event's handler failed, across restarts and replicas; deleted when it succeeds.
CREATE TABLE delivery_failure (
  consumer   text NOT NULL,
  event_id   uuid NOT NULL,
  failures   integer NOT NULL CHECK (failures > 0),
  last_error text NOT NULL,
  failed_at  timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (consumer, event_id)
);

-- Events given up: undecodable, invalid, or out of tries. Visible, and replayable.
CREATE TABLE dead_letter (
  consumer     text NOT NULL,
  event_id     uuid NOT NULL,
  event_type   text NOT NULL,
  nats_subject text NOT NULL,
  headers      jsonb NOT NULL,
  body         bytea NOT NULL,
  reason       text NOT NULL CHECK (reason IN ('undecodable', 'invalid', 'unknown_type', 'out_of_tries', 'not_yet_too_long')),
  error        text NOT NULL,
  died_at      timestamptz NOT NULL DEFAULT now(),
  replay_requested_at timestamptz,
  PRIMARY KEY (consumer, event_id)
);

CREATE INDEX dead_letter_replay ON dead_letter (replay_requested_at) WHERE replay_requested_at IS NOT NULL;

-- The first answer to each request_id, given again when the request comes again (AIP-155).
CREATE TABLE request (
  tenant      text NOT NULL,
  method      text NOT NULL,
  request_id  text NOT NULL,
  body_digest bytea NOT NULL,
  response    bytea,
  created_at  timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, method, request_id)
);

CREATE INDEX request_age ON request USING brin (created_at);

-- Which incarnation of the stream our events were published to: a younger one has lost them.
CREATE TABLE relay_state (
  singleton         boolean PRIMARY KEY DEFAULT true CHECK (singleton),
  stream_created_at timestamptz NOT NULL
);
