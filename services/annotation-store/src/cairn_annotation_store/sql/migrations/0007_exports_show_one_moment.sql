-- The moment that an export shows: its pages are read one after the other, each showing what that snapshot did. Kept as
-- a value, so that no transaction has to stay open, which would hold up vacuum. Exports that are under way, and those that
-- replicas of the release before begin, have it too.
ALTER TABLE export ADD COLUMN cut pg_snapshot NOT NULL DEFAULT pg_current_snapshot();
