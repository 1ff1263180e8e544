-- `state NOT IN ('LEASED', 'ANSWERED', 'WITHDRAWN')` says OPEN of a slot whose key is known, without offering the
-- planner the index slot_open, which it would take for as good as the key while the table is new. What is looked up or taken
-- for each of some rows is named by a whole key that comes from one side, or looked up by itself (OFFSET 0): where projects
-- are many each is believed to be small, and all of it would be read.

-- One labeler's leases in a project are granted one transaction after the other; that also orders their unique keys.
-- name: lock_labelers
SELECT pg_advisory_xact_lock(key)
FROM (
  SELECT DISTINCT hashtextextended(tenant || '/' || project || '/' || labeler, 0) AS key
  FROM unnest($1::text[], $2::text[], $3::text[]) AS k(tenant, project, labeler)
  ORDER BY key
) AS keys

-- What a call for work must know: the project's policy (null: no such project), and what the labeler is able to do.
-- name: lease_terms
SELECT a.tenant, a.project, a.labeler, p.revision, p.min_answers, p.gold_share,
       extract(epoch FROM p.lease_duration)::float8 AS lease_seconds, p.reviews_disputes, p.required_skill, p.archived,
       coalesce(l.skills, '{}') AS skills, coalesce(l.suspended, false) AS suspended
FROM unnest($1::text[], $2::text[], $3::text[]) AS a(tenant, project, labeler)
LEFT JOIN project p ON p.tenant = a.tenant AND p.project = a.project
LEFT JOIN labeler l ON l.tenant = a.tenant AND l.labeler = a.labeler

-- The front of the queue, for several who ask at once: the $4 most urgent slots of these skills, locked; and then, without a
-- task, which of the labelers $5 had to do with which of their items before. A slot counts only when it is the first open one of its task: a
-- labeler gets a task once, and whoever asks meanwhile gets other tasks instead of waiting.
-- name: lock_front
WITH front AS MATERIALIZED (
  SELECT found.*
  FROM unnest($3::text[]) AS able(skill)
  CROSS JOIN LATERAL (
    SELECT s.task, s.number, s.item, s.skill, s.urgency, s.place
    FROM slot s
    WHERE s.tenant = $1 AND s.project = $2 AND s.kind = 'LABEL' AND s.skill = able.skill AND s.state = 'OPEN'
      AND s.number = (
        SELECT first.number
        FROM slot first
        WHERE first.tenant = $1 AND first.project = $2 AND first.task = s.task
          AND first.state NOT IN ('LEASED', 'ANSWERED', 'WITHDRAWN')
        ORDER BY first.number
        LIMIT 1)
    ORDER BY s.urgency, s.place, s.number
    LIMIT $4
    FOR UPDATE OF s SKIP LOCKED
  ) AS found
  ORDER BY found.urgency, found.place
  LIMIT $4
),
-- All who ask and all items at once: one walk along each index, not one for each pair. Two parts, for there are two.
seen AS MATERIALIZED (
  SELECT l.labeler, l.item
  FROM lease l
  WHERE l.tenant = $1 AND l.project = $2 AND l.labeler = ANY ($5::text[])
    AND l.item = ANY (ARRAY(SELECT front.item FROM front)) AND l.kind <> 'REVIEW'
    AND l.state IN ('LIVE', 'ANSWERED', 'SKIPPED', 'ANSWERED_LATE')
  UNION ALL
  SELECT l.labeler, l.item
  FROM lease l
  WHERE l.tenant = $1 AND l.project = $2 AND l.labeler = ANY ($5::text[])
    AND l.item = ANY (ARRAY(SELECT front.item FROM front)) AND l.kind <> 'REVIEW'
    AND l.state IN ('RELEASED', 'EXPIRED')
)
SELECT task, number, item, skill, NULL AS labeler, urgency, place FROM front
UNION ALL
SELECT NULL, NULL, item, NULL, labeler, NULL, NULL FROM seen
ORDER BY urgency, place

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
        AND s.number = (
          SELECT first.number
          FROM slot first
          WHERE first.tenant = $1 AND first.project = $2 AND first.task = s.task
            AND first.state NOT IN ('LEASED', 'ANSWERED', 'WITHDRAWN')
          ORDER BY first.number
          LIMIT 1)
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
  FROM (SELECT $1 AS tenant, $2 AS project, task, number FROM chosen OFFSET 0) AS k
  WHERE (s.tenant, s.project, s.task, s.number) = (k.tenant, k.project, k.task, k.number)
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

