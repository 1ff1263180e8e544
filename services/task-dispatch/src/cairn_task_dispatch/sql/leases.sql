-- `ended_at IS NULL` says LIVE without offering the planner the index lease_live, which it would take for as good as the key
-- while the table is new.
-- name: extend_leases
UPDATE lease l
SET expires_at = greatest(l.expires_at, now() + make_interval(secs => e.seconds)),
    check_at = greatest(l.expires_at, now() + make_interval(secs => e.seconds)) + make_interval(secs => e.grace)
FROM unnest($1::text[], $2::text[], $3::uuid[], $4::float8[], $5::float8[]) AS e(tenant, project, lease, seconds, grace)
WHERE l.tenant = e.tenant AND l.project = e.project AND l.lease = e.lease AND l.ended_at IS NULL AND l.expires_at > now()
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
CROSS JOIN LATERAL (
  SELECT * FROM lease
  WHERE tenant = k.tenant AND project = k.project AND labeler = k.labeler AND item = k.item
    AND kind <> 'REVIEW' AND state IN ('LIVE', 'ANSWERED', 'SKIPPED', 'ANSWERED_LATE')
  OFFSET 0
) AS l
WHERE k.kind <> 'REVIEW' AND l.lease <> k.lease
UNION ALL
SELECT l.*, l.state = 'LIVE' AND l.expires_at > now() AS live_now
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::uuid[], $7::uuid[])
  AS k(tenant, project, labeler, item, kind, task, lease)
CROSS JOIN LATERAL (
  SELECT * FROM lease
  WHERE tenant = k.tenant AND project = k.project AND labeler = k.labeler AND task = k.task
    AND kind = 'REVIEW' AND state IN ('LIVE', 'ANSWERED', 'SKIPPED', 'ANSWERED_LATE')
  OFFSET 0
) AS l
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

-- `state NOT IN ('FILLED', 'CLOSED')` says OPEN without offering the planner the index of ListTasks.
-- name: fill_tasks
UPDATE task t
SET state = 'FILLED'
FROM (SELECT DISTINCT * FROM unnest($1::text[], $2::text[], $3::uuid[]) AS f(tenant, project, task)) AS f
WHERE t.tenant = f.tenant AND t.project = f.project AND t.task = f.task AND t.state NOT IN ('FILLED', 'CLOSED')
  AND t.kind <> 'GOLD'
  AND NOT EXISTS (
    SELECT FROM slot s
    WHERE s.tenant = t.tenant AND s.project = t.project AND s.task = t.task AND s.state <> 'ANSWERED')

-- Whoever takes a lease here asks about it; if that fails, it is due again $2 seconds later.
-- name: take_due_leases
WITH due AS MATERIALIZED (
  -- Once: as a part of the join it would be looked up again for each of its rows, with the limit for each time anew.
  SELECT d.tenant, d.project, d.lease
  FROM lease d
  WHERE d.state = 'LIVE' AND d.check_at <= now()
  ORDER BY d.check_at
  LIMIT $1
  FOR UPDATE OF d SKIP LOCKED
)
UPDATE lease l
SET check_at = now() + make_interval(secs => $2)
FROM due
WHERE l.tenant = due.tenant AND l.project = due.project AND l.lease = due.lease
  -- Said twice, for how few they are is not known when this is planned: where many are due, all leases would be read.
  AND l.lease = ANY (ARRAY(SELECT lease FROM due))
RETURNING l.*, false AS live_now
