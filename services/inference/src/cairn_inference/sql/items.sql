-- name: insert_items
-- Those of the items that are not there yet. Where none is, COPY writes them in half the time.
INSERT INTO item (tenant, project, item, validation, lot, gold, hint, content, body, blob, feature_state, feature_error,
                  route, route_revision, priority, open, label, label_source, label_confidence)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::boolean[], $5::double precision[], $6::boolean[],
                     $7::double precision[], $8::smallint[], $9::text[], $10::text[], $11::smallint[], $12::text[],
                     $13::smallint[], $14::bigint[], $15::double precision[], $16::boolean[], $17::text[],
                     $18::smallint[], $19::double precision[])
ON CONFLICT DO NOTHING
RETURNING tenant, project, item

-- name: known_items
-- Each with whether its label is still one of the question that was routed before. Looked up one by one: as a join with
-- the project, all of its items would be read.
SELECT k.tenant, k.project, k.item, p.moving_from IS NOT NULL AND k.item > p.moved_until AS behind
FROM unnest($1::text[], $2::text[], $3::text[]) AS k (tenant, project, item)
CROSS JOIN LATERAL (
    SELECT FROM item i WHERE i.tenant = k.tenant AND i.project = k.project AND i.item = k.item LIMIT 1) AS there
JOIN project p ON p.tenant = k.tenant AND p.project = k.project

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

-- name: item_counts
-- Each told by its index: to stop automatic labeling is to tell them, too, and must not take long.
SELECT (SELECT count(*) FROM item WHERE tenant = $1 AND project = $2 AND route = 1) AS auto,
    (SELECT count(*) FROM item WHERE tenant = $1 AND project = $2 AND validation) AS validation
