-- name: validation_scores
-- $5 is the lot below which an item judges. Here and below what belongs to an item is looked up for each: where the planner
-- believes a project to be small it would read all of it for each item.
SELECT i.item, i.predicted, i.score, i.label_source >= 2 AS labeled, l.item IS NOT NULL AS through, i.created_at
FROM item i
LEFT JOIN LATERAL (
    SELECT item FROM let_through WHERE tenant = $1 AND project = $2 AND question = $4 AND item = i.item LIMIT 1
) AS l ON true
WHERE i.tenant = $1 AND i.project = $2 AND i.validation AND i.lot < $5 AND i.scored_round = $3
    AND i.score IS NOT NULL
ORDER BY i.item

-- name: settled_validation
SELECT count(*) FROM item
WHERE tenant = $1 AND project = $2 AND validation AND lot < $4 AND scored_round = $3 AND score IS NOT NULL
    AND label_source >= 2

-- name: doubtful_validation
-- Put in order when they are found: in order by their key all items of the project would be looked at.
SELECT item FROM (
    SELECT item FROM item
    WHERE tenant = $1 AND project = $2 AND validation AND lot < $3 AND label_source = 2 AND label_confidence < $4
        AND NOT answers_wished
    OFFSET 0
) AS doubtful
ORDER BY item
LIMIT $5

-- name: answers_wished
UPDATE item SET answers_wished = true WHERE tenant = $1 AND project = $2 AND item = ANY ($3)

-- name: let_through
-- What the threshold in force lets through of the validation sample, as far as it is scored; what went before, stays.
INSERT INTO let_through (tenant, project, question, item, answer, threshold)
SELECT i.tenant, i.project, p.routed_question, i.item, i.predicted, t.threshold
FROM project p
CROSS JOIN LATERAL (
    SELECT threshold, score FROM threshold
    WHERE tenant = p.tenant AND project = p.project AND threshold = p.threshold
    LIMIT 1
) AS t
JOIN item i ON (i.tenant, i.project) = (p.tenant, p.project)
WHERE p.tenant = $1 AND p.project = $2 AND i.validation AND i.scored_round = p.score_round AND i.score >= t.score
    AND i.predicted = ANY (p.class_ids)
ON CONFLICT DO NOTHING

-- name: let_through_of
-- The same of a batch that was scored just now. Its items are looked up one by one: else all of the validation sample would
-- be read, where the planner believes it to be small.
INSERT INTO let_through (tenant, project, question, item, answer, threshold)
SELECT i.tenant, i.project, p.routed_question, i.item, i.predicted, t.threshold
FROM project p
JOIN threshold t USING (tenant, project, threshold)
CROSS JOIN unnest($3::text[]) AS k (item)
CROSS JOIN LATERAL (SELECT * FROM item WHERE tenant = $1 AND project = $2 AND item = k.item LIMIT 1) AS i
WHERE p.tenant = $1 AND p.project = $2 AND i.validation AND i.scored_round = p.score_round AND i.score >= t.score
    AND i.predicted = ANY (p.class_ids)
ON CONFLICT DO NOTHING

-- name: answers_let_through
SELECT l.item, l.answer
FROM let_through l
CROSS JOIN LATERAL (SELECT lot FROM item WHERE tenant = $1 AND project = $2 AND item = l.item LIMIT 1) AS i
WHERE l.tenant = $1 AND l.project = $2 AND l.question = $3 AND i.lot < $4
ORDER BY l.item

-- name: pool_items
SELECT count(*) FROM item WHERE tenant = $1 AND project = $2 AND NOT validation AND NOT gold

-- name: open_coverage
SELECT coalesce(avg((score >= $4)::int), 0)::double precision
FROM item
WHERE tenant = $1 AND project = $2 AND open AND NOT validation AND feature_state = 1 AND scored_round = $3

-- name: insert_threshold
INSERT INTO threshold (tenant, project, threshold, score, alpha, delta, round, round_delta, validation_items,
                       validation_errors, error_upper_bound, coverage, model, version)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
RETURNING *

-- name: end_round
UPDATE project SET threshold = $3, thresholds = thresholds + 1, validation_round = validation_round + 1,
    validation_items = $4, validation_scores = score_round, route_round = route_round + 1,
    routed_scores = score_round, stop = CASE WHEN $3::bigint IS NULL THEN stop ELSE 0 END,
    stop_reason = CASE WHEN $3::bigint IS NULL THEN stop_reason ELSE '' END, drift_items = 0,
    stop_revision = stop_revision + CASE WHEN $3::bigint IS NOT NULL AND stop <> 0 THEN 1 ELSE 0 END
WHERE tenant = $1 AND project = $2

-- name: threshold
SELECT * FROM threshold WHERE tenant = $1 AND project = $2 AND threshold = $3

-- name: withdraw_threshold
-- The next round counts as one on fresh evidence.
UPDATE project SET threshold = NULL, validation_items = 0 WHERE tenant = $1 AND project = $2
