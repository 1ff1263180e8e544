-- name: upsert_project
INSERT INTO project (tenant, project, revision, question, unroutable, class_ids, alpha, delta, validation_share,
                     smallest_share, min_answers, max_answers, automatic, routed_question)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10, $11, $12, $4)
ON CONFLICT (tenant, project) DO UPDATE SET
    revision = excluded.revision, question = excluded.question, unroutable = excluded.unroutable,
    class_ids = excluded.class_ids, alpha = excluded.alpha, delta = excluded.delta,
    validation_share = excluded.validation_share,
    smallest_share = least(project.smallest_share, excluded.validation_share), min_answers = excluded.min_answers,
    max_answers = excluded.max_answers, automatic = excluded.automatic,
    routed_question = coalesce(nullif(excluded.question, ''), project.routed_question)
WHERE project.revision < excluded.revision

-- name: projects
SELECT p.*, t.score AS threshold_score, t.created_at AS threshold_at, t.coverage AS threshold_coverage
FROM project p LEFT JOIN threshold t ON (t.tenant, t.project, t.threshold) = (p.tenant, p.project, p.threshold)
WHERE (p.tenant, p.project) IN (SELECT * FROM unnest($1::text[], $2::text[]))
    AND NOT EXISTS (SELECT FROM deleted_project d WHERE (d.tenant, d.project) = (p.tenant, p.project))

-- name: projects_with_work
-- Every project that may have something to score, judge or route, with its serving version.
SELECT p.*, t.score AS threshold_score, t.created_at AS threshold_at, t.coverage AS threshold_coverage
FROM project p
LEFT JOIN threshold t ON (t.tenant, t.project, t.threshold) = (p.tenant, p.project, p.threshold)
WHERE p.question <> '' AND p.serving_version IS NOT NULL
ORDER BY p.tenant, p.project

-- name: project_for_update
SELECT p.*, t.score AS threshold_score, t.created_at AS threshold_at, t.coverage AS threshold_coverage
FROM project p LEFT JOIN threshold t ON (t.tenant, t.project, t.threshold) = (p.tenant, p.project, p.threshold)
WHERE p.tenant = $1 AND p.project = $2
    AND NOT EXISTS (SELECT FROM deleted_project d WHERE (d.tenant, d.project) = (p.tenant, p.project))
FOR UPDATE OF p

-- name: lock_projects
-- In order, so that two batches do not wait for each other. Items may still be written beside it.
SELECT FROM project WHERE (tenant, project) IN (SELECT * FROM unnest($1::text[], $2::text[]))
ORDER BY tenant, project
FOR NO KEY UPDATE

-- name: route_question
-- Question $4 is routed from now on, not $3: labels of $3 are put aside for those of $4, and what was learned is dropped.
-- The scoring round ends, so that scores which the old version is just giving are not written.
WITH aside AS (
    INSERT INTO other_label (tenant, project, question, item, label, source, confidence, revision)
    SELECT tenant, project, $3, item, label, label_source, label_confidence, label_revision
    FROM item
    WHERE tenant = $1 AND project = $2 AND label_revision > 0 AND $3 <> ''
), standing AS (
    DELETE FROM other_label WHERE tenant = $1 AND project = $2 AND question = $4
    RETURNING item, label, source, confidence, revision
), items AS (
    UPDATE item i SET scored_round = 0, predicted = NULL, score = NULL, margin = NULL,
        open = i.route <> 1 AND s.item IS NULL, label = s.label, label_source = coalesce(s.source, 0),
        label_confidence = coalesce(s.confidence, 0), label_revision = coalesce(s.revision, 0)
    FROM item e LEFT JOIN standing s USING (item)
    WHERE e.tenant = $1 AND e.project = $2 AND (i.tenant, i.project, i.item) = (e.tenant, e.project, e.item)
), versions AS (
    UPDATE model_version SET state = 3 WHERE tenant = $1 AND project = $2 AND state = 2
)
UPDATE project SET serving_model = NULL, serving_version = NULL, threshold = NULL, labels_trained = 0,
    labels_changed = true, score_round = score_round + 1
WHERE tenant = $1 AND project = $2

-- name: close_project
-- It is to be deleted: nothing of it is featurised, scored, routed or trained any more.
WITH runs AS (
    UPDATE training_run SET state = 5, ended_at = now() WHERE tenant = $1 AND project = $2 AND state IN (1, 2)
)
UPDATE project SET question = '', unroutable = 'The project is deleted.', threshold = NULL, labels_changed = false
WHERE tenant = $1 AND project = $2
