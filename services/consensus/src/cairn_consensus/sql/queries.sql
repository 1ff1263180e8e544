-- name: stay
-- To the server a session that says nothing is idle, whatever is computed for it.
SELECT

-- name: begin_share
-- Skipped while a transaction of the keeper before is still under way.
UPDATE share SET epoch = epoch + 1
WHERE share = (SELECT share FROM share WHERE share = $1 FOR UPDATE SKIP LOCKED)
RETURNING epoch

-- name: hold_shares
SELECT share FROM share JOIN unnest($1::smallint[], $2::bigint[]) AS mine (share, epoch) USING (share, epoch)
ORDER BY share
FOR SHARE OF share

-- name: upsert_projects
INSERT INTO project (tenant, project, revision, body, fewest_answers)
SELECT DISTINCT ON (tenant, project) tenant, project, revision, body, min(fewest) OVER (PARTITION BY tenant, project)
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bytea[], $5::int[]) AS heard (tenant, project, revision, body, fewest)
ORDER BY tenant, project, revision DESC
ON CONFLICT (tenant, project) DO UPDATE
SET revision = greatest(project.revision, excluded.revision),
    body = CASE WHEN project.revision < excluded.revision THEN excluded.body ELSE project.body END,
    fewest_answers = least(project.fewest_answers, excluded.fewest_answers)

-- name: fewest_answers
SELECT fewest_answers FROM project WHERE tenant = $1 AND project = $2

-- name: project
SELECT body FROM project WHERE tenant = $1 AND project = $2

-- name: known_projects
SELECT tenant, project, body FROM project JOIN unnest($1::text[], $2::text[]) AS wanted (tenant, project) USING (tenant, project)

-- name: deleted_projects
SELECT tenant, project FROM deleted_project JOIN unnest($1::text[], $2::text[]) AS wanted (tenant, project) USING (tenant, project)

-- name: insert_annotations
INSERT INTO annotation (tenant, project, annotation, kind)
SELECT $1, $2, * FROM unnest($3::text[], $4::smallint[])
ON CONFLICT DO NOTHING
RETURNING kind

-- name: insert_votes
INSERT INTO vote (tenant, project, item, question, labeler, annotation, answer)
SELECT $1, $2, * FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[])
ON CONFLICT DO NOTHING
RETURNING item, question, labeler

-- name: upsert_scores
INSERT INTO score (tenant, project, item, question, model, revision, probabilities, class_ids)
SELECT $1, $2, item, $3, $4, $5, (SELECT array_agg(p ORDER BY place) FROM unnest(($7::real[])[(row - 1) * $8 + 1 : row * $8]) WITH ORDINALITY AS value (p, place)), $9::text[]
FROM unnest($6::text[]) WITH ORDINALITY AS heard (item, row)
ON CONFLICT (tenant, project, item, question) DO UPDATE
SET model = excluded.model, revision = excluded.revision, probabilities = excluded.probabilities, class_ids = excluded.class_ids
WHERE score.revision < excluded.revision
RETURNING item

-- name: upsert_truths
INSERT INTO truth (tenant, project, item, question, answer, rank, time)
SELECT DISTINCT ON (item, question) $1, $2, * FROM unnest($3::text[], $4::text[], $5::bytea[], $6::smallint[], $7::timestamptz[])
  AS heard (item, question, answer, rank, time)
ORDER BY item, question, rank DESC, time DESC
ON CONFLICT (tenant, project, item, question) DO UPDATE
SET answer = excluded.answer, rank = excluded.rank, time = excluded.time
WHERE (truth.rank, truth.time) < (excluded.rank, excluded.time)
RETURNING item, question

-- name: route_items
INSERT INTO item (tenant, project, item, auto, route_revision)
SELECT DISTINCT ON (item) $1, $2, * FROM unnest($3::text[], $4::boolean[], $5::bigint[]) AS heard (item, auto, route_revision)
ORDER BY item, route_revision DESC
ON CONFLICT (tenant, project, item) DO UPDATE
SET auto = excluded.auto, route_revision = excluded.route_revision
WHERE item.route_revision < excluded.route_revision
RETURNING item, auto

-- name: save_items
INSERT INTO item (tenant, project, item, state, revision, answers_wanted, concluded)
SELECT $1, $2, * FROM unnest($3::text[], $4::smallint[], $5::bigint[], $6::int[], $7::boolean[])
ON CONFLICT (tenant, project, item) DO UPDATE
SET state = excluded.state, revision = excluded.revision, answers_wanted = excluded.answers_wanted,
    concluded = excluded.concluded

