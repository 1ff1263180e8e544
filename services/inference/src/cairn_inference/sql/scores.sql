-- name: items_to_score
-- Those that wait longest, in no order among them: nearly all are of one old round, and to sort it would be to read it.
-- Of features that the version does not read there is no vector.
SELECT i.item, i.validation, f.vector, o.probabilities AS out_of_fold
FROM (
    SELECT tenant, project, item, validation, spec FROM item
    WHERE tenant = $1 AND project = $2 AND scored_round < $3 AND feature_state = 1
    ORDER BY scored_round
    LIMIT $7
) AS i
LEFT JOIN feature f ON (f.tenant, f.project, f.item) = (i.tenant, i.project, i.item) AND i.spec = $4
LEFT JOIN out_of_fold o
    ON (o.tenant, o.project, o.item) = (i.tenant, i.project, i.item) AND o.model = $5 AND o.version = $6

-- name: keep_scores
-- By whole keys that come from one side: where projects are many each is believed to be small, and for items of a project
-- that is told beside them all of it would be read.
UPDATE item i SET scored_round = $3, predicted = s.predicted, score = s.score, margin = s.margin
FROM (
    SELECT $1::text AS tenant, $2::text AS project, scored.*
    FROM unnest($4::text[], $5::text[], $6::double precision[], $7::double precision[])
        AS scored (item, predicted, score, margin)
    OFFSET 0
) AS s
WHERE (i.tenant, i.project, i.item) = (s.tenant, s.project, s.item)

-- name: pass_over
UPDATE item SET scored_round = $3, predicted = NULL, score = NULL, margin = NULL
WHERE tenant = $1 AND project = $2 AND item = ANY ($4)
