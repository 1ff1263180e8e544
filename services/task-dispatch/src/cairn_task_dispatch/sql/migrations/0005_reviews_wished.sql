-- The wish by hand for reviews without an audit is a fact of the item: before, the next fact about it closed the task.
ALTER TABLE item ADD COLUMN reviews_wished integer NOT NULL DEFAULT 0;
ALTER TABLE item ADD COLUMN review_priority double precision NOT NULL DEFAULT 0;

-- Reviews that stand open and that no dispute calls for were made by hand.
UPDATE item i
SET reviews_wished = (SELECT count(*) FROM slot s
                      WHERE s.tenant = t.tenant AND s.project = t.project AND s.task = t.task),
    review_priority = t.priority, review_cancelled_at = NULL
FROM task t
JOIN project p USING (tenant, project)
WHERE t.tenant = i.tenant AND t.project = i.project AND t.item = i.item
  AND t.kind = 'REVIEW' AND t.audit = '' AND t.state = 'OPEN'
  AND (i.settled OR i.gold OR i.decision NOT IN ('DISPUTED', 'UNDECIDABLE')
       OR (i.decision = 'DISPUTED' AND NOT p.reviews_disputes) OR i.decision_revision <= i.review_cancelled_at);
