-- The conclusion, by its number in asked_refit, that announced the item's label last: one that begins anew counts it once.
ALTER TABLE item ADD COLUMN announced_by bigint;
