-- Annotations.

-- name: limit_statements
SELECT set_config('statement_timeout', $1, true)

-- name: limit_transaction
SELECT set_config('statement_timeout', $1, true), set_config('transaction_timeout', $1, true)

-- name: insert_annotations
-- What a lease or a labeler answered before is left as it is: its row does not come back. Late is judged by the
-- database's clock. Rows of one lease or one labeler lie side by side, the first submitted first: of two in one
-- statement that one is kept, and two statements wait for each other and never deadlock.
INSERT INTO annotation (tenant, project, annotation, item, task, lease, labeler, kind, audit, answers, schema_version,
                        work_us, late, submitted_at)
SELECT a.tenant, a.project, a.annotation, a.item, a.task, a.lease, a.labeler, a.kind, a.audit, a.answers,
       a.schema_version, a.work_us, clock_timestamp() > a.expires_at, clock_timestamp()
FROM unnest($1::text[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::smallint[],
            $9::text[], $10::bytea[], $11::integer[], $12::bigint[], $13::timestamptz[])
     AS a (tenant, project, annotation, item, task, lease, labeler, kind, audit, answers, schema_version, work_us,
           expires_at)
ORDER BY a.tenant, a.project, a.item, a.labeler, a.annotation
ON CONFLICT DO NOTHING
RETURNING *

-- name: annotations_of_leases
SELECT a.* FROM annotation a JOIN unnest($1::text[], $2::text[]) AS k (tenant, lease) USING (tenant, lease)

-- name: annotation
SELECT * FROM annotation WHERE tenant = $1 AND project = $2 AND annotation = $3 AND item = $4

-- name: annotations_of_item
SELECT * FROM annotation WHERE tenant = $1 AND project = $2 AND item = $3 AND annotation > $4
ORDER BY annotation LIMIT $5

-- name: annotations_of_project
SELECT * FROM annotation WHERE tenant = $1 AND project = $2 AND annotation > $3 ORDER BY annotation LIMIT $4

-- name: answered_leases
-- Looked up one by one: where there are many tenants each is believed to be small, and all its annotations would be read.
SELECT a.*
FROM unnest($2::text[]) AS k (lease)
CROSS JOIN LATERAL (
  SELECT project, task, lease, late FROM annotation WHERE tenant = $1 AND lease = k.lease LIMIT 1) AS a
