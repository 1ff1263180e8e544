-- Imports, and what they refused.

-- name: open_import
INSERT INTO import (tenant, project, import) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING

-- name: get_import
SELECT * FROM import WHERE tenant = $1 AND project = $2 AND import = $3

-- name: list_imports
SELECT * FROM import WHERE tenant = $1 AND project = $2 AND (created_at, import) < ($3, $4)
ORDER BY created_at DESC, import DESC LIMIT $5

-- name: import_to_change
SELECT * FROM import WHERE tenant = $1 AND project = $2 AND import = $3 FOR NO KEY UPDATE

-- name: advance_import
UPDATE import SET next_offset = next_offset + $4 + $5 + $6, created = created + $4, unchanged = unchanged + $5,
       failed = failed + $6, finished = finished OR $7, updated_at = now()
WHERE tenant = $1 AND project = $2 AND import = $3
RETURNING *

-- name: cancel_import
UPDATE import SET finished = true, cancelled = true, updated_at = now()
WHERE tenant = $1 AND project = $2 AND import = $3
RETURNING *

-- name: add_import_failures
INSERT INTO import_failure (tenant, project, import, "offset", item, error)
SELECT $1, $2, $3, f.* FROM unnest($4::bigint[], $5::text[], $6::bytea[]) AS f

-- name: import_failures
SELECT "offset", item, error FROM import_failure WHERE tenant = $1 AND project = $2 AND import = $3
ORDER BY "offset" LIMIT $4
