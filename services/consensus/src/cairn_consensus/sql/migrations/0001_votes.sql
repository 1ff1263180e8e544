-- Projects as last heard of.
CREATE TABLE project (
  tenant   text NOT NULL,
  project  text NOT NULL,
  revision bigint NOT NULL,
  body     bytea NOT NULL,  -- cairn.annotation.v1.Project
  PRIMARY KEY (tenant, project)
);

-- Answers to find a label, each as one vote a question. A labeler has one vote on a question of an item.
CREATE TABLE vote (
  tenant     text NOT NULL,
  project    text NOT NULL,
  item       text NOT NULL,
  question   text NOT NULL,
  labeler    text NOT NULL,
  annotation text NOT NULL,
  answer     bytea NOT NULL,  -- cairn.label.v1.Answer
  PRIMARY KEY (tenant, project, item, question, labeler)
);

-- What a model says of an item; the newest round of scoring replaces the earlier.
CREATE TABLE score (
  tenant        text NOT NULL,
  project       text NOT NULL,
  item          text NOT NULL,
  question      text NOT NULL,
  model         text NOT NULL,  -- projects/{project}/models/{model}/versions/{version}
  revision      bigint NOT NULL,
  probabilities real[] NOT NULL,  -- in the order of class_ids
  class_ids     text[] NOT NULL,
  PRIMARY KEY (tenant, project, item, question)
);

-- What is known to be true: gold, and what reviewers decided. A review outranks gold.
CREATE TABLE truth (
  tenant   text NOT NULL,
  project  text NOT NULL,
  item     text NOT NULL,
  question text NOT NULL,
  answer   bytea NOT NULL,  -- cairn.label.v1.Answer
  rank     smallint NOT NULL CHECK (rank IN (1, 2)),  -- 1 gold, 2 reviewed
  time     timestamptz NOT NULL,
  PRIMARY KEY (tenant, project, item, question)
);

-- Where each item stands.
--   1 COLLECTING --target reached or not worth asking--> 2 DECIDED --refit or late vote--> 2, 1
--   1 COLLECTING --cap reached without agreement--> 3 DISPUTED --review--> 2 DECIDED
CREATE TABLE item (
  tenant         text NOT NULL,
  project        text NOT NULL,
  item           text NOT NULL,
  state          smallint NOT NULL DEFAULT 1 CHECK (state IN (1, 2, 3)),
  revision       bigint NOT NULL DEFAULT 0 CHECK (revision >= 0),
  answers_wanted int NOT NULL DEFAULT 0 CHECK (answers_wanted >= 0),
  auto           boolean NOT NULL DEFAULT false,  -- a model labeled it alone: nobody is asked any more
  route_revision bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (tenant, project, item)
);

-- What was last announced of each question: announced again only when it changes.
CREATE TABLE decision (
  tenant     text NOT NULL,
  project    text NOT NULL,
  item       text NOT NULL,
  question   text NOT NULL,
  answer     bytea NOT NULL,  -- cairn.label.v1.Answer
  confidence double precision NOT NULL,
  PRIMARY KEY (tenant, project, item, question)
);

-- The newest fit to all votes of a project, with the state it left: what a restarted process goes on from.
CREATE TABLE refit (
  tenant        text NOT NULL,
  project       text NOT NULL,
  refit         bigint NOT NULL CHECK (refit > 0),
  votes         bigint NOT NULL,
  labelers      bigint NOT NULL,
  changed_items bigint NOT NULL,
  state         bytea NOT NULL,
  state_sha256  bytea NOT NULL,
  create_time   timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, project)
);

-- A vote is one row for good, and an item's row changes with most of its votes.
ALTER TABLE item SET (fillfactor = 80);
ALTER TABLE decision SET (fillfactor = 80);
