-- Who does what next: items as far as dispatch must know them, tasks, slots, leases, labelers.
--
-- Every key begins with the tenant. Text keys are COLLATE "C": compared as bytes, the same on every machine.
-- The state machines are drawn in domain/states.py. Counts (answers given, live leases) are never stored: they
-- are counted from the slots, of which a task has few.

-- What of a project matters here: its quality policy, with defaults filled in.
CREATE TABLE project (
  tenant         text COLLATE "C" NOT NULL,
  project        text COLLATE "C" NOT NULL,
  revision       bigint NOT NULL,
  min_answers    integer NOT NULL CHECK (min_answers BETWEEN 1 AND 1000),
  gold_share     double precision NOT NULL CHECK (gold_share BETWEEN 0 AND 0.5),
  lease_duration interval NOT NULL CHECK (lease_duration > interval '0' AND lease_duration <= interval '24 hours'),
  reviews_disputes boolean NOT NULL,
  required_skill text NOT NULL,
  archived       boolean NOT NULL,
  PRIMARY KEY (tenant, project)
);

-- The newest fact of each kind about an item. The wish for its label is a pure function of this row
-- (domain/wishes.py), so that facts may arrive in any order, any number of times.
CREATE TABLE item (
  tenant            text COLLATE "C" NOT NULL,
  project           text COLLATE "C" NOT NULL,
  item              text COLLATE "C" NOT NULL,
  imported          boolean NOT NULL DEFAULT false,
  gold              boolean NOT NULL DEFAULT false,
  route             text NOT NULL DEFAULT 'NONE' CHECK (route IN ('NONE', 'AUTO', 'HUMAN')),
  route_revision    bigint NOT NULL DEFAULT 0,
  priority          double precision NOT NULL DEFAULT 0,
  decision          text NOT NULL DEFAULT 'NONE' CHECK (decision IN ('NONE', 'WANTED', 'REACHED', 'DISPUTED')),
  decision_revision bigint NOT NULL DEFAULT 0,
  answers_wanted    integer NOT NULL DEFAULT 0,
  skill             text NOT NULL DEFAULT '',
  settled           boolean NOT NULL DEFAULT false,
  wished            integer NOT NULL DEFAULT 0,
  cancelled_at      bigint,
  review_cancelled_at bigint,
  cancel_reason     text NOT NULL DEFAULT '',
  PRIMARY KEY (tenant, project, item)
) WITH (fillfactor = 80); -- facts change in place, and no index but the key must follow

CREATE SEQUENCE task_place;

-- The wish for more answers on an item. `place` breaks ties of priority: first opened, first handed out.
-- For gold it is random, so that gold comes in no order.
CREATE TABLE task (
  tenant       text COLLATE "C" NOT NULL,
  project      text COLLATE "C" NOT NULL,
  task         uuid NOT NULL,
  item         text COLLATE "C" NOT NULL,
  kind         text NOT NULL CHECK (kind IN ('LABEL', 'GOLD', 'REVIEW')),
  audit        text NOT NULL DEFAULT '' CHECK (audit = '' OR kind = 'REVIEW'),
  state        text COLLATE "C" NOT NULL CHECK (state IN ('OPEN', 'FILLED', 'CLOSED')),
  close_reason text NOT NULL DEFAULT '',
  priority     double precision NOT NULL,
  skill        text NOT NULL DEFAULT '',
  place        bigint NOT NULL,
  created_at   timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, project, task),
  -- what a slot and a lease copy from their task cannot differ from it
  UNIQUE (tenant, project, task, item, kind),
  CHECK ((state = 'CLOSED') = (close_reason <> '')),
  FOREIGN KEY (tenant, project, item) REFERENCES item
) WITH (fillfactor = 85);

-- Asking twice for the same is one task.
CREATE UNIQUE INDEX task_of_item ON task (tenant, project, item, kind, audit);
-- ListTasks and the counts of GetQueue.
CREATE INDEX task_list ON task (tenant, project, state DESC, priority DESC, place) INCLUDE (kind);
-- Gold is looked for on a circle, from a random place on.
CREATE INDEX task_gold ON task (tenant, project, place) WHERE kind = 'GOLD' AND state = 'OPEN';

