-- name: insert_annotations
INSERT INTO annotation (tenant, project, annotation, kind)
SELECT $1, $2, * FROM unnest($3::text[], $4::smallint[])
ON CONFLICT DO NOTHING
RETURNING kind

-- name: insert_votes
INSERT INTO vote (tenant, project, item, question, labeler, annotation, answer)
SELECT $1, $2, * FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[])
ON CONFLICT DO NOTHING
RETURNING item, question, labeler

-- name: upsert_scores
INSERT INTO score (tenant, project, item, question, model, revision, probabilities, class_ids)
SELECT $1, $2, item, $3, $4, $5, (SELECT array_agg(p ORDER BY place) FROM unnest(($7::real[])[(row - 1) * $8 + 1 : row * $8]) WITH ORDINALITY AS value (p, place)), $9::text[]
FROM unnest($6::text[]) WITH ORDINALITY AS heard (item, row)
ON CONFLICT (tenant, project, item, question) DO UPDATE
SET model = excluded.model, revision = excluded.revision, probabilities = excluded.probabilities, class_ids = excluded.class_ids
WHERE score.revision < excluded.revision
RETURNING item

-- name: upsert_truths
INSERT INTO truth (tenant, project, item, question, answer, rank, time)
SELECT DISTINCT ON (item, question) $1, $2, * FROM unnest($3::text[], $4::text[], $5::bytea[], $6::smallint[], $7::timestamptz[])
  AS heard (item, question, answer, rank, time)
ORDER BY item, question, rank DESC, time DESC
ON CONFLICT (tenant, project, item, question) DO UPDATE
SET answer = excluded.answer, rank = excluded.rank, time = excluded.time
WHERE (truth.rank, truth.time) < (excluded.rank, excluded.time)
RETURNING item, question

-- name: answer_bytes
SELECT coalesce(sum(octet_length(answer)), 0) FROM vote WHERE tenant = $1 AND project = $2

-- name: answered_items
SELECT item, sum(octet_length(answer)) AS bytes FROM vote WHERE tenant = $1 AND project = $2 AND item > $3
GROUP BY item ORDER BY item LIMIT $4

-- name: answered_among
SELECT item, sum(octet_length(answer)) AS bytes FROM vote WHERE tenant = $1 AND project = $2 AND item = ANY ($3::text[])
GROUP BY item ORDER BY item

-- name: items_with_truth
SELECT item, sum(octet_length(answer)) + coalesce((
         SELECT sum(octet_length(vote.answer)) FROM vote
         WHERE vote.tenant = $1 AND vote.project = $2 AND vote.item = truth.item), 0) AS bytes
FROM truth WHERE tenant = $1 AND project = $2 AND item > $3
GROUP BY item ORDER BY item LIMIT $4

-- name: votes_on
SELECT item, question, labeler, annotation, answer FROM vote
WHERE tenant = $1 AND project = $2 AND item = ANY ($3::text[])
ORDER BY item, question, labeler

-- name: scores_of
SELECT item, question, model, probabilities, class_ids FROM score
WHERE tenant = $1 AND project = $2 AND item = ANY ($3::text[])
ORDER BY item, question

-- name: truths_of
SELECT item, question, answer FROM truth WHERE tenant = $1 AND project = $2 AND item = ANY ($3::text[]) ORDER BY item, question

-- name: all_votes
SELECT item, question, labeler, annotation, answer FROM vote WHERE tenant = $1 AND project = $2
ORDER BY item, question, labeler

-- name: all_scores
SELECT item, question, model, probabilities, class_ids FROM score WHERE tenant = $1 AND project = $2 ORDER BY item, question

-- name: all_truths
SELECT item, question, answer FROM truth WHERE tenant = $1 AND project = $2 ORDER BY item, question
