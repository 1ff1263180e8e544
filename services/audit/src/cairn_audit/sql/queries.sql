-- === the ledger

-- name: open_ledgers
INSERT INTO ledger_head (tenant) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING

-- name: lock_ledger
SELECT size, news_size FROM ledger_head WHERE tenant = $1 FOR UPDATE

-- name: ledger_size
SELECT size, news_size FROM ledger_head WHERE tenant = $1

-- name: known_events
-- Looked up one by one, as entries and nodes are below: while the planner knows nothing of a table that grows fast, it
-- would rather read all of the tenant's ledger.
SELECT k.event_id
FROM unnest($2::uuid[]) AS k (event_id)
CROSS JOIN LATERAL (SELECT FROM ledger_entry e WHERE e.tenant = $1 AND e.event_id = k.event_id LIMIT 1) AS there

-- name: append_entries
-- Of a project that is deleted already only the hash is kept.
INSERT INTO ledger_entry (tenant, index, event_id, record, leaf_hash, erased_for, erased_at)
SELECT $1, $2::bigint + place - 1, added.event_id, CASE WHEN d.event_id IS NULL THEN record ELSE '' END, leaf_hash,
       d.event_id, CASE WHEN d.event_id IS NULL THEN NULL ELSE now() END
FROM unnest($3::uuid[], $4::bytea[], $5::bytea[], $6::text[]) WITH ORDINALITY AS added (event_id, record, leaf_hash, project, place)
LEFT JOIN LATERAL (
  SELECT event_id FROM deleted_project d
  WHERE d.tenant = $1 AND d.project = added.project AND d.event_id <> added.event_id LIMIT 1) AS d ON true

-- name: append_nodes
INSERT INTO ledger_node (tenant, level, index, hash) SELECT $1, * FROM unnest($2::smallint[], $3::bigint[], $4::bytea[])

-- name: set_ledger_size
UPDATE ledger_head SET size = $2, news_size = $3 WHERE tenant = $1

-- name: nodes
SELECT w.level, w.index, node.hash
FROM unnest($2::smallint[], $3::bigint[]) AS w (level, index)
CROSS JOIN LATERAL (
  SELECT hash FROM ledger_node n WHERE n.tenant = $1 AND n.level = w.level AND n.index = w.index LIMIT 1) AS node
UNION ALL
SELECT 0, w.index, entry.leaf_hash
FROM unnest($4::bigint[]) AS w (index)
CROSS JOIN LATERAL (
  SELECT leaf_hash FROM ledger_entry e WHERE e.tenant = $1 AND e.index = w.index LIMIT 1) AS entry

-- name: entries
SELECT index, event_id, record, leaf_hash, erased_for, erased_at FROM ledger_entry
WHERE tenant = $1 AND index >= $2 AND index < $3 ORDER BY index LIMIT $4

-- name: entry_of_event
SELECT index, event_id, record, leaf_hash, erased_for, erased_at FROM ledger_entry WHERE tenant = $1 AND event_id = $2

-- name: entries_that_may_be_of
-- Of the next so many entries those whose bytes hold $4: whose they are is read from the record.
SELECT index, event_id, record, leaf_hash, erased_for, erased_at FROM ledger_entry
WHERE tenant = $1 AND index >= $2 AND index < $3 AND position($4::bytea IN record) > 0
ORDER BY index

-- name: erase_entries
-- By whole keys that come from one side: where tenants are many each is believed to be small, and all of its ledger would be
-- read. So it is with all that is looked up below.
UPDATE ledger_entry e SET record = '', erased_for = $3, erased_at = now()
FROM (SELECT $1::text AS tenant, erased.* FROM unnest($2::bigint[]) AS erased (index) OFFSET 0) AS k
WHERE (e.tenant, e.index) = (k.tenant, k.index) AND e.erased_for IS NULL AND e.event_id <> $3

-- name: nodes_between
SELECT node.level, node.index, node.hash
FROM unnest($2::smallint[], $3::bigint[], $4::bigint[]) AS wanted (level, low, high)
CROSS JOIN LATERAL (
  SELECT level, index, hash FROM ledger_node
  WHERE tenant = $1 AND level = wanted.level AND index >= wanted.low AND index < wanted.high
  OFFSET 0) AS node

