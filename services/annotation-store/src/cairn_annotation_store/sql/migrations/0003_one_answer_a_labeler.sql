-- A labeler answers an item once (P2), whatever leases it held on it: one that was released, or has ended, still has a
-- valid token. Reviews are no answers to the item's task: one labeler may review an item for several audits.
--
-- Answers that were kept twice before this rule stay what they are, people's work and others' evidence. Each but the
-- first is left out of the index by its name, which a constant condition can do and a new column could not: replicas
-- of the release before read `SELECT *` while the new one is rolled out.
DO $$
DECLARE
  repeated uuid[];
BEGIN
  LOCK TABLE annotation IN SHARE ROW EXCLUSIVE MODE;  -- nobody writes one more between the look and the index
  SELECT array_agg(annotation) INTO repeated
  FROM (SELECT annotation, row_number() OVER (PARTITION BY tenant, project, item, labeler ORDER BY annotation) AS nth
        FROM annotation WHERE kind IN (1, 2)) AS answer
  WHERE nth > 1;
  EXECUTE 'CREATE UNIQUE INDEX one_answer_a_labeler ON annotation (tenant, project, item, labeler) WHERE kind IN (1, 2)'
    || CASE WHEN repeated IS NULL THEN '' ELSE format(' AND annotation <> ALL (%L::uuid[])', repeated) END;
END $$;
