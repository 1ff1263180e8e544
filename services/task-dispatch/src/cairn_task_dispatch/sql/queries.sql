-- Locks are taken in one order everywhere: labelers and projects (advisory), items, tasks, slots, leases; within each by key.
-- LeaseTasks and ClaimItems take no task locks and skip locked slots, so they never wait for an event's handler.
--
-- `state NOT IN ('LEASED', 'ANSWERED', 'WITHDRAWN')` says OPEN of a slot whose key is known, without offering the
-- planner the index slot_open, which it would take for as good as the key while the table is new.

-- name: upsert_projects
INSERT INTO project AS p
SELECT DISTINCT ON (tenant, project)
       tenant, project, revision, min_answers, gold_share, make_interval(secs => lease_seconds),
       reviews_disputes, required_skill, archived
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::int[], $5::float8[], $6::float8[], $7::bool[], $8::text[],
            $9::bool[])
  AS e(tenant, project, revision, min_answers, gold_share, lease_seconds, reviews_disputes, required_skill, archived)
ORDER BY tenant, project, revision DESC
ON CONFLICT (tenant, project) DO UPDATE
SET revision = excluded.revision, min_answers = excluded.min_answers, gold_share = excluded.gold_share,
    lease_duration = excluded.lease_duration, reviews_disputes = excluded.reviews_disputes,
    required_skill = excluded.required_skill, archived = excluded.archived
WHERE p.revision < excluded.revision

-- name: projects
SELECT tenant, project, revision, min_answers, gold_share, extract(epoch FROM lease_duration)::float8 AS lease_seconds,
       reviews_disputes, required_skill, archived
FROM project
JOIN unnest($1::text[], $2::text[]) AS k(tenant, project) USING (tenant, project)

-- Decisions about the items of one project are taken one transaction after the other: a batch of events locks items
-- in several steps, and two such batches would wait for each other. Answers and leases do not wait here.
-- name: lock_projects
SELECT pg_advisory_xact_lock(key)
FROM (
  SELECT DISTINCT hashtextextended(tenant || '/' || project, 1) AS key
  FROM unnest($1::text[], $2::text[]) AS k(tenant, project)
  ORDER BY key
) AS keys

-- name: ensure_items
INSERT INTO item (tenant, project, item)
SELECT DISTINCT tenant, project, item
FROM unnest($1::text[], $2::text[], $3::text[]) AS k(tenant, project, item)
ORDER BY tenant, project, item
ON CONFLICT DO NOTHING

-- name: lock_items
SELECT i.*
FROM item i
JOIN unnest($1::text[], $2::text[], $3::text[]) AS k(tenant, project, item) USING (tenant, project, item)
ORDER BY i.tenant, i.project, i.item
FOR NO KEY UPDATE OF i

-- name: items
SELECT i.*
FROM item i
JOIN unnest($3::text[]) AS k(item) USING (item)
WHERE i.tenant = $1 AND i.project = $2

-- name: save_items
UPDATE item i
SET imported = e.imported, gold = e.gold, route = e.route, route_revision = e.route_revision, priority = e.priority,
    decision = e.decision, decision_revision = e.decision_revision, answers_wanted = e.answers_wanted,
    skill = e.skill, settled = e.settled, wished = e.wished, cancelled_at = e.cancelled_at,
    review_cancelled_at = e.review_cancelled_at, cancel_reason = e.cancel_reason, reviews_wished = e.reviews_wished,
    review_priority = e.review_priority
FROM unnest($1::text[], $2::text[], $3::text[], $4::bool[], $5::bool[], $6::text[], $7::bigint[], $8::float8[],
            $9::text[], $10::bigint[], $11::int[], $12::text[], $13::bool[], $14::int[], $15::bigint[],
            $16::bigint[], $17::text[], $18::int[], $19::float8[])
  AS e(tenant, project, item, imported, gold, route, route_revision, priority, decision, decision_revision,
       answers_wanted, skill, settled, wished, cancelled_at, review_cancelled_at, cancel_reason, reviews_wished,
       review_priority)
WHERE i.tenant = e.tenant AND i.project = e.project AND i.item = e.item

