-- Labels: every revision, and which one stands.

-- name: lock_items
-- One order for everybody, so that two writers of labels wait and never deadlock.
SELECT i.tenant, i.project, i.item, i.complete_by
FROM item i JOIN unnest($1::text[], $2::text[], $3::text[]) AS k (tenant, project, item) USING (tenant, project, item)
ORDER BY i.tenant, i.project, i.item
FOR NO KEY UPDATE OF i

-- name: standing_labels
SELECT l.* FROM label l JOIN unnest($1::text[], $2::text[], $3::text[]) AS k (tenant, project, item)
     USING (tenant, project, item)
WHERE l.stands

-- name: lay_down_labels
UPDATE label l SET stands = false
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS k (tenant, project, item, question)
WHERE l.stands AND (l.tenant, l.project, l.item, l.question) = (k.tenant, k.project, k.item, k.question)

-- name: insert_labels
INSERT INTO label (tenant, project, item, question, revision, stands, source, source_order, event_id, confidence, answer,
                   provenance)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::boolean[], $7::smallint[],
                     $8::bigint[], $9::uuid[], $10::double precision[], $11::bytea[], $12::bytea[])

-- name: transaction_time
SELECT now()

-- name: set_completeness
UPDATE item i SET complete_by = k.complete_by
FROM unnest($1::text[], $2::text[], $3::text[], $4::smallint[]) AS k (tenant, project, item, complete_by)
WHERE (i.tenant, i.project, i.item) = (k.tenant, k.project, k.item)
  AND i.complete_by IS DISTINCT FROM k.complete_by

-- In all that follows the last value is a source whose labels are left out; 0 leaves out none.

-- name: label
SELECT * FROM label WHERE tenant = $1 AND project = $2 AND item = $3 AND question = $4 AND stands AND source <> $5

-- name: label_revision
SELECT * FROM label WHERE tenant = $1 AND project = $2 AND item = $3 AND question = $4 AND revision = $5
  AND source <> $6

-- name: label_revisions
SELECT * FROM label WHERE tenant = $1 AND project = $2 AND item = $3 AND question = $4 AND revision < $5
  AND source <> $7
ORDER BY revision DESC LIMIT $6

-- What is left out is told in words by which the planner does not count: of a project that it believes to have two labels
-- one would be left, and for that one it would read all of the project and put it in order.
-- name: list_labels
SELECT * FROM label
WHERE tenant = $1 AND project = $2 AND (item, question) > ($3, $4) AND stands AND nullif(source, $6) IS NOT NULL
ORDER BY item, question LIMIT $5

-- name: list_labels_of_source
SELECT * FROM label
WHERE tenant = $1 AND project = $2 AND source = $6 AND (item, question) > ($3, $4) AND stands AND source <> $7
ORDER BY item, question LIMIT $5

-- name: list_labels_of_item
SELECT * FROM label
WHERE tenant = $1 AND project = $2 AND item = $3 AND question > $4 AND stands AND ($6 = 0 OR source = $6)
  AND source <> $7
ORDER BY question LIMIT $5

-- name: log_horizon
-- Everything written by transactions before this one is visible, whoever wrote it: none of them is still running.
SELECT pg_snapshot_xmin(pg_current_snapshot())::text

-- name: label_log
-- One statement, one snapshot: the horizon is that of the very rows that are read.
SELECT l.*, l.written_in::text AS written FROM label l
WHERE l.tenant = $1 AND l.project = $2
  AND (l.written_in, l.item, l.question, l.revision) > ($3::text::xid8, $4, $5, $6)
  AND l.written_in < pg_snapshot_xmin(pg_current_snapshot()) AND nullif(l.source, $8) IS NOT NULL
ORDER BY l.written_in, l.item, l.question, l.revision LIMIT $7
