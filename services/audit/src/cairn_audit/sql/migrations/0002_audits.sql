-- Sampling audits: what there is to draw from, what was drawn, what was seen.

-- Projects as annotation-store announces them, whole (a serialized cairn.annotation.v1.Project).
CREATE TABLE project (
  tenant   text NOT NULL,
  project  text NOT NULL,
  revision bigint NOT NULL,
  body     bytea NOT NULL,
  PRIMARY KEY (tenant, project)
);

-- The label that stands for each question of each item: the population of audits.
CREATE TABLE label (
  tenant     text NOT NULL,
  project    text NOT NULL,
  question   text NOT NULL,
  item       text NOT NULL,
  revision   bigint NOT NULL,
  source     smallint NOT NULL,           -- cairn.annotation.v1.LabelSource
  class_id   text NOT NULL,               -- empty where the answer is not a single class
  band       smallint NOT NULL,           -- of confidence, see domain/sampling.py
  confidence double precision NOT NULL,
  answer     bytea NOT NULL,              -- a serialized cairn.label.v1.Answer
  PRIMARY KEY (tenant, project, question, item)
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.05);

CREATE TABLE audit (
  tenant      text NOT NULL,
  project     text NOT NULL,
  audit       text NOT NULL,
  phase       text NOT NULL DEFAULT 'reviewing' CHECK (phase IN ('reviewing', 'passed', 'failed', 'cancelled')),
  question    text NOT NULL,
  source      smallint NOT NULL,          -- what was asked for; 0 is every source
  max_error   double precision NOT NULL CHECK (max_error > 0 AND max_error <= 1),
  confidence  double precision NOT NULL CHECK (confidence > 0 AND confidence < 1),
  seed        bigint NOT NULL,
  create_time timestamptz NOT NULL DEFAULT now(),
  end_time    timestamptz,
  PRIMARY KEY (tenant, project, audit),
  CHECK ((phase = 'reviewing') = (end_time IS NULL))
);

CREATE INDEX audit_reviewing ON audit (tenant, project, audit) WHERE phase = 'reviewing';

-- An audit that has ended stays as it ended.
CREATE FUNCTION refuse_reopening() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF OLD.phase <> 'reviewing' AND NEW.phase <> OLD.phase THEN
    RAISE EXCEPTION 'audit % has ended as %', OLD.audit, OLD.phase USING ERRCODE = 'integrity_constraint_violation';
  END IF;
  RETURN NEW;
END
$$;

CREATE TRIGGER ended_for_good BEFORE UPDATE ON audit FOR EACH ROW EXECUTE FUNCTION refuse_reopening();

CREATE TABLE stratum (
  tenant          text NOT NULL,
  project         text NOT NULL,
  audit           text NOT NULL,
  stratum         smallint NOT NULL,
  source          smallint NOT NULL,
  class_id        text NOT NULL,
  confidence_low  double precision NOT NULL,
  confidence_high double precision NOT NULL,
  population      bigint NOT NULL CHECK (population > 0),
  PRIMARY KEY (tenant, project, audit, stratum),
  FOREIGN KEY (tenant, project, audit) REFERENCES audit
);

-- A label that was drawn, as it was when it was drawn.
--
--   open --a review says right or wrong--> right, wrong
--   open --reviewers cannot tell, or no review can be had--> excluded
CREATE TABLE sample (
  tenant         text NOT NULL,
  project        text NOT NULL,
  audit          text NOT NULL,
  item           text NOT NULL,
  stratum        smallint NOT NULL,
  label_revision bigint NOT NULL,
  label_answer   bytea NOT NULL,
  outcome        text NOT NULL DEFAULT 'open' CHECK (outcome IN ('open', 'right', 'wrong', 'excluded')),
  -- Reviews wanted in all, and how many of them task-dispatch has been asked for and has agreed to.
  reviews_wanted smallint NOT NULL DEFAULT 1 CHECK (reviews_wanted >= 1),
  reviews_asked  smallint NOT NULL DEFAULT 0 CHECK (reviews_asked BETWEEN 0 AND reviews_wanted),
  task           text NOT NULL DEFAULT '',
  refusals       smallint NOT NULL DEFAULT 0,
  ask_after      timestamptz NOT NULL DEFAULT now(),
  note           text NOT NULL DEFAULT '',
  PRIMARY KEY (tenant, project, audit, item),
  FOREIGN KEY (tenant, project, audit, stratum) REFERENCES stratum
);

CREATE INDEX sample_to_ask ON sample (ask_after) WHERE outcome = 'open' AND reviews_asked < reviews_wanted;
CREATE INDEX sample_to_call_off ON sample (tenant, project, audit) WHERE outcome = 'open' AND task <> '';

-- What a reviewer saw of a drawn label; one for each review.
CREATE TABLE finding (
  tenant         text NOT NULL,
  project        text NOT NULL,
  audit          text NOT NULL,
  finding        text NOT NULL,           -- the id of the review's annotation
  item           text NOT NULL,
  judgement      text NOT NULL CHECK (judgement IN ('right', 'wrong', 'not_judged')),
  review_answer  bytea NOT NULL,          -- empty when the question was not answered
  reviewer       text NOT NULL,
  annotation     text NOT NULL,
  create_time    timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, project, audit, finding),
  FOREIGN KEY (tenant, project, audit, item) REFERENCES sample
);

-- A drawn label is judged once.
CREATE UNIQUE INDEX finding_judges_once ON finding (tenant, project, audit, item) WHERE judgement <> 'not_judged';
