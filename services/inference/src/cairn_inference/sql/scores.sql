-- name: items_to_score
SELECT i.item, i.validation, f.vector, o.probabilities AS out_of_fold
FROM item i
JOIN feature f USING (tenant, project, item)
LEFT JOIN out_of_fold o
    ON (o.tenant, o.project, o.item) = (i.tenant, i.project, i.item) AND o.model = $5 AND o.version = $6
WHERE i.tenant = $1 AND i.project = $2 AND i.scored_round < $3 AND i.feature_state = 1 AND i.spec = $4
ORDER BY i.scored_round, i.item
LIMIT $7

-- name: keep_scores
UPDATE item i SET scored_round = $3, predicted = s.predicted, score = s.score, margin = s.margin
FROM unnest($4::text[], $5::text[], $6::double precision[], $7::double precision[])
    AS s (item, predicted, score, margin)
WHERE i.tenant = $1 AND i.project = $2 AND i.item = s.item

-- name: pass_over_other_features
-- Items of another kind of content than the version reads get no score from it.
UPDATE item SET scored_round = $3, predicted = NULL, score = NULL, margin = NULL
WHERE tenant = $1 AND project = $2 AND scored_round < $3 AND feature_state = 1 AND spec <> $4
