-- name: upsert_project
INSERT INTO project (tenant, project, revision, question, unroutable, class_ids, alpha, delta, validation_share,
                     min_answers, max_answers, automatic, routed_question)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $4)
ON CONFLICT (tenant, project) DO UPDATE SET
    revision = excluded.revision, question = excluded.question, unroutable = excluded.unroutable,
    class_ids = excluded.class_ids, alpha = excluded.alpha, delta = excluded.delta,
    validation_share = excluded.validation_share, min_answers = excluded.min_answers,
    max_answers = excluded.max_answers, automatic = excluded.automatic,
    routed_question = coalesce(nullif(excluded.question, ''), project.routed_question)
WHERE project.revision < excluded.revision

-- name: lock_projects
-- In order, so that two batches do not wait for each other. Items may still be written beside it.
SELECT FROM project WHERE (tenant, project) IN (SELECT * FROM unnest($1::text[], $2::text[]))
ORDER BY tenant, project
FOR NO KEY UPDATE

-- name: projects
SELECT p.*, t.score AS threshold_score, t.created_at AS threshold_at, t.coverage AS threshold_coverage
FROM project p LEFT JOIN threshold t ON (t.tenant, t.project, t.threshold) = (p.tenant, p.project, p.threshold)
WHERE (p.tenant, p.project) IN (SELECT * FROM unnest($1::text[], $2::text[]))
    AND NOT EXISTS (SELECT FROM deleted_project d WHERE (d.tenant, d.project) = (p.tenant, p.project))

-- name: project_for_update
SELECT p.*, t.score AS threshold_score, t.created_at AS threshold_at, t.coverage AS threshold_coverage
FROM project p LEFT JOIN threshold t ON (t.tenant, t.project, t.threshold) = (p.tenant, p.project, p.threshold)
WHERE p.tenant = $1 AND p.project = $2
    AND NOT EXISTS (SELECT FROM deleted_project d WHERE (d.tenant, d.project) = (p.tenant, p.project))
FOR UPDATE OF p

-- name: close_project
-- It is to be deleted: nothing of it is featurised, scored, routed or trained any more.
WITH runs AS (
    UPDATE training_run SET state = 5, ended_at = now() WHERE tenant = $1 AND project = $2 AND state IN (1, 2)
)
UPDATE project SET question = '', unroutable = 'The project is deleted.', threshold = NULL, labels_changed = false
WHERE tenant = $1 AND project = $2

-- name: withdraw_threshold
-- The next round counts as one on fresh evidence.
UPDATE project SET threshold = NULL, validation_items = 0 WHERE tenant = $1 AND project = $2

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

-- name: insert_items
-- Those of the items that are not there yet. Where none is, COPY writes them in half the time.
INSERT INTO item (tenant, project, item, validation, gold, hint, content, body, blob, feature_state, feature_error,
                  route, route_revision, priority, open, label, label_source, label_confidence)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::boolean[], $5::boolean[], $6::double precision[],
                     $7::smallint[], $8::text[], $9::text[], $10::smallint[], $11::text[], $12::smallint[],
                     $13::bigint[], $14::double precision[], $15::boolean[], $16::text[], $17::smallint[],
                     $18::double precision[])
ON CONFLICT DO NOTHING
RETURNING tenant, project, item

-- name: known_items
SELECT tenant, project, item FROM item
WHERE (tenant, project, item) IN (SELECT * FROM unnest($1::text[], $2::text[], $3::text[]))

-- name: keep_labels
WITH heard AS (
    SELECT DISTINCT ON (tenant, project, item) *
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::smallint[], $6::double precision[],
                $7::bigint[]) AS h (tenant, project, item, label, source, confidence, revision)
    ORDER BY tenant, project, item, revision DESC
), changed AS (
    UPDATE item i SET label = h.label, label_source = h.source, label_confidence = h.confidence,
        label_revision = h.revision, open = false
    FROM heard h
    WHERE (i.tenant, i.project, i.item) = (h.tenant, h.project, h.item) AND i.label_revision < h.revision
    RETURNING i.tenant, i.project
)
UPDATE project p SET labels_changed = true
WHERE (p.tenant, p.project) IN (SELECT tenant, project FROM changed)

