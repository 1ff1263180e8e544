-- name: upsert_project
INSERT INTO project (tenant, project, revision, question, unroutable, class_ids, alpha, delta, validation_share,
                     smallest_share, min_answers, max_answers, automatic, routed_question)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10, $11, $12, $4)
ON CONFLICT (tenant, project) DO UPDATE SET
    revision = excluded.revision, question = excluded.question, unroutable = excluded.unroutable,
    class_ids = excluded.class_ids, alpha = excluded.alpha, delta = excluded.delta,
    validation_share = excluded.validation_share,
    -- The evidence of the last round was of more items than those that judge from now on.
    validation_items = CASE WHEN excluded.validation_share < project.smallest_share THEN 0 ELSE project.validation_items END,
    smallest_share = least(project.smallest_share, excluded.validation_share), min_answers = excluded.min_answers,
    max_answers = excluded.max_answers, automatic = excluded.automatic
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
WHERE p.question <> '' AND p.serving_version IS NOT NULL AND p.moving_from IS NULL
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

-- name: begin_move
-- Labels and scores are of question $3 from now on. What was learned of the other is dropped, and the items follow. The
-- scoring round ends, so that scores which the old version is just giving are not written.
WITH versions AS (
    UPDATE model_version SET state = 3 WHERE tenant = $1 AND project = $2 AND state = 2
)
UPDATE project SET moving_from = routed_question, moved_until = '', moving_since = NULL, routed_question = $3,
    serving_model = NULL, serving_version = NULL, threshold = NULL, labels_trained = 0, score_round = score_round + 1
WHERE tenant = $1 AND project = $2

-- name: projects_moving
SELECT tenant, project FROM project p
WHERE moving_from IS NOT NULL
    AND NOT EXISTS (SELECT FROM deleted_project d WHERE (d.tenant, d.project) = (p.tenant, p.project))
ORDER BY tenant, project

-- name: see_move
UPDATE project SET moving_since = clock_timestamp() WHERE tenant = $1 AND project = $2

-- name: older_runs
-- Whether a transaction of ours runs that may have begun without seeing the move.
SELECT EXISTS (SELECT FROM pg_stat_activity
               WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()
                 AND xact_start <= $1)

-- name: move_items
-- The labels of $3 are put aside for those of $4, and the scores are dropped. Whatever is looked up is by whole keys, which
-- all come from `these`: where projects are many the planner believes each to be small, and would read all of it for each item.
WITH these AS (
    SELECT tenant, project, $4::text AS question, item, label, label_source, label_confidence, label_revision FROM item
    WHERE tenant = $1 AND project = $2 AND item > $5
    ORDER BY item
    LIMIT $6
), aside AS (
    INSERT INTO other_label AS o (tenant, project, question, item, label, source, confidence, revision)
    SELECT tenant, project, $3::text, item, label, label_source, label_confidence, label_revision
    FROM these
    WHERE label_revision > 0 AND $3 <> ''
    ON CONFLICT (tenant, project, question, item) DO UPDATE SET label = excluded.label, source = excluded.source,
        confidence = excluded.confidence, revision = excluded.revision
    WHERE o.revision < excluded.revision
), taken AS (
    DELETE FROM other_label o USING these t
    WHERE (o.tenant, o.project, o.question, o.item) = (t.tenant, t.project, t.question, t.item)
), moved AS (
    UPDATE item i SET scored_round = 0, predicted = NULL, score = NULL, margin = NULL,
        open = i.route <> 1 AND s.item IS NULL, label = s.label, label_source = coalesce(s.source, 0),
        label_confidence = coalesce(s.confidence, 0), label_revision = coalesce(s.revision, 0)
    FROM these t
    LEFT JOIN LATERAL (
        SELECT * FROM other_label
        WHERE tenant = t.tenant AND project = t.project AND question = t.question AND item = t.item
        LIMIT 1
    ) AS s ON true
    WHERE (i.tenant, i.project, i.item) = (t.tenant, t.project, t.item)
)
SELECT count(*) AS items, max(item) AS last FROM these

-- name: note_moved
UPDATE project SET moved_until = $3 WHERE tenant = $1 AND project = $2

-- name: end_move
UPDATE project SET moving_from = NULL, moved_until = NULL, moving_since = NULL, labels_changed = true
WHERE tenant = $1 AND project = $2

-- name: close_project
-- It is to be deleted: nothing of it is featurised, scored, routed or trained any more.
WITH runs AS (
    UPDATE training_run SET state = 5, ended_at = now() WHERE tenant = $1 AND project = $2 AND state IN (1, 2)
)
UPDATE project SET question = '', unroutable = 'The project is deleted.', threshold = NULL, labels_changed = false
WHERE tenant = $1 AND project = $2
