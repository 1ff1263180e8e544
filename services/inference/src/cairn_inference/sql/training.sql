-- name: projects_to_train
-- `seen` is another one after every change of the project, and all who write labels or features of labeled items change it.
SELECT p.tenant, p.project, p.xmin::text AS seen FROM project p
WHERE p.labels_changed AND p.question <> '' AND p.moving_from IS NULL
    AND (p.trained_at IS NULL OR p.trained_at < now() - make_interval(secs => $1))
    AND NOT EXISTS (SELECT 1 FROM training_run r
                    WHERE (r.tenant, r.project) = (p.tenant, p.project) AND r.state IN (1, 2))
ORDER BY p.tenant, p.project

-- name: label_counts
SELECT spec, label, count(*) AS labels FROM item
WHERE tenant = $1 AND project = $2 AND label_source >= 2 AND NOT validation AND feature_state = 1
    AND label = ANY ($3)
GROUP BY spec, label

-- name: labels_counted
UPDATE project SET labels_changed = false WHERE tenant = $1 AND project = $2 AND xmin::text = $3

-- name: training_rows
SELECT i.item, i.label, i.label_confidence, f.vector
FROM item i
CROSS JOIN LATERAL (
    SELECT vector FROM feature WHERE tenant = $1 AND project = $2 AND item = i.item LIMIT 1
) AS f
WHERE i.tenant = $1 AND i.project = $2 AND i.label_source >= 2 AND NOT i.validation AND i.feature_state = 1
    AND i.spec = $3 AND i.label = ANY ($4)
ORDER BY md5(i.item), i.item
LIMIT $5

-- name: insert_run
INSERT INTO training_run (tenant, project, run, state, labels) VALUES ($1, $2, $3, 1, $4)
ON CONFLICT DO NOTHING
RETURNING *

-- name: note_run
UPDATE project SET labels_trained = $3, trained_at = now() WHERE tenant = $1 AND project = $2

-- name: next_run
-- Under the trainer's lock: a run that is RUNNING lost its process, and is begun again.
UPDATE training_run r SET state = 2, attempts = attempts + 1
WHERE (r.tenant, r.project, r.run) = (
    SELECT tenant, project, run FROM training_run WHERE state IN (1, 2) ORDER BY created_at LIMIT 1)
RETURNING *

-- name: run
SELECT * FROM training_run WHERE tenant = $1 AND project = $2 AND run = $3

-- name: run_for_update
SELECT * FROM training_run WHERE tenant = $1 AND project = $2 AND run = $3 FOR UPDATE

-- name: active_run
SELECT * FROM training_run WHERE tenant = $1 AND project = $2 AND state IN (1, 2) FOR UPDATE

-- name: runs
SELECT * FROM training_run WHERE tenant = $1 AND project = $2 AND run < $3 ORDER BY run DESC LIMIT $4

-- name: end_run
UPDATE training_run SET state = $4, model = $5, version = $6, error_code = $7, error_reason = $8,
    error_message = $9, labels = coalesce($10, labels), ended_at = now()
WHERE tenant = $1 AND project = $2 AND run = $3
RETURNING *
