-- name: next_version
SELECT coalesce(max(version), 0) + 1 FROM model_version WHERE tenant = $1 AND project = $2 AND model = $3

-- name: insert_version
INSERT INTO model_version (tenant, project, model, version, state, sha256, features, class_ids, training_labels,
                           accuracy, log_loss, calibration_error, evaluated_labels, temperature, training_run)
VALUES ($1, $2, $3, $4, 1, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
RETURNING *

-- name: insert_out_of_fold
INSERT INTO out_of_fold (tenant, project, model, version, item, probabilities)
SELECT $1, $2, $3, $4, * FROM unnest($5::text[], $6::bytea[])

-- name: out_of_fold
SELECT item, probabilities FROM out_of_fold
WHERE tenant = $1 AND project = $2 AND model = $3 AND version = $4 AND item = ANY ($5)

-- name: version
SELECT * FROM model_version WHERE tenant = $1 AND project = $2 AND model = $3 AND version = $4

-- name: versions_asked
-- Of each project that is there: the version that is asked for, or, when none is named, the one that serves.
SELECT a.place, v.*
FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) WITH ORDINALITY
    AS a (tenant, project, model, version, place)
JOIN project p ON (p.tenant, p.project) = (a.tenant, a.project)
LEFT JOIN LATERAL (
    SELECT * FROM model_version
    WHERE tenant = p.tenant AND project = p.project AND model = coalesce(a.model, p.serving_model)
        AND version = coalesce(a.version, p.serving_version)
    LIMIT 1  -- looked up: else all of the project's would be read, where the planner believes it to have few
) AS v ON true
WHERE NOT EXISTS (SELECT FROM deleted_project d WHERE (d.tenant, d.project) = (p.tenant, p.project))

-- name: versions
SELECT * FROM model_version
WHERE tenant = $1 AND project = $2 AND ($3 = '-' OR model = $3) AND (created_at, model, version) < ($4, $5, $6)
ORDER BY created_at DESC, model DESC, version DESC
LIMIT $7

-- name: retire_serving
UPDATE model_version SET state = 3 WHERE tenant = $1 AND project = $2 AND state = 2 RETURNING model, version

-- name: make_serving
UPDATE model_version SET state = 2 WHERE tenant = $1 AND project = $2 AND model = $3 AND version = $4 RETURNING *

-- name: begin_scoring_round
UPDATE project SET serving_model = $3, serving_version = $4, threshold = NULL, score_round = score_round + 1,
    drift_items = 0
WHERE tenant = $1 AND project = $2
