-- name: items_to_featurise
-- Of projects that route a question only: in others all items are wanted, and none is taken. The projects take turns: whoever
-- comes after an import of millions does not wait for it.
SELECT wanted.*
FROM project p
CROSS JOIN LATERAL (
    SELECT longest.*, row_number() OVER (ORDER BY longest.feature_after) AS turn
    FROM (
        SELECT i.tenant, i.project, i.item, i.content, i.body, i.blob, i.feature_tries, i.feature_after
        FROM item i
        WHERE i.tenant = p.tenant AND i.project = p.project AND i.feature_state = 0 AND i.feature_after <= now()
        ORDER BY i.feature_after
        LIMIT $1
    ) AS longest
) AS wanted
WHERE p.question <> ''
ORDER BY wanted.turn, wanted.feature_after, wanted.tenant, wanted.project, wanted.item
LIMIT $1

-- name: keep_features
-- Of items that have a label already there may be enough to train on now.
WITH made AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[])
        AS m (tenant, project, item, spec, vector)
), there AS (
    UPDATE item i SET feature_state = 1, spec = m.spec, body = NULL
    FROM made m
    WHERE (i.tenant, i.project, i.item) = (m.tenant, m.project, m.item)
    RETURNING i.tenant, i.project, i.label_source
), labeled AS (
    UPDATE project p SET labels_changed = true
    WHERE (p.tenant, p.project) IN (SELECT tenant, project FROM there WHERE label_source >= 2)
)
INSERT INTO feature (tenant, project, item, vector)
SELECT tenant, project, item, vector FROM made
ON CONFLICT (tenant, project, item) DO UPDATE SET vector = excluded.vector

-- name: give_up_features
UPDATE item i SET feature_state = 2, feature_error = g.why, body = NULL
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS g (tenant, project, item, why)
WHERE (i.tenant, i.project, i.item) = (g.tenant, g.project, g.item)

-- name: postpone_features
UPDATE item i SET feature_tries = feature_tries + 1,
    feature_after = now() + make_interval(secs => least(power(2, feature_tries), 60))
FROM unnest($1::text[], $2::text[], $3::text[]) AS g (tenant, project, item)
WHERE (i.tenant, i.project, i.item) = (g.tenant, g.project, g.item)

-- name: features_of
SELECT tenant, project, item, i.spec, i.feature_error, f.vector
FROM unnest($1::text[], $2::text[], $3::text[]) AS a (tenant, project, item)
JOIN item i USING (tenant, project, item)
LEFT JOIN feature f USING (tenant, project, item)
