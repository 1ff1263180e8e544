-- What the sample service does when it hears or is asked something.
CREATE TABLE effect (
  place    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant   text NOT NULL,
  what     text NOT NULL,
  event_id uuid
);
