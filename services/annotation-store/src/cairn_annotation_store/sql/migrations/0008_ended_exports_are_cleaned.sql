-- Whether nothing is left in storage of an export that has ended, but its file. Those that ended before are looked at once:
-- parts that a killed worker left stay for ever otherwise.
ALTER TABLE export ADD COLUMN cleaned boolean NOT NULL DEFAULT false;
CREATE INDEX export_to_clean ON export (export) WHERE ended_at IS NOT NULL AND NOT cleaned;
