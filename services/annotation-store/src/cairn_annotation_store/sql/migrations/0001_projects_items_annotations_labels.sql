-- What was said about items, and which label stands. Every key begins with the tenant; text is compared bytewise
-- ("C"), so that pages come in one order everywhere. Messages are kept as their protobuf bytes; what SQL must
-- see of them has a column.

CREATE TABLE project (
  tenant         text COLLATE "C" NOT NULL,
  project        text COLLATE "C" NOT NULL CHECK (project ~ '^[a-z][a-z0-9-]{0,62}$'),
  revision       bigint NOT NULL CHECK (revision > 0),
  schema_version integer NOT NULL CHECK (schema_version > 0),
  archived       boolean NOT NULL DEFAULT false,
  body           bytea NOT NULL,               -- Project: display_name, schema, quality, routing
  created_at     timestamptz NOT NULL DEFAULT now(),
  updated_at     timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, project)
);

-- What of the schema some answer names: it may not vanish.
CREATE TABLE schema_use (
  tenant   text COLLATE "C" NOT NULL,
  project  text COLLATE "C" NOT NULL,
  question text COLLATE "C" NOT NULL,
  facet    text COLLATE "C" NOT NULL CHECK (facet IN ('value', 'abstention', 'class', 'attribute', 'option', 'point')),
  name     text COLLATE "C" NOT NULL,
  PRIMARY KEY (tenant, project, question, facet, name),
  FOREIGN KEY (tenant, project) REFERENCES project
);

CREATE TABLE blob (
  tenant      text COLLATE "C" NOT NULL,
  project     text COLLATE "C" NOT NULL,
  sha256      text COLLATE "C" NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
  size_bytes  bigint NOT NULL CHECK (size_bytes >= 0),
  media_type  text NOT NULL,
  width       integer NOT NULL DEFAULT 0,
  height      integer NOT NULL DEFAULT 0,
  grey_bits   smallint NOT NULL DEFAULT 0,
  text_length bigint,
  created_at  timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, project, sha256),
  FOREIGN KEY (tenant, project) REFERENCES project
);

CREATE TABLE item (
  tenant       text COLLATE "C" NOT NULL,
  project      text COLLATE "C" NOT NULL,
  item         text COLLATE "C" NOT NULL CHECK (item ~ '^[A-Za-z0-9._~%-]+$' AND length(item) <= 256),
  body         bytea NOT NULL,                 -- Item, normalised, with gold answers
  digest       bytea NOT NULL CHECK (octet_length(digest) = 32),
  is_gold      boolean NOT NULL,
  text_length  bigint,                         -- code points of a text that is a blob
  -- The lowest source among the labels that the item needs; null while one is missing.
  complete_by  smallint CHECK (complete_by BETWEEN 1 AND 4),
  created_at   timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, project, item),
  FOREIGN KEY (tenant, project) REFERENCES project
);

CREATE TABLE annotation (
  tenant         text COLLATE "C" NOT NULL,
  project        text COLLATE "C" NOT NULL,
  annotation     uuid NOT NULL,                -- UUIDv7: its order is the order of submission
  item           text COLLATE "C" NOT NULL,
  task           text COLLATE "C" NOT NULL,
  lease          text COLLATE "C" NOT NULL,
  labeler        text NOT NULL,
  kind           smallint NOT NULL CHECK (kind BETWEEN 1 AND 3),
  audit          text NOT NULL,
  answers        bytea NOT NULL,               -- Annotation with `answers` alone
  late           boolean NOT NULL,
  schema_version integer NOT NULL,
  work_us        bigint,
  submitted_at   timestamptz NOT NULL,
  PRIMARY KEY (tenant, project, annotation),
  -- A lease takes one answer, whoever asks, however often.
  CONSTRAINT one_answer_a_lease UNIQUE (tenant, lease),
  FOREIGN KEY (tenant, project, item) REFERENCES item
);

CREATE INDEX annotation_of_item ON annotation (tenant, project, item, annotation);

