-- name: items_since
SELECT count(*) FROM item
WHERE tenant = $1 AND project = $2 AND NOT validation AND NOT gold AND scored_round = $3 AND created_at > $4
    AND score IS NOT NULL

-- name: scores_since
-- A fixed random part of what came later.
SELECT score FROM item
WHERE tenant = $1 AND project = $2 AND NOT validation AND NOT gold AND scored_round = $3 AND created_at > $4
    AND score IS NOT NULL
ORDER BY md5(item), item
LIMIT $5

-- name: validation_features
-- A fixed random part of the sample that a threshold was set on.
SELECT vector
FROM item i
CROSS JOIN LATERAL (
    SELECT vector FROM feature WHERE tenant = $1 AND project = $2 AND item = i.item LIMIT 1
) AS f
WHERE tenant = $1 AND project = $2 AND validation AND lot < $6 AND scored_round = $3 AND created_at <= $4
    AND score IS NOT NULL
ORDER BY md5(item), item
LIMIT $5

-- name: features_since
-- A fixed random part of what came later.
SELECT vector
FROM item i
CROSS JOIN LATERAL (
    SELECT vector FROM feature WHERE tenant = $1 AND project = $2 AND item = i.item LIMIT 1
) AS f
WHERE tenant = $1 AND project = $2 AND NOT validation AND NOT gold AND scored_round = $3 AND created_at > $4
    AND score IS NOT NULL
ORDER BY md5(item), item
LIMIT $5

-- name: set_drift_items
UPDATE project SET drift_items = $3 WHERE tenant = $1 AND project = $2
