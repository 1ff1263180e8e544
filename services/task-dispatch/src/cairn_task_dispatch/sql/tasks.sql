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
FROM unnest($1::text[], $2::text[], $3::uuid[]) AS k(tenant, project, task)
CROSS JOIN LATERAL (
  SELECT tenant, project, task, state FROM lease
  WHERE tenant = k.tenant AND project = k.project AND task = k.task
  OFFSET 0
) AS l
GROUP BY l.tenant, l.project, l.task

-- Of new tasks: first opened, first handed out.
-- name: places
SELECT now() AS now, array_agg(nextval('task_place')) AS places FROM generate_series(1, $1)

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

-- name: task
SELECT * FROM task WHERE tenant = $1 AND project = $2 AND task = $3

-- Most urgent first within a state: from the state $4 down to $3, behind the row ($4, $5, $6).
-- Three walks along the index, each from where it begins: as one condition they would be a walk over all that lies before.
-- name: list_tasks
SELECT *
FROM (
  (SELECT * FROM task
   WHERE tenant = $1 AND project = $2 AND state IN ('OPEN', 'FILLED', 'CLOSED') AND state >= $3
     AND state = $4 AND priority = $5 AND place > $6
   ORDER BY place
   LIMIT $7)
  UNION ALL
  (SELECT * FROM task
   WHERE tenant = $1 AND project = $2 AND state IN ('OPEN', 'FILLED', 'CLOSED') AND state >= $3
     AND state = $4 AND priority < $5
   ORDER BY priority DESC, place
   LIMIT $7)
  UNION ALL
  (SELECT * FROM task
   WHERE tenant = $1 AND project = $2 AND state IN ('OPEN', 'FILLED', 'CLOSED') AND state >= $3
     AND state < $4
   ORDER BY state DESC, priority DESC, place
   LIMIT $7)
) AS next
ORDER BY state DESC, priority DESC, place
LIMIT $7

-- name: list_tasks_of_item
SELECT *
FROM task
WHERE tenant = $1 AND project = $2 AND item = $8 AND state >= $3 AND state <= $4
  AND (state < $4 OR priority < $5 OR (priority = $5 AND place > $6))
ORDER BY state DESC, priority DESC, place
LIMIT $7

-- name: queue
SELECT now() AS as_of,
       count(*) FILTER (WHERE state = 'OPEN') AS open_tasks,
       count(*) FILTER (WHERE state = 'FILLED') AS filled_tasks,
       count(*) FILTER (WHERE state = 'CLOSED') AS closed_tasks,
       count(*) FILTER (WHERE state = 'OPEN' AND kind = 'REVIEW') AS open_reviews,
       (SELECT count(*) FROM slot s WHERE s.tenant = $1 AND s.project = $2 AND s.kind IN ('LABEL', 'REVIEW')
          AND s.state = 'OPEN') AS open_slots,
       (SELECT count(*) FROM slot s WHERE s.tenant = $1 AND s.project = $2 AND s.kind = 'REVIEW'
          AND s.state = 'OPEN') AS open_review_slots,
       (SELECT count(*) FROM lease l WHERE l.tenant = $1 AND l.project = $2 AND l.state = 'LIVE') AS live_leases
FROM task
WHERE tenant = $1 AND project = $2 AND state IN ('OPEN', 'FILLED', 'CLOSED') AND kind <> 'GOLD'
