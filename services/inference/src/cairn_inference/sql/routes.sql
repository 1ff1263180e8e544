-- name: begin_routing_round
UPDATE project SET route_round = route_round + 1, routed_scores = score_round WHERE tenant = $1 AND project = $2

-- name: items_to_route
-- Those that wait longest, in no order among them, as items_to_score; whoever writes to a project's items holds the project.
SELECT item, score, margin, predicted, gold, route, priority, route_revision
FROM item
WHERE tenant = $1 AND project = $2 AND open AND NOT validation AND feature_state = 1 AND routed_round < $3
    AND scored_round = $4
ORDER BY routed_round
LIMIT $5
FOR UPDATE

-- name: any_to_route
SELECT EXISTS (
    SELECT FROM item
    WHERE tenant = $1 AND project = $2 AND open AND NOT validation AND feature_state = 1 AND routed_round < $3
        AND scored_round = $4)

-- name: keep_routes
-- By whole keys, as keep_scores.
UPDATE item i SET route = r.route, priority = r.priority, route_revision = r.revision, routed_round = $3,
    open = i.open AND r.route <> 1
FROM (
    SELECT $1::text AS tenant, $2::text AS project, routed.*
    FROM unnest($4::text[], $5::smallint[], $6::double precision[], $7::bigint[])
        AS routed (item, route, priority, revision)
    OFFSET 0
) AS r
WHERE (i.tenant, i.project, i.item) = (r.tenant, r.project, r.item)

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