-- name: save_decisions
INSERT INTO decision (tenant, project, item, question, answer, confidence)
SELECT $1, $2, * FROM unnest($3::text[], $4::text[], $5::bytea[], $6::double precision[])
ON CONFLICT (tenant, project, item, question) DO UPDATE SET answer = excluded.answer, confidence = excluded.confidence

-- name: save_refit
INSERT INTO refit (tenant, project, refit, votes, labelers, changed_items, state, state_sha256)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (tenant, project) DO UPDATE
SET refit = excluded.refit, votes = excluded.votes, labelers = excluded.labelers, changed_items = excluded.changed_items,
    state = excluded.state, state_sha256 = excluded.state_sha256, create_time = now()

-- name: ask_for_refit
INSERT INTO refitting (tenant, project) VALUES ($1, $2) ON CONFLICT DO NOTHING

-- name: asked_by
SELECT number FROM asked_refit WHERE tenant = $1 AND project = $2 AND concludes = $3 AND requests && $4::text[]
ORDER BY number DESC LIMIT 1

-- name: note_asked_again
-- What they asked for, or what has taken it over, is wanted still.
UPDATE asked_refit SET last_asked_at = now()
WHERE tenant = $1 AND project = $2 AND number >= $3 AND concludes = $4 AND ended_at IS NULL

-- name: join_asked_refit
-- Who asks anew has what came to nothing tried at once.
UPDATE asked_refit SET requests = requests || $4::text[], tries = 0, failures = 0, not_before = now(), last_asked_at = now()
WHERE tenant = $1 AND project = $2 AND number = (
  SELECT min(number) FROM asked_refit
  WHERE tenant = $1 AND project = $2 AND concludes = $3 AND ended_at IS NULL
    AND (project_revision IS NULL OR (votes, project_revision) = ($5, $6)))
RETURNING number

-- name: begin_asked_refit
INSERT INTO asked_refit (tenant, project, concludes, requests) VALUES ($1, $2, $3, $4) RETURNING number

-- name: forgettable_refits
-- Those of projects that are gone, too: a release that did not know the table has deleted the rest.
SELECT tenant, project, number FROM asked_refit
WHERE ended_at < now() - make_interval(secs => $1)
   OR NOT EXISTS (SELECT FROM project WHERE (project.tenant, project.project) = (asked_refit.tenant, asked_refit.project))
LIMIT $2

-- name: forget_undecided
DELETE FROM undecided_item WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM undecided_item WHERE tenant = $1 AND project = $2 AND number = $3 LIMIT $4))

-- name: forget_asked_refit
DELETE FROM asked_refit WHERE tenant = $1 AND project = $2 AND number = $3

-- name: asked_refit
-- Who waits for one that was taken over is told of the first that has ended and serves them: a conclusion is a refit, too.
-- Until then they wait for the next of their own kind.
SELECT number, ended_at IS NOT NULL AS ended, failures, tries,
       extract(epoch FROM not_before - clock_timestamp())::double precision AS put_off,
       judged_until, changed_items, announced_labels, concludes, refit, asked_refit.votes
FROM asked_refit JOIN project USING (tenant, project)
WHERE tenant = $1 AND project = $2 AND number >= $3 AND concludes >= $4 AND (ended_at IS NULL OR refit > 0)
ORDER BY ended_at, concludes, number LIMIT 1

-- name: refits_under_way
SELECT tenant, project, number, not_before <= now() AS due, NULL AS asked_at FROM asked_refit JOIN project USING (tenant, project)
WHERE ended_at IS NULL
UNION ALL
SELECT tenant, project, NULL, not_before <= now(), asked_at FROM refitting JOIN project USING (tenant, project)
ORDER BY number, asked_at

-- name: note_try
-- The next try, should this one come to nothing, waits ten seconds, then twice as long each time, an hour at most.
UPDATE refitting SET tries = tries + 1, not_before = now() + least(interval '5 s' * 2 ^ least(tries + 1, 10), interval '1 h')
WHERE tenant = $1 AND project = $2

-- name: note_asked_try
UPDATE asked_refit SET tries = tries + 1, not_before = now() + least(interval '5 s' * 2 ^ least(tries + 1, 10), interval '1 h')
WHERE tenant = $1 AND project = $2 AND number = $3

