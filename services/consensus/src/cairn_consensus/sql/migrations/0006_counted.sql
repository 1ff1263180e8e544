-- How much was said in each project, by the schema of that version: what no look at the items at hand can tell. A project
-- without a row, or with one by another schema, is counted from its votes once.
CREATE TABLE counted (
  tenant            text NOT NULL,
  project           text NOT NULL,
  schema_version    bigint NOT NULL,
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