-- Every revision of every label. At most one revision of a label stands.
--
--   AUTO -> CONSENSUS -> GOLD -> CORRECTION: a lower source never replaces a higher one (domain/labels.py).
CREATE TABLE label (
  tenant       text COLLATE "C" NOT NULL,
  project      text COLLATE "C" NOT NULL,
  item         text COLLATE "C" NOT NULL,
  question     text COLLATE "C" NOT NULL,
  revision     bigint NOT NULL CHECK (revision > 0),
  stands       boolean NOT NULL,
  source       smallint NOT NULL CHECK (source BETWEEN 1 AND 4),
  source_order bigint NOT NULL,                -- what the source counts its own labels by
  event_id     uuid NOT NULL,
  confidence   double precision NOT NULL CHECK (confidence BETWEEN 0 AND 1),
  answer       bytea NOT NULL,                 -- Answer
  provenance   bytea NOT NULL,                 -- Provenance
  created_at   timestamptz NOT NULL DEFAULT now(),
  -- The writing transaction: a watcher reads up to the oldest one still running, so that it never misses a row
  -- that becomes visible after a later one. See README, "Watching".
  written_in   xid8 NOT NULL DEFAULT pg_current_xact_id(),
  PRIMARY KEY (tenant, project, item, question, revision),
  FOREIGN KEY (tenant, project, item) REFERENCES item
);

CREATE UNIQUE INDEX one_label_stands ON label (tenant, project, item, question) WHERE stands;
CREATE INDEX label_standing_by_source ON label (tenant, project, source, item, question) WHERE stands;
CREATE INDEX label_log ON label (tenant, project, written_in, item, question, revision);

CREATE TABLE import (
  tenant      text COLLATE "C" NOT NULL,
  project     text COLLATE "C" NOT NULL,
  import      text COLLATE "C" NOT NULL,
  finished    boolean NOT NULL DEFAULT false,
  next_offset bigint NOT NULL DEFAULT 0,
  created     bigint NOT NULL DEFAULT 0,
  unchanged   bigint NOT NULL DEFAULT 0,
  failed      bigint NOT NULL DEFAULT 0,
  created_at  timestamptz NOT NULL DEFAULT now(),
  updated_at  timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, project, import),
  FOREIGN KEY (tenant, project) REFERENCES project,
  CONSTRAINT every_item_is_accounted_for CHECK (next_offset = created + unchanged + failed)
);

CREATE TABLE import_failure (
  tenant   text COLLATE "C" NOT NULL,
  project  text COLLATE "C" NOT NULL,
  import   text COLLATE "C" NOT NULL,
  "offset" bigint NOT NULL,
  item     text NOT NULL,
  error    bytea NOT NULL,                     -- google.rpc.Status
  PRIMARY KEY (tenant, project, import, "offset"),
  FOREIGN KEY (tenant, project, import) REFERENCES import
);

-- PENDING -> RUNNING -> FINISHED | CANCELLED | FAILED; PENDING -> CANCELLED. The last three are final.
CREATE TABLE export (
  tenant              text COLLATE "C" NOT NULL,
  project             text COLLATE "C" NOT NULL,
  export              uuid NOT NULL,           -- UUIDv7
  format              smallint NOT NULL CHECK (format IN (1, 2)),
  include_annotations boolean NOT NULL,
  state               smallint NOT NULL CHECK (state BETWEEN 1 AND 5),
  exported            bigint NOT NULL DEFAULT 0,
  total               bigint NOT NULL DEFAULT 0,
  -- Where a worker goes on after a crash: parts written so far, and the last label in them.
  parts               integer NOT NULL DEFAULT 0,
  last_item           text COLLATE "C" NOT NULL DEFAULT '',
  last_question       text COLLATE "C" NOT NULL DEFAULT '',
  all_written         boolean NOT NULL DEFAULT false,
  -- Who works on it, and until when that is believed.
  worker              uuid,
  worker_until        timestamptz,
  failures            integer NOT NULL DEFAULT 0,
  file_sha256         text,
  file_bytes          bigint,
  error               bytea,                   -- google.rpc.Status
  created_at          timestamptz NOT NULL DEFAULT now(),
  ended_at            timestamptz,
  PRIMARY KEY (tenant, project, export),
  FOREIGN KEY (tenant, project) REFERENCES project,
  CONSTRAINT finished_has_a_file CHECK ((state = 3) = (file_sha256 IS NOT NULL)),
  CONSTRAINT failed_has_an_error CHECK ((state = 5) = (error IS NOT NULL)),
  CONSTRAINT final_has_an_end CHECK ((state IN (3, 4, 5)) = (ended_at IS NOT NULL))
);

CREATE INDEX export_to_do ON export (created_at) WHERE state IN (1, 2);

-- Items to be looked at again because a schema change made other questions required.
CREATE TABLE recount (
  tenant    text COLLATE "C" NOT NULL,
  project   text COLLATE "C" NOT NULL,
  last_item text COLLATE "C" NOT NULL DEFAULT '',
  PRIMARY KEY (tenant, project),
  FOREIGN KEY (tenant, project) REFERENCES project
);
