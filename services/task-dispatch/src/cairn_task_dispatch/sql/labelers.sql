-- name: labelers
SELECT l.tenant, l.labeler, l.skills, l.suspended, l.revision
FROM unnest($1::text[], $2::text[]) AS k(tenant, labeler)
JOIN labeler l USING (tenant, labeler)

-- name: list_labelers
SELECT labeler, skills, suspended, revision
FROM labeler
WHERE tenant = $1 AND labeler > $2
ORDER BY labeler
LIMIT $3

-- $3 and $4 are NULL where the labeler keeps what they have; $5 is the revision that must stand (0: none), or NULL.
-- name: save_labeler
INSERT INTO labeler AS l (tenant, labeler, skills, suspended)
SELECT $1, $2, coalesce($3::text[], '{}'), coalesce($4::bool, false)
WHERE coalesce($5::bigint, 0) = 0 OR EXISTS (SELECT FROM labeler WHERE tenant = $1 AND labeler = $2)
ON CONFLICT (tenant, labeler) DO UPDATE
SET skills = coalesce($3, l.skills), suspended = coalesce($4, l.suspended), revision = l.revision + 1
WHERE $5 IS NULL OR l.revision = $5
RETURNING labeler, skills, suspended, revision