-- name: lock_tasks_of_items
SELECT t.*
FROM task t
JOIN unnest($1::text[], $2::text[], $3::text[]) AS k(tenant, project, item) USING (tenant, project, item)
ORDER BY t.tenant, t.project, t.task
FOR NO KEY UPDATE OF t

-- name: lock_tasks
SELECT t.*
FROM task t
JOIN unnest($1::text[], $2::text[], $3::uuid[]) AS k(tenant, project, task) USING (tenant, project, task)
ORDER BY t.tenant, t.project, t.task
FOR NO KEY UPDATE OF t

-- name: count_slots
SELECT s.tenant, s.project, s.task, count(*)::int AS slots,
       (count(*) FILTER (WHERE s.state = 'ANSWERED'))::int AS answered,
       (count(*) FILTER (WHERE s.state = 'LEASED'))::int AS live
FROM slot s
JOIN unnest($1::text[], $2::text[], $3::uuid[]) AS k(tenant, project, task) USING (tenant, project, task)
GROUP BY s.tenant, s.project, s.task

-- name: count_gold_leases
SELECT l.tenant, l.project, l.task, 0 AS slots,
       (count(*) FILTER (WHERE l.state = 'ANSWERED'))::int AS answered,
       (count(*) FILTER (WHERE l.state = 'LIVE'))::int AS live
FROM lease l
JOIN unnest($1::text[], $2::text[], $3::uuid[]) AS k(tenant, project, task) USING (tenant, project, task)
GROUP BY l.tenant, l.project, l.task

-- name: make_tasks
INSERT INTO task (tenant, project, task, item, kind, audit, state, priority, skill, place)
SELECT tenant, project, task, item, kind, audit, 'OPEN', priority, skill,
       CASE kind WHEN 'GOLD' THEN floor(random() * 4611686018427387904)::bigint ELSE nextval('task_place') END
