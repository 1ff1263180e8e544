-- The validation items that a threshold would have let through, had they not been taken for validation, each with the
-- answer that the version serving then gave: by it they are judged ever after, whichever version serves. Kept by
-- question, for an automatic label stays when another question is routed, and so does the promise about it.
CREATE TABLE let_through (
    tenant      text NOT NULL,
    project     text NOT NULL,
    question    text NOT NULL,
    item        text NOT NULL,
    answer      text NOT NULL,
    threshold   bigint NOT NULL,
    PRIMARY KEY (tenant, project, question, item),
    FOREIGN KEY (tenant, project, item) REFERENCES item,
    FOREIGN KEY (tenant, project, threshold) REFERENCES threshold
);
-- Of thresholds that are in force now the scores are still there.
INSERT INTO let_through (tenant, project, question, item, answer, threshold)
SELECT i.tenant, i.project, p.routed_question, i.item, i.predicted, t.threshold
FROM project p
JOIN threshold t USING (tenant, project, threshold)
JOIN item i ON (i.tenant, i.project) = (p.tenant, p.project)
WHERE i.validation AND i.scored_round = p.score_round AND i.score >= t.score AND i.predicted = ANY (p.class_ids);