-- Where the queue of these skills ends.
-- name: queue_end
SELECT last.urgency, last.place
FROM unnest($3::text[]) AS able(skill)
CROSS JOIN LATERAL (
  SELECT s.urgency, s.place
  FROM slot s
  WHERE s.tenant = $1 AND s.project = $2 AND s.kind = 'LABEL' AND s.skill = able.skill AND s.state = 'OPEN'
  ORDER BY s.urgency DESC, s.place DESC
  LIMIT 1
) AS last
ORDER BY last.urgency DESC, last.place DESC
LIMIT 1

-- What this labeler gave back or let expire, the longest ago first; for when nothing else is left. Gold comes back as it
-- is, for the others do; but only for $7 seconds, while few of the others will have been taken by other labelers.
-- name: lease_given_back
WITH back AS (
  SELECT DISTINCT ON (l.item) l.item, l.task, l.kind, l.ended_at
  FROM lease l
  WHERE l.tenant = $1 AND l.project = $2 AND l.labeler = $3 AND l.kind <> 'REVIEW' AND l.state IN ('RELEASED', 'EXPIRED')
  ORDER BY l.item, l.ended_at DESC
),
first AS MATERIALIZED (
  SELECT b.*
  FROM back b
  CROSS JOIN LATERAL (SELECT state FROM task WHERE tenant = $1 AND project = $2 AND task = b.task OFFSET 0) AS t
  WHERE t.state = 'OPEN' AND CASE b.kind
      WHEN 'GOLD' THEN b.ended_at > now() - make_interval(secs => $7)
      ELSE EXISTS (
        SELECT FROM slot o
        WHERE o.tenant = $1 AND o.project = $2 AND o.task = b.task AND o.skill = ANY ($4::text[])
          AND o.state NOT IN ('LEASED', 'ANSWERED', 'WITHDRAWN')
        OFFSET 0)
    END
    AND NOT EXISTS (
      SELECT FROM lease l
      WHERE l.tenant = $1 AND l.project = $2 AND l.labeler = $3 AND l.item = b.item AND l.kind <> 'REVIEW'
        AND l.state IN ('LIVE', 'ANSWERED', 'SKIPPED', 'ANSWERED_LATE'))
  ORDER BY b.ended_at, b.item
  LIMIT $5
),
-- Of those alone, for what is locked is passed over by whoever else looks.
candidate AS MATERIALIZED (
  SELECT f.*, s.number
  FROM first f
  LEFT JOIN LATERAL (
    SELECT o.number
    FROM slot o
    WHERE o.tenant = $1 AND o.project = $2 AND o.task = f.task AND o.skill = ANY ($4::text[])
      AND o.state NOT IN ('LEASED', 'ANSWERED', 'WITHDRAWN')
    ORDER BY o.number
    LIMIT 1
    FOR UPDATE OF o SKIP LOCKED
  ) AS s ON true
  WHERE f.kind = 'GOLD' OR s.number IS NOT NULL
),
chosen AS (
  SELECT w.lease, c.*
  FROM (SELECT *, row_number() OVER (ORDER BY ended_at, item) AS turn FROM candidate) AS c
  JOIN unnest($6::uuid[]) WITH ORDINALITY AS w(lease, turn) USING (turn)
),
taken AS (
  UPDATE slot s
  SET state = 'LEASED'
  FROM (SELECT $1 AS tenant, $2 AS project, task, number FROM chosen OFFSET 0) AS k
  WHERE (s.tenant, s.project, s.task, s.number) = (k.tenant, k.project, k.task, k.number)
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
    AND s.number = (
      SELECT first.number
      FROM slot first
      WHERE first.tenant = $1 AND first.project = $2 AND first.task = s.task
        AND first.state NOT IN ('LEASED', 'ANSWERED', 'WITHDRAWN')
      ORDER BY first.number
      LIMIT 1)
  ORDER BY s.urgency, s.place, s.number
  LIMIT $4
  FOR UPDATE OF s SKIP LOCKED
),
chosen AS (
  SELECT w.lease, c.*, t.audit
  FROM (SELECT *, row_number() OVER (ORDER BY urgency, place) AS turn FROM candidate) AS c
  JOIN unnest($5::uuid[]) WITH ORDINALITY AS w(lease, turn) USING (turn)
  CROSS JOIN LATERAL (SELECT audit FROM task WHERE tenant = $1 AND project = $2 AND task = c.task OFFSET 0) AS t
),
taken AS (
  UPDATE slot s
  SET state = 'LEASED'
  FROM (SELECT $1 AS tenant, $2 AS project, task, number FROM chosen OFFSET 0) AS k
  WHERE (s.tenant, s.project, s.task, s.number) = (k.tenant, k.project, k.task, k.number)
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
CROSS JOIN LATERAL (
  SELECT * FROM task
  WHERE tenant = $1 AND project = $2 AND item = c.item AND (kind = 'REVIEW') = c.review
  OFFSET 0
) AS t
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
CROSS JOIN LATERAL (
  SELECT * FROM lease
  WHERE tenant = $1 AND project = $2 AND labeler = c.labeler AND item = c.item AND kind <> 'REVIEW'
    AND state IN ('LIVE', 'ANSWERED', 'SKIPPED', 'ANSWERED_LATE')
  OFFSET 0
) AS l
UNION ALL
SELECT l.*, l.state = 'LIVE' AND l.expires_at > now() AS live_now
FROM unnest($5::text[], $6::text[]) AS c(item, labeler)
CROSS JOIN LATERAL (
  SELECT task FROM task WHERE tenant = $1 AND project = $2 AND item = c.item AND kind = 'REVIEW' OFFSET 0
) AS t
CROSS JOIN LATERAL (
  SELECT * FROM lease
  WHERE tenant = $1 AND project = $2 AND labeler = c.labeler AND task = t.task AND kind = 'REVIEW'
    AND state IN ('LIVE', 'ANSWERED', 'SKIPPED', 'ANSWERED_LATE')
  OFFSET 0
) AS l

-- name: grant_leases
WITH granted AS (
  SELECT * FROM unnest($3::uuid[], $4::uuid[], $5::int[], $6::text[], $7::text[], $8::text[], $9::text[], $10::float8[],
                       $11::float8[])
    WITH ORDINALITY AS g(lease, task, slot, item, kind, audit, labeler, seconds, grace, turn)
),
taken AS (
  UPDATE slot s
  SET state = 'LEASED'
  FROM (SELECT $1 AS tenant, $2 AS project, task, slot AS number FROM granted OFFSET 0) AS k
  WHERE (s.tenant, s.project, s.task, s.number) = (k.tenant, k.project, k.task, k.number)
    AND s.state NOT IN ('LEASED', 'ANSWERED', 'WITHDRAWN')
)
INSERT INTO lease (tenant, project, lease, task, slot, item, kind, audit, labeler, state, expires_at, check_at)
SELECT $1, $2, lease, task, slot, item, kind, audit, labeler, 'LIVE',
       now() + make_interval(secs => seconds), now() + make_interval(secs => seconds + grace)
FROM granted
ORDER BY turn
RETURNING *, true AS live_now