-- name: note_left
-- Whoever keeps the project now need not wait.
UPDATE refitting SET tries = greatest(tries - 1, 0), not_before = now() WHERE tenant = $1 AND project = $2

-- name: note_asked_left
UPDATE asked_refit SET tries = greatest(tries - 1, 0), not_before = now()
WHERE tenant = $1 AND project = $2 AND number = $3 AND ended_at IS NULL

-- name: note_failure
-- Tried again as late as after so many deaths. What its fit owes is owed no longer by it alone.
WITH failed AS (
  UPDATE asked_refit
  SET tries = 0, failures = failures + 1,
      not_before = now() + least(interval '5 s' * 2 ^ least(failures + 1, 10), interval '1 h')
  WHERE tenant = $1 AND project = $2 AND number = $3)
UPDATE refitting SET not_before = now() WHERE tenant = $1 AND project = $2 AND judged_until = ''

-- name: refit_under_way
SELECT judged_until, changed_items FROM refitting WHERE tenant = $1 AND project = $2

-- name: asked_refit_under_way
-- The last of the tries is under way: more than two before it came to nothing.
SELECT judged_until, changed_items, announced_labels, concludes, refit, votes,
       concludes AND (failures > 0 OR tries > 3) AND last_asked_at < now() - interval '1 h' AS forsaken
FROM asked_refit
WHERE tenant = $1 AND project = $2 AND number = $3 AND ended_at IS NULL

-- name: note_step
-- What comes next is tried for the first time then, and waits as long, should it come to nothing.
UPDATE refitting SET judged_until = $3, changed_items = $4, tries = 1, not_before = clock_timestamp() + interval '10 s'
WHERE tenant = $1 AND project = $2

-- name: note_asked_step
-- A fit alone is no way out of failures: made anew each time, it would be all that is done.
UPDATE asked_refit
SET judged_until = $4, changed_items = $5, announced_labels = $6, refit = $7, votes = $8,
    tries = 1, failures = CASE WHEN $4 > '' THEN 0 ELSE failures END, not_before = clock_timestamp() + interval '10 s'
WHERE tenant = $1 AND project = $2 AND number = $3

-- name: note_fit_begun
-- It does what those of its kind before it were asked for.
WITH begun AS (
  UPDATE asked_refit SET votes = $4, project_revision = $5 WHERE tenant = $1 AND project = $2 AND number = $3
  RETURNING tenant, project, number, concludes)
UPDATE asked_refit AS before SET ended_at = now(), refit = 0, judged_until = NULL
FROM begun
WHERE (before.tenant, before.project, before.concludes) = (begun.tenant, begun.project, begun.concludes)
  AND before.number < begun.number AND before.ended_at IS NULL

-- name: owe_judging
-- Whoever has taken the fit into use judges by it and tells of it. This does where that fails, or has died of it for an hour.
INSERT INTO refitting (tenant, project, judged_until, not_before) VALUES ($1, $2, '', now() + interval '1 h')
ON CONFLICT (tenant, project) DO UPDATE
SET judged_until = '', changed_items = 0, tries = 0, not_before = excluded.not_before

-- name: pay_judging
DELETE FROM refitting WHERE tenant = $1 AND project = $2 AND judged_until IS NOT NULL RETURNING changed_items

-- name: end_refit
DELETE FROM refitting WHERE tenant = $1 AND project = $2

-- name: end_asked_refit
-- A conclusion has done what refits before it were asked for; as long as it comes to nothing they are tried without it.
WITH done AS (
  UPDATE asked_refit SET ended_at = now() WHERE tenant = $1 AND project = $2 AND number = $3
  RETURNING tenant, project, number, concludes)
UPDATE asked_refit AS before SET ended_at = now(), refit = 0, judged_until = NULL
FROM done
WHERE (before.tenant, before.project) = (done.tenant, done.project) AND before.number < done.number
  AND before.concludes < done.concludes AND before.ended_at IS NULL

-- name: give_up_asked_refit
-- With those that it took over: who asks for any of them again is not known any more, and asks anew.
UPDATE asked_refit SET ended_at = now(), refit = 0, judged_until = NULL, requests = '{}'
WHERE tenant = $1 AND project = $2 AND concludes AND (number = $3 OR number < $3 AND ended_at IS NOT NULL AND refit = 0)