FROM unnest($1::text[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::float8[], $8::text[])
  WITH ORDINALITY AS n(tenant, project, task, item, kind, audit, priority, skill, turn)
ORDER BY turn
RETURNING tenant, project, task, place, created_at

-- name: change_tasks
UPDATE task t
SET state = c.state, close_reason = c.close_reason, priority = c.priority, skill = c.skill
FROM unnest($1::text[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::float8[], $7::text[])
  AS c(tenant, project, task, state, close_reason, priority, skill)
WHERE t.tenant = c.tenant AND t.project = c.project AND t.task = c.task

-- name: withdraw_slots
UPDATE slot s
SET state = 'WITHDRAWN'
FROM unnest($1::text[], $2::text[], $3::uuid[]) AS c(tenant, project, task)
WHERE s.tenant = c.tenant AND s.project = c.project AND s.task = c.task
  AND s.state NOT IN ('LEASED', 'ANSWERED', 'WITHDRAWN')

-- A slot that is leased keeps its state, but comes back with the new urgency when its lease ends.
-- name: offer_slots
UPDATE slot s
SET state = CASE s.state WHEN 'WITHDRAWN' THEN 'OPEN' ELSE s.state END, urgency = -c.priority, skill = c.skill
FROM unnest($1::text[], $2::text[], $3::uuid[], $4::float8[], $5::text[]) AS c(tenant, project, task, priority, skill)
WHERE s.tenant = c.tenant AND s.project = c.project AND s.task = c.task
  AND (s.state = 'WITHDRAWN'
       OR (s.state IN ('OPEN', 'LEASED') AND (s.urgency <> -c.priority OR s.skill <> c.skill)))

-- name: add_slots
INSERT INTO slot (tenant, project, task, number, item, kind, skill, urgency, place, state)
SELECT tenant, project, task, number, item, kind, skill, -priority, place, 'OPEN'
FROM unnest($1::text[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::float8[], $8::bigint[],
            $9::int[], $10::int[])
  AS n(tenant, project, task, item, kind, skill, priority, place, have, want)
CROSS JOIN LATERAL generate_series(have + 1, want) AS number

-- One labeler's leases in a project are granted one transaction after the other; that also orders their unique keys.
-- name: lock_labelers
SELECT pg_advisory_xact_lock(key)
FROM (
  SELECT DISTINCT hashtextextended(tenant || '/' || project || '/' || labeler, 0) AS key
  FROM unnest($1::text[], $2::text[], $3::text[]) AS k(tenant, project, labeler)
  ORDER BY key
) AS keys

-- name: labelers
SELECT l.tenant, l.labeler, l.skills, l.suspended, l.revision
FROM unnest($1::text[], $2::text[]) AS k(tenant, labeler)
JOIN labeler l USING (tenant, labeler)

-- What a call for work must know: the project's policy (null: no such project), and what the labeler is able to do.
-- name: lease_terms
SELECT a.tenant, a.project, a.labeler, p.revision, p.min_answers, p.gold_share,
       extract(epoch FROM p.lease_duration)::float8 AS lease_seconds, p.reviews_disputes, p.required_skill, p.archived,
       coalesce(l.skills, '{}') AS skills, coalesce(l.suspended, false) AS suspended
FROM unnest($1::text[], $2::text[], $3::text[]) AS a(tenant, project, labeler)
LEFT JOIN project p ON p.tenant = a.tenant AND p.project = a.project
LEFT JOIN labeler l ON l.tenant = a.tenant AND l.labeler = a.labeler

-- The front of the queue, for several who ask at once: the $4 most urgent slots of these skills, locked, each with those
-- of the labelers $5 who had to do with its item before. A slot counts only when it is the first open one of its task: a
-- labeler gets a task once, and whoever asks meanwhile gets other tasks instead of waiting.
-- name: lock_front
SELECT front.*, ARRAY(
  -- Two parts: each has an index of its own.
  SELECT l.labeler
  FROM lease l
  WHERE l.tenant = $1 AND l.project = $2 AND l.labeler = ANY ($5::text[]) AND l.item = front.item AND l.kind <> 'REVIEW'
    AND l.state IN ('LIVE', 'ANSWERED', 'SKIPPED', 'ANSWERED_LATE')
  UNION ALL
  SELECT l.labeler
  FROM lease l
  WHERE l.tenant = $1 AND l.project = $2 AND l.labeler = ANY ($5::text[]) AND l.item = front.item AND l.kind <> 'REVIEW'
    AND l.state IN ('RELEASED', 'EXPIRED')) AS seen_by
FROM (
  SELECT found.*
  FROM unnest($3::text[]) AS able(skill)
  CROSS JOIN LATERAL (
    SELECT s.task, s.number, s.item, s.skill, s.urgency, s.place
    FROM slot s
    WHERE s.tenant = $1 AND s.project = $2 AND s.kind = 'LABEL' AND s.skill = able.skill AND s.state = 'OPEN'
      AND NOT EXISTS (
        SELECT FROM slot lower
        WHERE lower.tenant = $1 AND lower.project = $2 AND lower.task = s.task AND lower.number < s.number
          AND lower.state NOT IN ('LEASED', 'ANSWERED', 'WITHDRAWN'))
    ORDER BY s.urgency, s.place, s.number
    LIMIT $4
    FOR UPDATE OF s SKIP LOCKED
  ) AS found
  ORDER BY found.urgency, found.place
  LIMIT $4
) AS front
ORDER BY front.urgency, front.place

-- The same for one labeler, gold among the tasks, from any place in the queue on: choose, take, grant, in one statement.
-- $1 tenant, $2 project, $3 labeler, $4 skills to serve ('' for none asked), $5 how many, $6 lease ids, $7 which gold
-- each of them is to be (0 for none), $8 where to begin looking for gold, $9 seconds, $10 seconds of grace,
-- ($11, $12) urgency and place from which on to look.
-- A slot is taken only when it is the first open one of its task: a labeler gets a task once, and two labelers who
-- ask at the same moment get different tasks instead of waiting for each other.
-- Gold replaces a task only where there would have been one: gold that comes when the work is out is easily told.
-- What this labeler gave back is left out, gold or not: else a task would come back at once, and gold would not.
-- name: lease_labels
WITH candidate AS MATERIALIZED (
  SELECT open.*, row_number() OVER (ORDER BY open.urgency, open.place) AS turn
  FROM (
    SELECT found.*
    FROM unnest($4::text[]) AS able(skill)
    CROSS JOIN LATERAL (
      SELECT s.task, s.number, s.item, s.urgency, s.place
      FROM slot s
      WHERE s.tenant = $1 AND s.project = $2 AND s.kind = 'LABEL' AND s.skill = able.skill AND s.state = 'OPEN'
        AND (s.urgency, s.place) >= ($11::float8, $12::bigint)
        AND NOT EXISTS (
          SELECT FROM lease l
          WHERE l.tenant = $1 AND l.project = $2 AND l.labeler = $3 AND l.item = s.item AND l.kind <> 'REVIEW'
            AND l.state IN ('LIVE', 'ANSWERED', 'SKIPPED', 'ANSWERED_LATE'))
        AND NOT EXISTS (
          SELECT FROM lease l
          WHERE l.tenant = $1 AND l.project = $2 AND l.labeler = $3 AND l.item = s.item AND l.kind <> 'REVIEW'
            AND l.state IN ('RELEASED', 'EXPIRED'))
        AND NOT EXISTS (
          SELECT FROM slot lower
          WHERE lower.tenant = $1 AND lower.project = $2 AND lower.task = s.task AND lower.number < s.number
            AND lower.state NOT IN ('LEASED', 'ANSWERED', 'WITHDRAWN'))
      ORDER BY s.urgency, s.place, s.number
      LIMIT $5
      FOR UPDATE OF s SKIP LOCKED
    ) AS found
    ORDER BY found.urgency, found.place
    LIMIT $5
  ) AS open
),
gold_candidate AS MATERIALIZED (
  SELECT circle.task, circle.item, row_number() OVER (ORDER BY circle.lap, circle.place) AS nth
  FROM (
    (SELECT t.task, t.item, t.place, 0 AS lap
     FROM task t
     WHERE t.tenant = $1 AND t.project = $2 AND t.kind = 'GOLD' AND t.state = 'OPEN' AND t.place >= $8
       AND NOT EXISTS (
         SELECT FROM lease l
         WHERE l.tenant = $1 AND l.project = $2 AND l.labeler = $3 AND l.item = t.item AND l.kind <> 'REVIEW'
           AND l.state IN ('LIVE', 'ANSWERED', 'SKIPPED', 'ANSWERED_LATE'))
       AND NOT EXISTS (
         SELECT FROM lease l
         WHERE l.tenant = $1 AND l.project = $2 AND l.labeler = $3 AND l.item = t.item AND l.kind <> 'REVIEW'
           AND l.state IN ('RELEASED', 'EXPIRED'))
     ORDER BY t.place
     LIMIT (SELECT max(drawn) FROM unnest($7::int[]) AS drawn))
    UNION ALL
    (SELECT t.task, t.item, t.place, 1
     FROM task t
     WHERE t.tenant = $1 AND t.project = $2 AND t.kind = 'GOLD' AND t.state = 'OPEN' AND t.place < $8
       AND NOT EXISTS (
         SELECT FROM lease l
         WHERE l.tenant = $1 AND l.project = $2 AND l.labeler = $3 AND l.item = t.item AND l.kind <> 'REVIEW'
           AND l.state IN ('LIVE', 'ANSWERED', 'SKIPPED', 'ANSWERED_LATE'))
       AND NOT EXISTS (
         SELECT FROM lease l
         WHERE l.tenant = $1 AND l.project = $2 AND l.labeler = $3 AND l.item = t.item AND l.kind <> 'REVIEW'
           AND l.state IN ('RELEASED', 'EXPIRED'))
     ORDER BY t.place
     LIMIT (SELECT max(drawn) FROM unnest($7::int[]) AS drawn))
  ) AS circle
),
wanted AS (
  SELECT * FROM unnest($6::uuid[], $7::int[]) WITH ORDINALITY AS w(lease, nth, turn)
),
chosen AS (
  SELECT w.lease, w.turn, coalesce(g.task, c.task) AS task, coalesce(g.item, c.item) AS item,
         CASE WHEN g.task IS NULL THEN c.number END AS number,
         CASE WHEN g.task IS NULL THEN 'LABEL' ELSE 'GOLD' END AS kind, c.urgency, c.place
  FROM wanted w
  JOIN candidate c USING (turn)
  LEFT JOIN gold_candidate g USING (nth)
),
taken AS (
  UPDATE slot s
  SET state = 'LEASED'
  FROM chosen c
  WHERE s.tenant = $1 AND s.project = $2 AND s.task = c.task AND s.number = c.number
    AND s.state NOT IN ('LEASED', 'ANSWERED', 'WITHDRAWN')
),
granted AS (
  INSERT INTO lease (tenant, project, lease, task, slot, item, kind, labeler, state, expires_at, check_at)
  SELECT $1, $2, lease, task, number, item, kind, $3, 'LIVE',
         now() + make_interval(secs => $9), now() + make_interval(secs => $9 + $10)
  FROM chosen
  RETURNING *
)
SELECT g.*, true AS live_now, c.urgency, c.place
FROM granted g
JOIN chosen c USING (lease)
ORDER BY c.turn

-- What this labeler gave back or let expire, the longest ago first; for when nothing else is left. Gold comes back as it
-- is, for the others do; but only for $7 seconds, while few of the others will have been taken by other labelers.
-- name: lease_given_back
WITH back AS (
  SELECT DISTINCT ON (l.item) l.item, l.task, l.kind, l.ended_at
  FROM lease l
  WHERE l.tenant = $1 AND l.project = $2 AND l.labeler = $3 AND l.kind <> 'REVIEW' AND l.state IN ('RELEASED', 'EXPIRED')
  ORDER BY l.item, l.ended_at DESC
),
candidate AS MATERIALIZED (
  SELECT b.*, s.number
  FROM back b
  JOIN task t ON t.tenant = $1 AND t.project = $2 AND t.task = b.task AND t.state = 'OPEN'
  LEFT JOIN LATERAL (
    SELECT o.number
    FROM slot o
    WHERE o.tenant = $1 AND o.project = $2 AND o.task = b.task AND o.skill = ANY ($4::text[])
      AND o.state NOT IN ('LEASED', 'ANSWERED', 'WITHDRAWN')
    ORDER BY o.number
    LIMIT 1
    FOR UPDATE OF o SKIP LOCKED
  ) AS s ON true
  WHERE CASE b.kind WHEN 'GOLD' THEN b.ended_at > now() - make_interval(secs => $7) ELSE s.number IS NOT NULL END
    AND NOT EXISTS (
      SELECT FROM lease l
      WHERE l.tenant = $1 AND l.project = $2 AND l.labeler = $3 AND l.item = b.item AND l.kind <> 'REVIEW'
        AND l.state IN ('LIVE', 'ANSWERED', 'SKIPPED', 'ANSWERED_LATE'))
  ORDER BY b.ended_at, b.item
  LIMIT $5
),
chosen AS (
  SELECT w.lease, c.*
  FROM (SELECT *, row_number() OVER (ORDER BY ended_at, item) AS turn FROM candidate) AS c
  JOIN unnest($6::uuid[]) WITH ORDINALITY AS w(lease, turn) USING (turn)
),
taken AS (
  UPDATE slot s
  SET state = 'LEASED'
  FROM chosen c
  WHERE s.tenant = $1 AND s.project = $2 AND s.task = c.task AND s.number = c.number
    AND s.state NOT IN ('LEASED', 'ANSWERED', 'WITHDRAWN')
),
granted AS (
  INSERT INTO lease (tenant, project, lease, task, slot, item, kind, labeler, state, expires_at, check_at)
  SELECT $1, $2, lease, task, number, item, kind, $3, 'LIVE',
         now() + make_interval(secs => $7), now() + make_interval(secs => $7 + $8)
  FROM chosen
  RETURNING *
)
SELECT g.*, true AS live_now
FROM granted g
JOIN chosen c USING (lease)
ORDER BY c.turn

-- name: lease_reviews
WITH candidate AS MATERIALIZED (
  SELECT s.task, s.number, s.item, s.urgency, s.place
  FROM slot s
  WHERE s.tenant = $1 AND s.project = $2 AND s.kind = 'REVIEW' AND s.skill = '' AND s.state = 'OPEN'
    AND NOT EXISTS (
      SELECT FROM lease l
      WHERE l.tenant = $1 AND l.project = $2 AND l.labeler = $3 AND l.task = s.task AND l.kind = 'REVIEW'
        AND l.state IN ('LIVE', 'ANSWERED', 'SKIPPED', 'ANSWERED_LATE'))
    AND NOT EXISTS (
      SELECT FROM slot lower
      WHERE lower.tenant = $1 AND lower.project = $2 AND lower.task = s.task AND lower.number < s.number
        AND lower.state NOT IN ('LEASED', 'ANSWERED', 'WITHDRAWN'))
  ORDER BY s.urgency, s.place, s.number
  LIMIT $4
  FOR UPDATE OF s SKIP LOCKED
),
chosen AS (
  SELECT w.lease, c.*, t.audit
  FROM (SELECT *, row_number() OVER (ORDER BY urgency, place) AS turn FROM candidate) AS c
  JOIN unnest($5::uuid[]) WITH ORDINALITY AS w(lease, turn) USING (turn)
  JOIN task t ON t.tenant = $1 AND t.project = $2 AND t.task = c.task
),
taken AS (
  UPDATE slot s
  SET state = 'LEASED'
  FROM chosen c
  WHERE s.tenant = $1 AND s.project = $2 AND s.task = c.task AND s.number = c.number
    AND s.state NOT IN ('LEASED', 'ANSWERED', 'WITHDRAWN')
),
granted AS (
  INSERT INTO lease (tenant, project, lease, task, slot, item, kind, audit, labeler, state, expires_at, check_at)
  SELECT $1, $2, lease, task, number, item, 'REVIEW', audit, $3, 'LIVE',
         now() + make_interval(secs => $6), now() + make_interval(secs => $6 + $7)
  FROM chosen
  RETURNING *
)
SELECT g.*, true AS live_now
FROM granted g
JOIN chosen c USING (lease)
ORDER BY c.urgency, c.place

-- The tasks of claimed items, most urgent first, each with as many open slots, locked, as there are claims on it.
-- name: claimed_tasks
SELECT t.task, t.item, t.kind, t.audit, t.state, t.close_reason, s.number, s.skill
FROM unnest($3::text[], $4::bool[], $5::int[]) AS c(item, review, claims)
JOIN task t ON t.tenant = $1 AND t.project = $2 AND t.item = c.item AND (t.kind = 'REVIEW') = c.review
LEFT JOIN LATERAL (
  SELECT o.number, o.skill
  FROM slot o
  WHERE o.tenant = $1 AND o.project = $2 AND o.task = t.task
    AND o.state NOT IN ('LEASED', 'ANSWERED', 'WITHDRAWN')
  ORDER BY o.number
  LIMIT c.claims
  FOR UPDATE OF o SKIP LOCKED
) AS s ON true
ORDER BY t.priority DESC, t.place, s.number

-- name: held_leases
SELECT l.*, l.state = 'LIVE' AND l.expires_at > now() AS live_now
FROM unnest($3::text[], $4::text[]) AS c(item, labeler)
JOIN lease l ON l.tenant = $1 AND l.project = $2 AND l.labeler = c.labeler AND l.item = c.item AND l.kind <> 'REVIEW'
  AND l.state IN ('LIVE', 'ANSWERED', 'SKIPPED', 'ANSWERED_LATE')
UNION ALL
SELECT l.*, l.state = 'LIVE' AND l.expires_at > now() AS live_now
FROM unnest($5::text[], $6::text[]) AS c(item, labeler)
JOIN task t ON t.tenant = $1 AND t.project = $2 AND t.item = c.item AND t.kind = 'REVIEW'
JOIN lease l ON l.tenant = $1 AND l.project = $2 AND l.labeler = c.labeler AND l.task = t.task AND l.kind = 'REVIEW'
  AND l.state IN ('LIVE', 'ANSWERED', 'SKIPPED', 'ANSWERED_LATE')

-- name: grant_leases
WITH granted AS (
  SELECT * FROM unnest($3::uuid[], $4::uuid[], $5::int[], $6::text[], $7::text[], $8::text[], $9::text[], $10::float8[],
                       $11::float8[])
    WITH ORDINALITY AS g(lease, task, slot, item, kind, audit, labeler, seconds, grace, turn)
),
taken AS (
  UPDATE slot s
  SET state = 'LEASED'
  FROM granted g
  WHERE s.tenant = $1 AND s.project = $2 AND s.task = g.task AND s.number = g.slot
    AND s.state NOT IN ('LEASED', 'ANSWERED', 'WITHDRAWN')
)
INSERT INTO lease (tenant, project, lease, task, slot, item, kind, audit, labeler, state, expires_at, check_at)
SELECT $1, $2, lease, task, slot, item, kind, audit, labeler, 'LIVE',
       now() + make_interval(secs => seconds), now() + make_interval(secs => seconds + grace)
FROM granted
ORDER BY turn
RETURNING *, true AS live_now

-- name: extend_leases
UPDATE lease l
SET expires_at = greatest(l.expires_at, now() + make_interval(secs => e.seconds)),
    check_at = greatest(l.expires_at, now() + make_interval(secs => e.seconds)) + make_interval(secs => e.grace)
FROM unnest($1::text[], $2::text[], $3::uuid[], $4::float8[], $5::float8[]) AS e(tenant, project, lease, seconds, grace)
WHERE l.tenant = e.tenant AND l.project = e.project AND l.lease = e.lease AND l.state = 'LIVE' AND l.expires_at > now()
RETURNING l.*, true AS live_now

-- name: leases
SELECT l.*, l.state = 'LIVE' AND l.expires_at > now() AS live_now
FROM lease l
JOIN unnest($1::text[], $2::text[], $3::uuid[]) AS k(tenant, project, lease) USING (tenant, project, lease)

-- Leases of the same labeler on the same item, or for reviews on the same task, that rule these out or follow them.
-- name: siblings
SELECT l.*, l.state = 'LIVE' AND l.expires_at > now() AS live_now
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::uuid[], $7::uuid[])
  AS k(tenant, project, labeler, item, kind, task, lease)
JOIN lease l ON l.tenant = k.tenant AND l.project = k.project AND l.labeler = k.labeler AND l.item = k.item
  AND l.kind <> 'REVIEW' AND l.state IN ('LIVE', 'ANSWERED', 'SKIPPED', 'ANSWERED_LATE')
WHERE k.kind <> 'REVIEW' AND l.lease <> k.lease
UNION ALL
SELECT l.*, l.state = 'LIVE' AND l.expires_at > now() AS live_now
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::uuid[], $7::uuid[])
  AS k(tenant, project, labeler, item, kind, task, lease)
JOIN lease l ON l.tenant = k.tenant AND l.project = k.project AND l.labeler = k.labeler AND l.task = k.task
  AND l.kind = 'REVIEW' AND l.state IN ('LIVE', 'ANSWERED', 'SKIPPED', 'ANSWERED_LATE')
WHERE k.kind = 'REVIEW' AND l.lease <> k.lease

-- name: change_leases
UPDATE lease l
SET state = c.state, reason = c.reason, ended_at = coalesce(l.ended_at, now())
FROM unnest($1::text[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::text[])
  AS c(tenant, project, lease, was, state, reason)
WHERE l.tenant = c.tenant AND l.project = c.project AND l.lease = c.lease AND l.state = c.was
RETURNING l.*, false AS live_now

-- The task's row is locked, so that whether it is closed stands still.
-- name: free_slots
UPDATE slot s
SET state = CASE t.state WHEN 'CLOSED' THEN 'WITHDRAWN' ELSE 'OPEN' END
FROM unnest($1::text[], $2::text[], $3::uuid[], $4::int[]) AS f(tenant, project, task, number)
JOIN task t USING (tenant, project, task)
WHERE s.tenant = f.tenant AND s.project = f.project AND s.task = f.task AND s.number = f.number AND s.state = 'LEASED'

-- name: answer_slots
UPDATE slot s
SET state = 'ANSWERED'
FROM unnest($1::text[], $2::text[], $3::uuid[], $4::int[]) AS f(tenant, project, task, number)
WHERE s.tenant = f.tenant AND s.project = f.project AND s.task = f.task AND s.number = f.number AND s.state = 'LEASED'

-- name: fill_tasks
UPDATE task t
SET state = 'FILLED'
FROM (SELECT DISTINCT * FROM unnest($1::text[], $2::text[], $3::uuid[]) AS f(tenant, project, task)) AS f
WHERE t.tenant = f.tenant AND t.project = f.project AND t.task = f.task AND t.state = 'OPEN' AND t.kind <> 'GOLD'
  AND NOT EXISTS (
    SELECT FROM slot s
    WHERE s.tenant = t.tenant AND s.project = t.project AND s.task = t.task AND s.state <> 'ANSWERED')

-- Whoever takes a lease here asks about it; if that fails, it is due again $2 seconds later.
-- name: take_due_leases
UPDATE lease l
SET check_at = now() + make_interval(secs => $2)
FROM (
  SELECT d.tenant, d.project, d.lease
  FROM lease d
  WHERE d.state = 'LIVE' AND d.check_at <= now()
  ORDER BY d.check_at
  LIMIT $1
  FOR UPDATE OF d SKIP LOCKED
) AS due
WHERE l.tenant = due.tenant AND l.project = due.project AND l.lease = due.lease
RETURNING l.*, false AS live_now

-- name: task
SELECT * FROM task WHERE tenant = $1 AND project = $2 AND task = $3

-- Most urgent first within a state; $5.. is the last row of the page before ('' on the first page).
-- name: list_tasks
SELECT *
FROM task
WHERE tenant = $1 AND project = $2 AND state IN ('OPEN', 'FILLED', 'CLOSED') AND ($3 = '' OR state = $3) AND $4 = ''
  AND ($5 = '' OR (state <= $5 AND (state < $5 OR priority < $6 OR (priority = $6 AND place > $7))))
ORDER BY state DESC, priority DESC, place
LIMIT $8

-- name: list_tasks_of_item
SELECT *
FROM task
WHERE tenant = $1 AND project = $2 AND ($3 = '' OR state = $3) AND item = $4
  AND ($5 = '' OR (state <= $5 AND (state < $5 OR priority < $6 OR (priority = $6 AND place > $7))))
ORDER BY state DESC, priority DESC, place
LIMIT $8

-- name: queue
SELECT now() AS as_of,
       count(*) FILTER (WHERE state = 'OPEN') AS open_tasks,
       count(*) FILTER (WHERE state = 'FILLED') AS filled_tasks,
       count(*) FILTER (WHERE state = 'CLOSED') AS closed_tasks,
       count(*) FILTER (WHERE state = 'OPEN' AND kind = 'REVIEW') AS open_reviews,
       (SELECT count(*) FROM slot s WHERE s.tenant = $1 AND s.project = $2 AND s.kind IN ('LABEL', 'REVIEW')
          AND s.state = 'OPEN') AS open_slots,
       (SELECT count(*) FROM lease l WHERE l.tenant = $1 AND l.project = $2 AND l.state = 'LIVE') AS live_leases
FROM task
WHERE tenant = $1 AND project = $2 AND state IN ('OPEN', 'FILLED', 'CLOSED') AND kind <> 'GOLD'

-- name: list_labelers
SELECT labeler, skills, suspended, revision
FROM labeler
WHERE tenant = $1 AND labeler > $2
ORDER BY labeler
LIMIT $3

-- $3 and $4 are NULL where the labeler keeps what they have; $5 is the revision that must stand (0: none), or NULL.
-- name: save_labeler
INSERT INTO labeler AS l (tenant, labeler, skills, suspended)
SELECT $1, $2, coalesce($3::text[], '{}'), coalesce($4::bool, false)
WHERE coalesce($5::bigint, 0) = 0 OR EXISTS (SELECT FROM labeler WHERE tenant = $1 AND labeler = $2)
ON CONFLICT (tenant, labeler) DO UPDATE
SET skills = coalesce($3, l.skills), suspended = coalesce($4, l.suspended), revision = l.revision + 1
WHERE $5 IS NULL OR l.revision = $5
RETURNING labeler, skills, suspended, revision

-- Tables that have doubled since the planner last looked at them. All our indexes begin with tenant and project: until
-- it has seen that these hardly differ between rows, the planner takes any index for as good as the right one.
-- name: grown_tables
SELECT quote_ident(relname) AS name
FROM pg_class
WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'
  AND pg_relation_size(oid) > 2 * 8192 * greatest(relpages, 8)
