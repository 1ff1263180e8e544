-- name: counted
SELECT votes, label_annotations FROM counted WHERE tenant = $1 AND project = $2

-- name: answers_given
SELECT question, labeler, answers FROM answers_given WHERE tenant = $1 AND project = $2

-- name: save_counted
INSERT INTO counted (tenant, project, votes, label_annotations) VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant, project) DO UPDATE SET votes = excluded.votes, label_annotations = excluded.label_annotations

-- name: save_answers_given
INSERT INTO answers_given (tenant, project, question, labeler, answers)
SELECT $1, $2, * FROM unnest($3::text[], $4::text[], $5::bigint[])
ON CONFLICT (tenant, project, question, labeler) DO UPDATE SET answers = excluded.answers

-- name: count_label_annotations
-- A release that knew votes alone may still have been running when this one migrated: where it kept a vote, the item
-- tells the kind of its annotation.
SELECT (SELECT count(*) FROM annotation WHERE tenant = $1 AND project = $2 AND kind = $3)
     + (SELECT count(DISTINCT vote.annotation) FROM vote
        WHERE vote.tenant = $1 AND vote.project = $2
          AND NOT EXISTS (SELECT FROM annotation AS heard
                          WHERE (heard.tenant, heard.project, heard.annotation) = (vote.tenant, vote.project, vote.annotation))
          AND NOT EXISTS (SELECT FROM truth
                          WHERE (truth.tenant, truth.project, truth.item) = (vote.tenant, vote.project, vote.item) AND rank = 1))