-- One wanted answer. `urgency` is minus the priority, so that (urgency, place) orders the index in one direction
-- and a scan can begin in its middle.
CREATE TABLE slot (
  tenant  text COLLATE "C" NOT NULL,
  project text COLLATE "C" NOT NULL,
  task    uuid NOT NULL,
  number  integer NOT NULL CHECK (number >= 1),
  item    text COLLATE "C" NOT NULL,
  kind    text NOT NULL CHECK (kind IN ('LABEL', 'REVIEW')),
  skill   text COLLATE "C" NOT NULL,
  urgency double precision NOT NULL,
  place   bigint NOT NULL,
  state   text NOT NULL CHECK (state IN ('OPEN', 'LEASED', 'ANSWERED', 'WITHDRAWN')),
  PRIMARY KEY (tenant, project, task, number),
  FOREIGN KEY (tenant, project, task, item, kind) REFERENCES task (tenant, project, task, item, kind)
)
-- The front of the queue is where rows die: clean it early, or every lease steps over the dead.
WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);

-- What LeaseTasks walks along: only what can be leased is in it, so its cost is that of the first rows.
CREATE INDEX slot_open ON slot (tenant, project, kind, skill, urgency, place, number) WHERE state = 'OPEN';

-- One labeler's right to fill a slot until a time. Gold has no slots: any number of labelers may do it, once each.
CREATE TABLE lease (
  tenant     text COLLATE "C" NOT NULL,
  project    text COLLATE "C" NOT NULL,
  lease      uuid NOT NULL,
  task       uuid NOT NULL,
  slot       integer,
  item       text COLLATE "C" NOT NULL,
  kind       text NOT NULL CHECK (kind IN ('LABEL', 'GOLD', 'REVIEW')),
  audit      text NOT NULL DEFAULT '',
  labeler    text COLLATE "C" NOT NULL,
  state      text NOT NULL CHECK (state IN ('LIVE', 'ANSWERED', 'RELEASED', 'SKIPPED', 'EXPIRED', 'ANSWERED_LATE')),
  reason     text NOT NULL DEFAULT '' CHECK (reason = '' OR state IN ('SKIPPED', 'ANSWERED_LATE')),
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL,
  check_at   timestamptz NOT NULL, -- when to ask next whether it was answered, once its time is over
  ended_at   timestamptz,
  PRIMARY KEY (tenant, project, lease),
  CHECK ((kind = 'GOLD') = (slot IS NULL)),
  CHECK ((state = 'LIVE') = (ended_at IS NULL)),
  CHECK (expires_at > created_at),
  FOREIGN KEY (tenant, project, task, item, kind) REFERENCES task (tenant, project, task, item, kind),
  FOREIGN KEY (tenant, project, task, slot) REFERENCES slot (tenant, project, task, number)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);

-- Promise P2, the first half: a slot is filled, or being filled, once. Live leases and answers given in time can
-- therefore never be more than there are slots.
CREATE UNIQUE INDEX lease_slot_once ON lease (tenant, project, task, slot) WHERE state IN ('LIVE', 'ANSWERED');

-- Promise P2, the second half: a labeler labels an item once, gold or not ...
CREATE UNIQUE INDEX lease_item_once ON lease (tenant, project, labeler, item)
  WHERE kind <> 'REVIEW' AND state IN ('LIVE', 'ANSWERED', 'SKIPPED', 'ANSWERED_LATE');
-- ... and reviews it once for each asker.
CREATE UNIQUE INDEX lease_review_once ON lease (tenant, project, labeler, task)
  WHERE kind = 'REVIEW' AND state IN ('LIVE', 'ANSWERED', 'SKIPPED', 'ANSWERED_LATE');

CREATE INDEX lease_check ON lease (check_at) WHERE state = 'LIVE';
CREATE INDEX lease_live ON lease (tenant, project) WHERE state = 'LIVE';

CREATE TABLE labeler (
  tenant    text COLLATE "C" NOT NULL,
  labeler   text COLLATE "C" NOT NULL,
  skills    text[] NOT NULL DEFAULT '{}',
  suspended boolean NOT NULL DEFAULT false,
  revision  bigint NOT NULL DEFAULT 1,
  PRIMARY KEY (tenant, labeler)
);
