-- Projects, what of their schema is in use, their progress, and the items to recount. A project that is being deleted is
-- there for those alone who tell how far that has come.
--
-- Who changes a project waits for those who use it, and those who come later wait in turn. Locks on the row would not have
-- them wait: while it is shared anybody may share it, and in a crowd somebody always does. So before the row everybody
-- takes an advisory lock, for which they queue. There are 1,024 in all, so that many projects do not fill the lock table; that
-- two projects meet in one does no harm.

-- name: insert_project
INSERT INTO project (tenant, project, revision, schema_version, body)
VALUES ($1, $2, 1, 1, $3)
ON CONFLICT DO NOTHING
RETURNING *

-- name: project
SELECT * FROM project p WHERE tenant = $1 AND project = $2
  AND NOT EXISTS (SELECT FROM deleted_project d WHERE d.tenant = p.tenant AND d.project = p.project)

-- name: project_even_if_deleting
SELECT * FROM project WHERE tenant = $1 AND project = $2

-- name: project_to_delete
WITH gate AS MATERIALIZED (
  SELECT pg_advisory_xact_lock(hashtext(current_schema()), hashtext($1 || '/' || $2) & 1023)::text
)
SELECT p.* FROM project p, gate WHERE p.tenant = $1 AND p.project = $2
FOR NO KEY UPDATE OF p

-- name: deletions
-- Rows of later revisions of labels are not counted before they are found.
SELECT d.project, d.requested_at, d.deleted,
       greatest(d.deleted, (SELECT sum(p.items + p.annotations + p.labels)::bigint FROM progress p
                            WHERE p.tenant = d.tenant AND p.project = d.project)) AS total
FROM deleted_project d WHERE d.tenant = $1 AND d.project = ANY ($2::text[])

-- name: project_to_change
WITH gate AS MATERIALIZED (
  SELECT pg_advisory_xact_lock(hashtext(current_schema()), hashtext($1 || '/' || $2) & 1023)::text
)
SELECT p.* FROM project p, gate WHERE p.tenant = $1 AND p.project = $2
  AND NOT EXISTS (SELECT FROM deleted_project d WHERE d.tenant = p.tenant AND d.project = p.project)
FOR NO KEY UPDATE OF p

-- name: projects_in_use
-- Share-locked, so that no schema changes and no project is archived until the caller's transaction ends.
-- A body that the caller has already (same revision) is not sent again.
WITH gate AS MATERIALIZED (
  SELECT k.*, pg_advisory_xact_lock_shared(hashtext(current_schema()), hashtext(k.tenant || '/' || k.project) & 1023)::text
  FROM unnest($1::text[], $2::text[], $3::bigint[]) AS k (tenant, project, revision)
)
SELECT p.tenant, p.project, p.revision, p.schema_version, p.archived, p.created_at, p.updated_at,
       CASE WHEN p.revision = k.revision THEN NULL ELSE p.body END AS body
FROM project p JOIN gate k ON p.tenant = k.tenant AND p.project = k.project
WHERE NOT EXISTS (SELECT FROM deleted_project d WHERE d.tenant = p.tenant AND d.project = p.project)
ORDER BY p.tenant, p.project
FOR SHARE OF p

-- name: list_projects
SELECT * FROM project
WHERE tenant = $1 AND project > $2 AND ($3::text[] IS NULL OR project = ANY ($3))
ORDER BY project LIMIT $4

-- name: update_project
UPDATE project SET revision = revision + 1, schema_version = $3, archived = $4, body = $5, updated_at = now()
WHERE tenant = $1 AND project = $2
RETURNING *

-- name: schema_uses
SELECT question, facet, name FROM schema_use WHERE tenant = $1 AND project = $2

-- name: add_schema_uses
INSERT INTO schema_use (tenant, project, question, facet, name)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
ON CONFLICT DO NOTHING

-- name: progress
SELECT coalesce(sum(items), 0)::bigint AS items, coalesce(sum(auto_items), 0)::bigint AS auto_items,
       coalesce(sum(consensus_items), 0)::bigint AS consensus_items,
       coalesce(sum(gold_items), 0)::bigint AS gold_items,
       coalesce(sum(corrected_items), 0)::bigint AS corrected_items,
       coalesce(sum(annotations), 0)::bigint AS annotations,
       coalesce(sum(label_annotations), 0)::bigint AS label_annotations,
       coalesce(sum(late_annotations), 0)::bigint AS late_annotations, now() AS as_of
FROM progress WHERE tenant = $1 AND project = $2

-- name: ask_for_recount
INSERT INTO recount (tenant, project) VALUES ($1, $2)
ON CONFLICT (tenant, project) DO UPDATE SET last_item = ''

-- name: recount_to_do
SELECT tenant, project, last_item FROM recount LIMIT 1 FOR UPDATE SKIP LOCKED

-- name: items_to_recount
SELECT item FROM item WHERE tenant = $1 AND project = $2 AND item > $3 ORDER BY item LIMIT $4 FOR NO KEY UPDATE

-- name: recount_advanced
UPDATE recount SET last_item = $3 WHERE tenant = $1 AND project = $2

-- name: recount_done
DELETE FROM recount WHERE tenant = $1 AND project = $2
