-- The file of an export is its parts, one after the other, and their sizes say where in it each of them begins: joined by
-- the release before, whose file is a blob. Parts that it began have no size; whoever goes on with them reads them anyway.
ALTER TABLE export ADD COLUMN joined boolean NOT NULL DEFAULT true;
ALTER TABLE export_part ADD COLUMN size_bytes bigint CHECK (size_bytes >= 0);
-- Whether nothing is left in storage but the file. What has no file is `cleaned` by either release; of what has one, the
-- release before would take the parts away, and is told that it has done so.
ALTER TABLE export ADD COLUMN tidied boolean NOT NULL DEFAULT false;
UPDATE export SET tidied = true WHERE cleaned;
DROP INDEX export_to_clean;
CREATE INDEX export_to_tidy ON export (export) WHERE ended_at IS NOT NULL AND NOT tidied;
