-- What ends with the wish to delete a project; the rows themselves go by `store/deleting.py`.

-- name: cancel_exports
UPDATE export SET state = 4, ended_at = now(), worker = NULL WHERE tenant = $1 AND project = $2 AND state IN (1, 2)

-- name: forget_recount
DELETE FROM recount WHERE tenant = $1 AND project = $2
