-- name: begin_share
-- Skipped while a transaction of the keeper before is still under way.
UPDATE share SET epoch = epoch + 1
WHERE share = (SELECT share FROM share WHERE share = $1 FOR UPDATE SKIP LOCKED)
RETURNING epoch

-- name: hold_shares
SELECT share FROM share JOIN unnest($1::smallint[], $2::bigint[]) AS mine (share, epoch) USING (share, epoch)
ORDER BY share
FOR SHARE OF share
