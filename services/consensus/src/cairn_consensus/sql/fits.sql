-- name: save_refit
INSERT INTO refit (tenant, project, refit, votes, labelers, changed_items, state, state_sha256)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (tenant, project) DO UPDATE
SET refit = excluded.refit, votes = excluded.votes, labelers = excluded.labelers, changed_items = excluded.changed_items,
    state = excluded.state, state_sha256 = excluded.state_sha256, create_time = now()

-- name: note_changed_items
UPDATE refit SET changed_items = changed_items + $3 WHERE tenant = $1 AND project = $2
RETURNING refit, votes, labelers, changed_items, state_sha256

-- name: newest_refit
SELECT refit, votes, state, create_time FROM refit WHERE tenant = $1 AND project = $2
