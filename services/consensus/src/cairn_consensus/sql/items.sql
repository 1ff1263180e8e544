-- name: route_items
INSERT INTO item (tenant, project, item, auto, route_revision)
SELECT DISTINCT ON (item) $1, $2, * FROM unnest($3::text[], $4::boolean[], $5::bigint[]) AS heard (item, auto, route_revision)
ORDER BY item, route_revision DESC
ON CONFLICT (tenant, project, item) DO UPDATE
SET auto = excluded.auto, route_revision = excluded.route_revision
WHERE item.route_revision < excluded.route_revision
RETURNING item, auto

-- name: save_items
INSERT INTO item (tenant, project, item, state, revision, answers_wanted, concluded)
SELECT $1, $2, * FROM unnest($3::text[], $4::smallint[], $5::bigint[], $6::int[], $7::boolean[])
ON CONFLICT (tenant, project, item) DO UPDATE
SET state = excluded.state, revision = excluded.revision, answers_wanted = excluded.answers_wanted,
    concluded = excluded.concluded

-- name: save_decisions
INSERT INTO decision (tenant, project, item, question, answer, confidence)
SELECT $1, $2, * FROM unnest($3::text[], $4::text[], $5::bytea[], $6::double precision[])
ON CONFLICT (tenant, project, item, question) DO UPDATE SET answer = excluded.answer, confidence = excluded.confidence

-- name: items
SELECT item, state, revision, answers_wanted, auto, concluded FROM item
WHERE tenant = $1 AND project = $2 AND item = ANY ($3::text[])

-- name: decisions_of
SELECT item, question, answer, confidence FROM decision WHERE tenant = $1 AND project = $2 AND item = ANY ($3::text[])
