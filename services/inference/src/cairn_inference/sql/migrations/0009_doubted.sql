-- Validation items that people doubt, and are to be asked about again, are looked for at every step.
CREATE INDEX item_doubted ON item (tenant, project, label_confidence)
    WHERE validation AND label_source = 2 AND NOT answers_wished;
-- Those that judge are told by their lot.
DROP INDEX item_validation;
CREATE INDEX item_validation ON item (tenant, project, lot) WHERE validation;
