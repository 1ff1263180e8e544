-- How much was said in each project: what no look at the items at hand can tell. One without a row is counted from its
-- votes once.
CREATE TABLE counted (
  tenant            text NOT NULL,
  project           text NOT NULL,
  votes             bigint NOT NULL,  -- annotations with at least one answer that counts
  label_annotations bigint NOT NULL,  -- annotations of kind LABEL, whether or not any of their answers counts
  PRIMARY KEY (tenant, project)
) WITH (fillfactor = 50);

-- How many answers that count each labeler, person or model, gave to each question.
CREATE TABLE answers_given (
  tenant   text NOT NULL,
  project  text NOT NULL,
  question text NOT NULL,
  labeler  text NOT NULL,
  answers  bigint NOT NULL,
  PRIMARY KEY (tenant, project, question, labeler)
) WITH (fillfactor = 50);

-- A fit that takes its process down is not begun again at once, nor by another replica.
ALTER TABLE refitting
  ADD COLUMN tries      int NOT NULL DEFAULT 0,
  ADD COLUMN not_before timestamptz NOT NULL DEFAULT now();

-- The fewest answers that were ever asked for at first. Tasks keep the slots that they were made with: of an item that nothing
-- was announced of yet, no more are on their way. NULL: heard of by a release that did not note it.
ALTER TABLE project ADD COLUMN fewest_answers int;