-- name: count_nodes
SELECT count(*) FROM ledger_node WHERE tenant = $1

-- name: ledgers_with_news
SELECT tenant FROM ledger_head AS head
WHERE news_size > coalesce((SELECT max(size) FROM checkpoint WHERE checkpoint.tenant = head.tenant), 0)
ORDER BY tenant

-- name: newest_checkpoint
SELECT size, root_hash, note, key_id, create_time FROM checkpoint WHERE tenant = $1 ORDER BY size DESC LIMIT 1

-- name: checkpoints_before
SELECT size, root_hash, note, key_id, create_time FROM checkpoint WHERE tenant = $1 AND size < $2 ORDER BY size DESC LIMIT $3

-- name: checkpoints_between
SELECT size, root_hash, note, key_id, create_time FROM checkpoint WHERE tenant = $1 AND size > $2 AND size <= $3 ORDER BY size LIMIT $4

-- name: keep_checkpoint
INSERT INTO checkpoint (tenant, size, root_hash, note, key_id) VALUES ($1, $2, $3, $4, $5) RETURNING create_time

-- name: keep_key
INSERT INTO ledger_key (key_id, public_key) VALUES ($1, $2) ON CONFLICT (key_id) DO NOTHING

-- name: keys
SELECT public_key FROM ledger_key ORDER BY first_use DESC, key_id

-- === projects and labels

-- name: upsert_projects
INSERT INTO project (tenant, project, revision, body)
SELECT DISTINCT ON (tenant, project) * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bytea[]) AS heard (tenant, project, revision, body)
ORDER BY tenant, project, revision DESC
ON CONFLICT (tenant, project) DO UPDATE SET revision = excluded.revision, body = excluded.body
WHERE project.revision < excluded.revision

-- name: project
SELECT body FROM project WHERE tenant = $1 AND project = $2

-- name: upsert_labels
INSERT INTO label (tenant, project, question, item, revision, source, class_id, band, confidence, answer)
SELECT DISTINCT ON (tenant, project, question, item) *
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::smallint[], $7::text[], $8::smallint[], $9::double precision[], $10::bytea[])
  AS heard (tenant, project, question, item, revision, source, class_id, band, confidence, answer)
ORDER BY tenant, project, question, item, revision DESC
ON CONFLICT (tenant, project, question, item) DO UPDATE
SET revision = excluded.revision, source = excluded.source, class_id = excluded.class_id, band = excluded.band,
    confidence = excluded.confidence, answer = excluded.answer
WHERE label.revision < excluded.revision

-- name: label
SELECT revision, source, class_id, band, confidence, answer FROM label WHERE tenant = $1 AND project = $2 AND question = $3 AND item = $4

-- name: count_cells
SELECT source, class_id, band, count(*) AS labels, sum(confidence) AS confidence_sum
FROM label WHERE tenant = $1 AND project = $2 AND question = $3 AND ($4::smallint = 0 OR source = $4)
GROUP BY source, class_id, band

-- === audits

-- name: insert_audit
INSERT INTO audit (tenant, project, audit, question, source, max_error, confidence, seed)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)

-- name: insert_strata
INSERT INTO stratum (tenant, project, audit, stratum, source, class_id, confidence_low, confidence_high, population)
SELECT $1, $2, $3, * FROM unnest($4::smallint[], $5::smallint[], $6::text[], $7::double precision[], $8::double precision[], $9::bigint[])

