-- name: ask_for_refit
INSERT INTO refitting (tenant, project) VALUES ($1, $2) ON CONFLICT DO NOTHING

-- name: asked_by
SELECT number FROM asked_refit WHERE tenant = $1 AND project = $2 AND concludes = $3 AND requests && $4::text[]
ORDER BY number DESC LIMIT 1

-- name: note_wanted
-- What has an outcome keeps nothing that came after it.
UPDATE asked_refit SET last_asked_at = now()
WHERE tenant = $1 AND project = $2 AND ended_at IS NULL AND number = (
  SELECT number FROM asked_refit
  WHERE tenant = $1 AND project = $2 AND number >= $3 AND concludes = $4 AND (ended_at IS NULL OR refit > 0)
  ORDER BY ended_at, number LIMIT 1)

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
DELETE FROM refitting WHERE tenant = $1 AND project = $2 AND judged_until IS NOT NULL RETURNING true

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

-- name: note_announced
UPDATE item SET announced_by = $3
WHERE tenant = $1 AND project = $2 AND item = ANY ($4::text[]) AND announced_by IS DISTINCT FROM $3
RETURNING item

-- name: add_undecided
INSERT INTO undecided_item (tenant, project, number, refit, item) SELECT $1, $2, $3, $4, * FROM unnest($5::text[])
ON CONFLICT (tenant, project, number, item) DO UPDATE SET refit = excluded.refit

-- name: undecided
SELECT item FROM undecided_item WHERE tenant = $1 AND project = $2 AND number = $3 AND refit = $4 ORDER BY item
