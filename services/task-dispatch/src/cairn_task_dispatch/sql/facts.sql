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

-- Decisions about the items of one project are taken one transaction after the other: a batch of events reads and writes
-- items in several steps, and two such batches would wait for each other. So items need no locks of their own. Answers
-- and leases do not wait here.
-- name: lock_projects
SELECT pg_advisory_xact_lock(key)
FROM (
  SELECT DISTINCT hashtextextended(tenant || '/' || project, 1) AS key
  FROM unnest($1::text[], $2::text[]) AS k(tenant, project)
  ORDER BY key
) AS keys

-- name: known_items
SELECT tenant, project, item, imported, gold, route, route_revision, priority, decision, decision_revision, answers_wanted,
       skill, settled, wished, cancelled_at, review_cancelled_at, cancel_reason, reviews_wished, review_priority
FROM item
JOIN unnest($1::text[], $2::text[], $3::text[]) AS k(tenant, project, item) USING (tenant, project, item)

-- Of one project: an import's are so many that each of its items would name it twice. Not by a join: where there are many
-- tenants each project is believed to be small, and all of it would be read.
-- name: items
SELECT tenant, project, item, imported, gold, route, route_revision, priority, decision, decision_revision, answers_wanted,
       skill, settled, wished, cancelled_at, review_cancelled_at, cancel_reason, reviews_wished, review_priority
FROM item
WHERE tenant = $1 AND project = $2 AND item = ANY ($3::text[])

-- name: route_items
UPDATE item i
SET route = r.route, route_revision = r.route_revision, priority = r.priority
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::float8[])
  AS r(tenant, project, item, route, route_revision, priority)
WHERE i.tenant = r.tenant AND i.project = r.project AND i.item = r.item

-- name: save_items
INSERT INTO item (tenant, project, item, imported, gold, route, route_revision, priority, decision, decision_revision,
                  answers_wanted, skill, settled, wished, cancelled_at, review_cancelled_at, cancel_reason,
                  reviews_wished, review_priority)
SELECT *
FROM unnest($1::text[], $2::text[], $3::text[], $4::bool[], $5::bool[], $6::text[], $7::bigint[], $8::float8[],
            $9::text[], $10::bigint[], $11::int[], $12::text[], $13::bool[], $14::int[], $15::bigint[],
            $16::bigint[], $17::text[], $18::int[], $19::float8[])
ON CONFLICT (tenant, project, item) DO UPDATE
SET imported = excluded.imported, gold = excluded.gold, route = excluded.route,
    route_revision = excluded.route_revision, priority = excluded.priority, decision = excluded.decision,
    decision_revision = excluded.decision_revision, answers_wanted = excluded.answers_wanted, skill = excluded.skill,
    settled = excluded.settled, wished = excluded.wished, cancelled_at = excluded.cancelled_at,
    review_cancelled_at = excluded.review_cancelled_at, cancel_reason = excluded.cancel_reason,
    reviews_wished = excluded.reviews_wished, review_priority = excluded.review_priority