-- The labels of each stratum in the order of a keyed hash, which is as good as a shuffle and can be made again from the
-- seed; the first so many of each are the sample. Only hashes below a bound are put in order: to sort all takes three
-- times as long as to look at all.
-- name: draw_sample
WITH drawn AS (
  INSERT INTO sample (tenant, project, audit, item, stratum, label_revision, label_answer)
  SELECT $1, $2, $3, item, stratum, revision, answer
  FROM (
    SELECT hashed.*, row_number() OVER (PARTITION BY stratum ORDER BY hash) AS place
    FROM (
      SELECT label.item, label.revision, label.answer, cell.stratum, cell.drawn, cell.below,
             sha256(convert_to($5::text || '/' || label.item, 'UTF8')) AS hash
      FROM label
      JOIN unnest($6::smallint[], $7::text[], $8::smallint[], $9::smallint[], $10::bigint[], $11::bytea[])
        AS cell (source, class_id, band, stratum, drawn, below) USING (source, class_id, band)
      WHERE label.tenant = $1 AND label.project = $2 AND label.question = $4
    ) AS hashed
    WHERE hash < below
  ) AS shuffled
  WHERE place <= drawn
  ON CONFLICT DO NOTHING
  RETURNING stratum
)
SELECT stratum, count(*) AS labels FROM drawn GROUP BY stratum

-- name: audit
SELECT * FROM audit WHERE tenant = $1 AND project = $2 AND audit = $3

-- name: lock_audit
SELECT * FROM audit WHERE tenant = $1 AND project = $2 AND audit = $3 FOR UPDATE

-- name: audits_before
SELECT * FROM audit WHERE tenant = $1 AND project = $2 AND ($3 = '' OR audit < $3) ORDER BY audit DESC LIMIT $4

-- name: end_audit
UPDATE audit SET phase = $4, end_time = now() WHERE tenant = $1 AND project = $2 AND audit = $3

-- name: strata
-- Samples are counted once: joined with the strata all were read for each of these, where few were believed to be there.
WITH counted AS MATERIALIZED (
  SELECT audit, stratum, count(*) AS sampled,
         count(*) FILTER (WHERE outcome IN ('right', 'wrong')) AS reviewed,
         count(*) FILTER (WHERE outcome = 'wrong') AS wrong,
         count(*) FILTER (WHERE outcome = 'excluded') AS excluded
  FROM sample WHERE tenant = $1 AND project = $2 AND audit = ANY ($3::text[])
  GROUP BY audit, stratum
)
SELECT audit, stratum, s.source, s.class_id, s.confidence_low, s.confidence_high, s.population,
       coalesce(sampled, 0) AS sampled, coalesce(reviewed, 0) AS reviewed, coalesce(wrong, 0) AS wrong,
       coalesce(excluded, 0) AS excluded
FROM stratum AS s LEFT JOIN counted USING (audit, stratum)
WHERE s.tenant = $1 AND s.project = $2 AND audit = ANY ($3::text[])
ORDER BY audit, stratum

-- name: any_open
-- Put in order so as to be found by the one index that has only open ones. What was asked for last is likely to be open.
SELECT true FROM sample WHERE tenant = $1 AND project = $2 AND audit = $3 AND outcome = 'open' AND reviews_wanted > 0
ORDER BY ask_after DESC LIMIT 1

-- name: open_sample
SELECT label_revision, label_answer, reviews_wanted
FROM sample WHERE tenant = $1 AND project = $2 AND audit = $3 AND item = $4 AND outcome = 'open' FOR UPDATE

-- name: settle_sample
UPDATE sample SET outcome = $5, note = $6 WHERE tenant = $1 AND project = $2 AND audit = $3 AND item = $4

-- name: leave_out
UPDATE sample SET outcome = 'excluded', note = $5
WHERE tenant = $1 AND project = $2 AND audit = $3 AND item = ANY($4::text[]) AND outcome = 'open'

-- name: want_another_review
UPDATE sample SET reviews_wanted = $5, ask_after = now() WHERE tenant = $1 AND project = $2 AND audit = $3 AND item = $4

-- name: insert_finding
INSERT INTO finding (tenant, project, audit, finding, item, judgement, review_answer, reviewer, annotation)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (tenant, project, audit, finding) DO NOTHING
RETURNING true