-- name: add_undecided
INSERT INTO undecided_item (tenant, project, number, refit, item) SELECT $1, $2, $3, $4, * FROM unnest($5::text[])
ON CONFLICT (tenant, project, number, item) DO UPDATE SET refit = excluded.refit

-- name: undecided
SELECT item FROM undecided_item WHERE tenant = $1 AND project = $2 AND number = $3 AND refit = $4 ORDER BY item

-- name: note_changed_items
UPDATE refit SET changed_items = $3 WHERE tenant = $1 AND project = $2
RETURNING refit, votes, labelers, changed_items, state_sha256

-- name: newest_refit
SELECT refit, votes, state, create_time FROM refit WHERE tenant = $1 AND project = $2

-- name: counted
SELECT votes, label_annotations FROM counted WHERE tenant = $1 AND project = $2

-- name: answers_given
SELECT question, labeler, answers FROM answers_given WHERE tenant = $1 AND project = $2

-- name: save_counted
INSERT INTO counted (tenant, project, votes, label_annotations) VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant, project) DO UPDATE SET votes = excluded.votes, label_annotations = excluded.label_annotations

-- name: save_answers_given
INSERT INTO answers_given (tenant, project, question, labeler, answers)
SELECT $1, $2, * FROM unnest($3::text[], $4::text[], $5::bigint[])
ON CONFLICT (tenant, project, question, labeler) DO UPDATE SET answers = excluded.answers

-- name: answer_bytes
SELECT coalesce(sum(octet_length(answer)), 0) FROM vote WHERE tenant = $1 AND project = $2

-- name: answered_items
SELECT item, sum(octet_length(answer)) AS bytes FROM vote WHERE tenant = $1 AND project = $2 AND item > $3
GROUP BY item ORDER BY item LIMIT $4

-- name: answered_among
SELECT item, sum(octet_length(answer)) AS bytes FROM vote WHERE tenant = $1 AND project = $2 AND item = ANY ($3::text[])
GROUP BY item ORDER BY item

-- name: items_with_truth
SELECT item, sum(octet_length(answer)) + coalesce((
         SELECT sum(octet_length(vote.answer)) FROM vote
         WHERE vote.tenant = $1 AND vote.project = $2 AND vote.item = truth.item), 0) AS bytes
FROM truth WHERE tenant = $1 AND project = $2 AND item > $3
GROUP BY item ORDER BY item LIMIT $4

-- name: votes_on
SELECT item, question, labeler, annotation, answer FROM vote
WHERE tenant = $1 AND project = $2 AND item = ANY ($3::text[])
ORDER BY item, question, labeler

-- name: scores_of
SELECT item, question, model, probabilities, class_ids FROM score
WHERE tenant = $1 AND project = $2 AND item = ANY ($3::text[])
ORDER BY item, question

-- name: truths_of
SELECT item, question, answer FROM truth WHERE tenant = $1 AND project = $2 AND item = ANY ($3::text[]) ORDER BY item, question

-- name: items
SELECT item, state, revision, answers_wanted, auto, concluded FROM item
WHERE tenant = $1 AND project = $2 AND item = ANY ($3::text[])

-- name: decisions_of
SELECT item, question, answer, confidence FROM decision WHERE tenant = $1 AND project = $2 AND item = ANY ($3::text[])

-- name: all_votes
SELECT item, question, labeler, annotation, answer FROM vote WHERE tenant = $1 AND project = $2
ORDER BY item, question, labeler

-- name: all_scores
SELECT item, question, model, probabilities, class_ids FROM score WHERE tenant = $1 AND project = $2 ORDER BY item, question

-- name: all_truths
SELECT item, question, answer FROM truth WHERE tenant = $1 AND project = $2 ORDER BY item, question

-- name: count_label_annotations
-- A release that knew votes alone may still have been running when this one migrated: where it kept a vote, the item
-- tells the kind of its annotation.
SELECT (SELECT count(*) FROM annotation WHERE tenant = $1 AND project = $2 AND kind = $3)
     + (SELECT count(DISTINCT vote.annotation) FROM vote
        WHERE vote.tenant = $1 AND vote.project = $2
          AND NOT EXISTS (SELECT FROM annotation AS heard
                          WHERE (heard.tenant, heard.project, heard.annotation) = (vote.tenant, vote.project, vote.annotation))
          AND NOT EXISTS (SELECT FROM truth
                          WHERE (truth.tenant, truth.project, truth.item) = (vote.tenant, vote.project, vote.item) AND rank = 1))
