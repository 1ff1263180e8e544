-- The question that an item's label and scores are of: the policy's, or, while routing is off, the one routed last.
-- Of a project whose routing is off just now nobody knows it any more.
ALTER TABLE project ADD COLUMN routed_question text NOT NULL DEFAULT '';
UPDATE project SET routed_question = question;

-- The labels that stand for the choice questions that are not routed: one of them may be, later.
CREATE TABLE other_label (
    tenant      text NOT NULL,
    project     text NOT NULL,
    question    text NOT NULL,
    item        text NOT NULL,
    label       text,
    source      smallint NOT NULL,
    confidence  double precision NOT NULL,
    revision    bigint NOT NULL,
    PRIMARY KEY (tenant, project, question, item),
    FOREIGN KEY (tenant, project, item) REFERENCES item
);
