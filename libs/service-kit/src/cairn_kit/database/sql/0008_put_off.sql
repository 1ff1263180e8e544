-- For how long an event has been put off here because what it tells of is not known yet, counted while the service runs:
-- an event may be old for no better reason than that nobody was there to hear it. A row need not tell of a failure now.
ALTER TABLE delivery_failure
  ADD COLUMN put_off interval NOT NULL DEFAULT '0',
  DROP CONSTRAINT delivery_failure_failures_check,
  ADD CHECK (failures >= 0);