-- name: keep_other_labels
INSERT INTO other_label AS o (tenant, project, question, item, label, source, confidence, revision)
SELECT DISTINCT ON (tenant, project, question, item) *
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::smallint[], $7::double precision[],
            $8::bigint[]) AS h (tenant, project, question, item, label, source, confidence, revision)
ORDER BY tenant, project, question, item, revision DESC
ON CONFLICT (tenant, project, question, item) DO UPDATE SET
    label = excluded.label, source = excluded.source, confidence = excluded.confidence, revision = excluded.revision
WHERE o.revision < excluded.revision

-- name: items_to_featurise
-- Of projects that route a question only: in others all items are wanted, and none is taken.
SELECT wanted.*
FROM project p
CROSS JOIN LATERAL (
    SELECT i.tenant, i.project, i.item, i.content, i.body, i.blob, i.feature_tries, i.feature_after
    FROM item i
    WHERE i.tenant = p.tenant AND i.project = p.project AND i.feature_state = 0 AND i.feature_after <= now()
    ORDER BY i.feature_after
    LIMIT $1
) AS wanted
WHERE p.question <> ''
ORDER BY wanted.feature_after, wanted.tenant, wanted.project, wanted.item
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
SELECT i.item, i.spec, i.feature_state, i.feature_error, f.vector
FROM item i LEFT JOIN feature f USING (tenant, project, item)
WHERE i.tenant = $1 AND i.project = $2 AND i.item = ANY ($3)

-- name: projects_with_work
-- Every project that may have something to score, judge or route, with its serving version.
SELECT p.*, t.score AS threshold_score, t.created_at AS threshold_at, t.coverage AS threshold_coverage
FROM project p
LEFT JOIN threshold t ON (t.tenant, t.project, t.threshold) = (p.tenant, p.project, p.threshold)
WHERE p.question <> '' AND p.serving_version IS NOT NULL
ORDER BY p.tenant, p.project

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

-- name: validation_scores
SELECT i.item, i.predicted, i.score, i.label_source >= 2 AS labeled, l.item IS NOT NULL AS through, i.created_at
FROM item i
LEFT JOIN let_through l ON (l.tenant, l.project, l.question, l.item) = (i.tenant, i.project, $4, i.item)
WHERE i.tenant = $1 AND i.project = $2 AND i.validation AND i.scored_round = $3 AND i.score IS NOT NULL
ORDER BY i.item

-- name: let_through
-- What the threshold in force lets through of the validation sample, as far as it is scored; what went before, stays.
INSERT INTO let_through (tenant, project, question, item, answer, threshold)
SELECT i.tenant, i.project, p.routed_question, i.item, i.predicted, t.threshold
FROM project p
JOIN threshold t USING (tenant, project, threshold)
JOIN item i ON (i.tenant, i.project) = (p.tenant, p.project)
WHERE p.tenant = $1 AND p.project = $2 AND i.validation AND i.scored_round = p.score_round AND i.score >= t.score
    AND i.predicted = ANY (p.class_ids)
ON CONFLICT DO NOTHING

-- name: doubtful_validation
SELECT item FROM item
WHERE tenant = $1 AND project = $2 AND validation AND label_source = 2 AND label_confidence < $3 AND NOT answers_wished
ORDER BY item
LIMIT $4

-- name: answers_wished
UPDATE item SET answers_wished = true WHERE tenant = $1 AND project = $2 AND item = ANY ($3)

-- name: answers_let_through
SELECT item, answer FROM let_through WHERE tenant = $1 AND project = $2 AND question = $3 ORDER BY item

-- name: pool_items
SELECT count(*) FROM item WHERE tenant = $1 AND project = $2 AND NOT validation AND NOT gold

-- name: scores_since
SELECT score FROM item
WHERE tenant = $1 AND project = $2 AND NOT validation AND NOT gold AND scored_round = $3 AND created_at > $4 AND score IS NOT NULL

-- name: validation_features
-- A fixed random part of the sample that a threshold was set on.
SELECT vector FROM item JOIN feature USING (tenant, project, item)
WHERE tenant = $1 AND project = $2 AND validation AND scored_round = $3 AND created_at <= $4 AND score IS NOT NULL
ORDER BY md5(item), item
LIMIT $5

-- name: features_since
-- A fixed random part of what came later.
SELECT vector FROM item JOIN feature USING (tenant, project, item)
WHERE tenant = $1 AND project = $2 AND NOT validation AND NOT gold AND scored_round = $3 AND created_at > $4
    AND score IS NOT NULL
