-- Exports: jobs that any replica works on, one at a time, resuming where the last worker was.

-- name: insert_export
INSERT INTO export (tenant, project, export, format, include_annotations, state)
VALUES ($1, $2, $3, $4, $5, 1)
RETURNING *

-- name: export
SELECT * FROM export WHERE tenant = $1 AND project = $2 AND export = $3

-- name: list_exports
SELECT * FROM export WHERE tenant = $1 AND project = $2 AND export < $3 ORDER BY export DESC LIMIT $4

-- name: export_to_change
SELECT * FROM export WHERE tenant = $1 AND project = $2 AND export = $3 FOR NO KEY UPDATE

-- name: cancel_export
UPDATE export SET state = 4, ended_at = now(), worker = NULL WHERE tenant = $1 AND project = $2 AND export = $3
RETURNING *

-- name: claim_export
-- A running export whose worker has not been heard of for a while is taken over.
UPDATE export SET state = 2, worker = $1, worker_until = now() + make_interval(secs => $2),
       total = CASE WHEN state = 1 THEN (SELECT coalesce(sum(p.labels), 0) FROM progress p
                                         WHERE p.tenant = export.tenant AND p.project = export.project) ELSE total END
WHERE (tenant, project, export) = (
  SELECT e.tenant, e.project, e.export FROM export e
  WHERE e.state IN (1, 2) AND (e.worker_until IS NULL OR e.worker_until < now())
  ORDER BY e.created_at LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING *

-- name: keep_claim
UPDATE export SET worker_until = now() + make_interval(secs => $5)
WHERE tenant = $1 AND project = $2 AND export = $3 AND worker = $4 AND state = 2
RETURNING true

-- name: export_advanced
-- Nothing comes back when the export was cancelled, or taken over by another worker. What has come further has not failed.
WITH advanced AS (
  UPDATE export SET parts = $5, last_item = $6, last_question = $7, exported = $8, total = greatest(total, $8),
         all_written = $9, worker_until = now() + make_interval(secs => $10),
         failures = CASE WHEN $11::bigint > 0 THEN 0 ELSE failures END
  WHERE tenant = $1 AND project = $2 AND export = $3 AND worker = $4 AND state = 2
  RETURNING *
), written AS (
  INSERT INTO export_part (tenant, project, export, part, worker, size_bytes)
  SELECT tenant, project, export, parts - 1, worker, $11::bigint FROM advanced WHERE $11::bigint > 0
)
SELECT * FROM advanced

-- name: export_parts
SELECT part, worker, size_bytes FROM export_part WHERE tenant = $1 AND project = $2 AND export = $3 ORDER BY part

-- name: note_size
UPDATE export_part SET size_bytes = $5
WHERE tenant = $1 AND project = $2 AND export = $3 AND part = $4 AND size_bytes IS NULL

-- name: exports_to_tidy
-- Those that ended a while ago: whoever was writing has noticed by then.
SELECT * FROM export
WHERE ended_at < now() - make_interval(secs => $1) AND NOT tidied AND export > $2
ORDER BY export LIMIT $3

-- name: export_tidied
-- The parts of one without a file, or with one of its own, are gone.
WITH tidied AS (
  UPDATE export SET tidied = true, cleaned = true
  WHERE tenant = $1 AND project = $2 AND export = $3 AND ended_at IS NOT NULL
  RETURNING tenant, project, export, joined OR file_sha256 IS NULL AS emptied
)
DELETE FROM export_part p USING tidied t
WHERE t.emptied AND (p.tenant, p.project, p.export) = (t.tenant, t.project, t.export)

-- name: export_finished
UPDATE export SET state = 3, file_sha256 = $5, file_bytes = $6, joined = false, cleaned = true, total = exported, ended_at = now(),
       worker = NULL
WHERE tenant = $1 AND project = $2 AND export = $3 AND worker = $4 AND state = 2
RETURNING *

-- name: export_failed
-- Tried again a little later, until it has failed too often.
UPDATE export SET failures = failures + 1, worker = NULL,
       worker_until = now() + make_interval(secs => 2 ^ failures),
       state = CASE WHEN failures + 1 >= $5 THEN 5 ELSE state END,
       error = CASE WHEN failures + 1 >= $5 THEN $6::bytea END,
       ended_at = CASE WHEN failures + 1 >= $5 THEN now() END
WHERE tenant = $1 AND project = $2 AND export = $3 AND worker = $4 AND state = 2
RETURNING *
