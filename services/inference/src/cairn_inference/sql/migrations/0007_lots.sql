-- A share of validation that is changed draws more of some items than of others. What judges a model must be like what is
-- left to it: each validation item keeps its lot, and those below the odds of the smallest share ever in force judge.
ALTER TABLE project ADD COLUMN smallest_share double precision;
UPDATE project SET smallest_share = validation_share;
ALTER TABLE project ALTER COLUMN smallest_share SET NOT NULL, ADD CHECK (smallest_share <= validation_share);

-- What earlier items drew nobody knows here but that it was below the share: whatever is as even below it does as well.
ALTER TABLE item ADD COLUMN lot double precision;
UPDATE item i SET lot = random() * p.validation_share / (1 - p.validation_share)
FROM project p WHERE i.validation AND (p.tenant, p.project) = (i.tenant, i.project);
ALTER TABLE item ADD CHECK (validation = (lot IS NOT NULL));
