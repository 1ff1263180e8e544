-- Items and blobs.

-- name: insert_new_items
-- Those of the items that are not there yet. Where none is, COPY writes them in half the time.
INSERT INTO item (tenant, project, item, body, digest, is_gold, text_length)
SELECT $1, $2, i.* FROM unnest($3::text[], $4::bytea[], $5::bytea[], $6::boolean[], $7::bigint[]) AS i
ON CONFLICT DO NOTHING
RETURNING item

-- name: items
SELECT item, body, digest, is_gold, text_length, created_at FROM item
WHERE tenant = $1 AND project = $2 AND item = ANY ($3)

-- name: items_of_leases
SELECT i.tenant, i.project, i.item, i.body, i.is_gold, i.text_length, i.created_at
FROM item i JOIN (SELECT DISTINCT * FROM unnest($1::text[], $2::text[], $3::text[]) AS u (tenant, project, item)) AS k
     USING (tenant, project, item)

-- name: list_items
SELECT item, body, digest, is_gold, text_length, created_at FROM item
WHERE tenant = $1 AND project = $2 AND item > $3 ORDER BY item LIMIT $4

-- name: insert_blob
INSERT INTO blob (tenant, project, sha256, size_bytes, media_type, width, height, grey_bits, text_length)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT DO NOTHING

-- name: blobs
SELECT sha256, size_bytes, media_type, width, height, grey_bits, text_length FROM blob
WHERE tenant = $1 AND project = $2 AND sha256 = ANY ($3)

-- name: blobs_of_projects
SELECT b.tenant, b.project, b.sha256, b.size_bytes, b.media_type, b.width, b.height, b.grey_bits, b.text_length
FROM blob b JOIN (SELECT DISTINCT * FROM unnest($1::text[], $2::text[], $3::text[]) AS u (tenant, project, sha256)) AS k
     USING (tenant, project, sha256)