-- name: findings_after
-- At most $6, and of large answers no more than those before which there are $7 bytes: how large they are is known unread.
SELECT * FROM (
  SELECT next.*, sum(size) OVER (ORDER BY finding) - size AS before
  FROM (
    SELECT f.finding, f.item, f.judgement, f.review_answer, f.reviewer, f.annotation, f.create_time, s.label_revision,
           s.label_answer, octet_length(f.review_answer) + octet_length(s.label_answer) AS size
    FROM finding AS f
    CROSS JOIN LATERAL (
      SELECT label_revision, label_answer FROM sample
      WHERE tenant = $1 AND project = $2 AND audit = $3 AND item = f.item LIMIT 1) AS s
    WHERE f.tenant = $1 AND f.project = $2 AND f.audit = $3 AND f.finding > $4 AND (NOT $5::boolean OR f.judgement = 'wrong')
    ORDER BY f.finding LIMIT $6
  ) AS next
) AS page
WHERE before <= $7::bigint ORDER BY finding

-- === asking for reviews

-- An answer that no event could carry is empty until it is read. Before that no review is asked for: it would judge nothing.
-- name: labels_to_read
SELECT tenant, project, audit, item, question, label_revision FROM sample JOIN audit USING (tenant, project, audit)
WHERE outcome = 'open' AND reviews_asked < reviews_wanted AND ask_after <= now() AND label_answer = ''
ORDER BY ask_after LIMIT $1

-- name: label_read
UPDATE sample SET label_answer = $5, refusals = 0 WHERE tenant = $1 AND project = $2 AND audit = $3 AND item = $4

-- name: audits_to_ask_for
-- One look an audit, here and below where reviews are called off: together they have very many samples.
SELECT tenant, project, audit FROM audit AS a
WHERE phase = 'reviewing' AND EXISTS (
  SELECT FROM sample AS s
  WHERE s.tenant = a.tenant AND s.project = a.project AND s.audit = a.audit
    AND outcome = 'open' AND reviews_asked < reviews_wanted AND ask_after <= now() AND label_answer <> ''
  OFFSET 0)
ORDER BY tenant, project, audit

-- name: samples_to_ask_for
SELECT item, reviews_wanted FROM sample
WHERE tenant = $1 AND project = $2 AND audit = $3 AND outcome = 'open' AND reviews_asked < reviews_wanted AND ask_after <= now()
  AND label_answer <> ''
ORDER BY ask_after, item LIMIT $4

-- name: reviews_agreed
UPDATE sample s SET reviews_asked = least(k.reviews, s.reviews_wanted), task = k.task, refusals = 0
FROM (
  SELECT $1::text AS tenant, $2::text AS project, $3::text AS audit, asked.*
  FROM unnest($4::text[], $5::smallint[], $6::text[]) AS asked (item, reviews, task)
  OFFSET 0) AS k
WHERE (s.tenant, s.project, s.audit, s.item) = (k.tenant, k.project, k.audit, k.item)

-- name: reviews_refused
UPDATE sample s SET refusals = refusals + 1, ask_after = now() + least(power(2, refusals), 60) * interval '1 second', note = k.note,
  outcome = CASE WHEN refusals + 1 >= $6 AND outcome = 'open' THEN 'excluded' ELSE outcome END
FROM (
  SELECT $1::text AS tenant, $2::text AS project, $3::text AS audit, refused.*
  FROM unnest($4::text[], $5::text[]) AS refused (item, note)
  OFFSET 0) AS k
WHERE (s.tenant, s.project, s.audit, s.item) = (k.tenant, k.project, k.audit, k.item)

-- name: audits_to_call_off
SELECT tenant, project, audit FROM audit AS a
WHERE phase = 'cancelled' AND EXISTS (
  SELECT FROM sample AS s
  WHERE s.tenant = a.tenant AND s.project = a.project AND s.audit = a.audit AND outcome = 'open' AND task <> ''
  OFFSET 0)
ORDER BY tenant, project, audit

-- name: tasks_to_call_off
SELECT item, task FROM sample
WHERE tenant = $1 AND project = $2 AND audit = $3 AND outcome = 'open' AND task <> '' AND task > $4
ORDER BY task LIMIT $5

-- name: called_off
UPDATE sample SET task = '' WHERE tenant = $1 AND project = $2 AND audit = $3 AND item = $4 AND task = $5