ORDER BY md5(item), item
LIMIT $5

-- name: open_coverage
SELECT coalesce(avg((score >= $4)::int), 0)::double precision
FROM item
WHERE tenant = $1 AND project = $2 AND open AND NOT validation AND scored_round = $3

-- name: insert_threshold
INSERT INTO threshold (tenant, project, threshold, score, alpha, delta, round, round_delta, validation_items,
                       validation_errors, error_upper_bound, coverage, model, version)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
RETURNING *

-- name: threshold
SELECT * FROM threshold WHERE tenant = $1 AND project = $2 AND threshold = $3

-- name: end_round
UPDATE project SET threshold = $3, thresholds = thresholds + 1, validation_round = validation_round + 1,
    validation_items = $4, validation_scores = score_round, route_round = route_round + 1,
    routed_scores = score_round, stop = CASE WHEN $3::bigint IS NULL THEN stop ELSE 0 END,
    stop_reason = CASE WHEN $3::bigint IS NULL THEN stop_reason ELSE '' END, drift_items = 0,
    stop_revision = stop_revision + CASE WHEN $3::bigint IS NOT NULL AND stop <> 0 THEN 1 ELSE 0 END
WHERE tenant = $1 AND project = $2

-- name: begin_routing_round
UPDATE project SET route_round = route_round + 1, routed_scores = score_round WHERE tenant = $1 AND project = $2

-- name: items_to_route
SELECT item, score, margin, predicted, gold, route, priority, route_revision
FROM item
WHERE tenant = $1 AND project = $2 AND open AND NOT validation AND routed_round < $3 AND scored_round = $4
ORDER BY routed_round, item
LIMIT $5
FOR UPDATE

-- name: keep_routes
UPDATE item i SET route = r.route, priority = r.priority, route_revision = r.revision, routed_round = $3,
    open = i.open AND r.route <> 1
FROM unnest($4::text[], $5::smallint[], $6::double precision[], $7::bigint[])
    AS r (item, route, priority, revision)
WHERE i.tenant = $1 AND i.project = $2 AND i.item = r.item

-- name: overdue_items
-- Items that waited too long for a score, or will get none: people must not wait for a model.
SELECT tenant, project, item, hint, route_revision
FROM item
WHERE route = 0 AND (created_at < now() - make_interval(secs => $1) OR feature_state = 2)
    AND NOT EXISTS (SELECT FROM deleted_project d WHERE (d.tenant, d.project) = (item.tenant, item.project))
ORDER BY created_at
LIMIT $2
FOR UPDATE SKIP LOCKED

-- name: send_to_people
UPDATE item i SET route = 2, priority = r.priority, route_revision = r.revision
FROM unnest($1::text[], $2::text[], $3::text[], $4::double precision[], $5::bigint[])
    AS r (tenant, project, item, priority, revision)
WHERE (i.tenant, i.project, i.item) = (r.tenant, r.project, r.item)

-- name: set_stop
UPDATE project SET stop = $3, stop_reason = $4, stop_revision = stop_revision + 1, threshold = NULL
WHERE tenant = $1 AND project = $2

-- name: clear_stop
-- The next round counts as one on fresh evidence.
UPDATE project SET stop = 0, stop_reason = '', stop_revision = stop_revision + 1, validation_items = 0
WHERE tenant = $1 AND project = $2

-- name: set_drift_items
UPDATE project SET drift_items = $3 WHERE tenant = $1 AND project = $2

-- name: projects_to_train
SELECT p.tenant, p.project FROM project p
WHERE p.labels_changed AND p.question <> ''
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
UPDATE project SET labels_changed = false WHERE tenant = $1 AND project = $2

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

-- name: training_rows
SELECT i.item, i.label, i.label_confidence, f.vector
FROM item i JOIN feature f USING (tenant, project, item)
WHERE i.tenant = $1 AND i.project = $2 AND i.label_source >= 2 AND NOT i.validation AND i.feature_state = 1
    AND i.spec = $3 AND i.label = ANY ($4)
ORDER BY md5(i.item), i.item
LIMIT $5

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

-- name: item_counts
SELECT count(*) FILTER (WHERE route = 1) AS auto, count(*) FILTER (WHERE validation) AS validation
FROM item WHERE tenant = $1 AND project = $2
