-- The entry before is looked up. As a condition it was planned when the ledgers were empty, and then all of them were read at
-- each append until PostgreSQL had counted them.
CREATE OR REPLACE FUNCTION refuse_gap() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  gap record;
BEGIN
  SELECT added.tenant, added.first INTO gap
  FROM (SELECT tenant, min(index) AS first, max(index) AS last, count(*) AS many FROM added_entry GROUP BY tenant) AS added
  LEFT JOIN LATERAL (
    SELECT e.index FROM ledger_entry AS e WHERE e.tenant = added.tenant AND e.index = added.first - 1 LIMIT 1) AS before ON true
  WHERE added.last - added.first + 1 <> added.many OR (added.first > 0 AND before.index IS NULL)
  LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'the ledger of % would have a gap at %', gap.tenant, gap.first USING ERRCODE = 'integrity_constraint_violation';
  END IF;
  RETURN NULL;
END
$$;
