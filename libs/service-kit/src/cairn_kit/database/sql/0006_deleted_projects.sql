-- Projects that are deleted, or being deleted, in this service. A row stays for good: whatever comes late about the project,
-- however late, finds it here and changes nothing; its id is never given again.
CREATE TABLE deleted_project (
  tenant       text COLLATE "C" NOT NULL,
  project      text COLLATE "C" NOT NULL,
  event_id     uuid NOT NULL,                       -- the ProjectDeleted
  requested_at timestamptz NOT NULL DEFAULT now(),
  -- When this row was first seen: what begins later sees it too. Nothing is deleted while something older still runs.
  seen_at      timestamptz,
  -- How far the deletion has come: in which part, and after which key.
  part         integer NOT NULL DEFAULT 0 CHECK (part >= 0),
  after        text COLLATE "C" NOT NULL DEFAULT '',
  deleted      bigint NOT NULL DEFAULT 0 CHECK (deleted >= 0),
  turn_at      timestamptz NOT NULL DEFAULT now(),  -- when to work on it next
  gone_at      timestamptz CHECK (gone_at IS NULL OR seen_at IS NOT NULL),
  PRIMARY KEY (tenant, project)
);

CREATE INDEX deleted_project_to_do ON deleted_project (turn_at) WHERE gone_at IS NULL;
