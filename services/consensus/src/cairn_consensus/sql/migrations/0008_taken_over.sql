-- A call asks for one more of a kind only where none waits to be begun, and one that is begun takes over those before it that
-- came to nothing: they have ended without a fit.
ALTER TABLE asked_refit
  DROP CONSTRAINT asked_refit_check1,
  DROP COLUMN failed,
  ADD COLUMN failures int NOT NULL DEFAULT 0;  -- steps that ended with an error since the last that judged items

-- A conclusion that begins anew leaves what it said before to be forgotten with it.
ALTER TABLE undecided_item ADD COLUMN refit bigint NOT NULL DEFAULT 0;
UPDATE undecided_item SET refit = asked_refit.refit FROM asked_refit
WHERE (undecided_item.tenant, undecided_item.project, undecided_item.number) = (asked_refit.tenant, asked_refit.project, asked_refit.number);
ALTER TABLE undecided_item ALTER COLUMN refit DROP DEFAULT;
