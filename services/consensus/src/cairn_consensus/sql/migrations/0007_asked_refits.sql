-- Refits that calls asked for, conclusions among them: how far each is and, for who asks again, what came of it. They are not
-- in `refitting`: a release that knows no others ends there what the votes do not make due.
CREATE TABLE asked_refit (
  tenant           text NOT NULL,
  project          text NOT NULL,
  number           bigint GENERATED ALWAYS AS IDENTITY,  -- in the order of asking
  concludes        boolean NOT NULL,
  requests         text[] NOT NULL,    -- the calls that may ask again, each as JSON: its subject and request_id
  project_revision bigint,             -- of which its fit is made; NULL before that is begun
  votes            bigint NOT NULL DEFAULT 0,  -- that its fit is made of
  refit            bigint NOT NULL DEFAULT 0,  -- the number of its fit; 0 before that is in use
  judged_until     text,               -- as in `refitting`
  changed_items    bigint NOT NULL DEFAULT 0,
  announced_labels bigint NOT NULL DEFAULT 0,
  tries            int NOT NULL DEFAULT 0,
  not_before       timestamptz NOT NULL DEFAULT now(),
  failed           boolean NOT NULL DEFAULT false,  -- whether the last try ended with an error
  ended_at         timestamptz,
  PRIMARY KEY (tenant, project, number),
  CHECK ((refit = 0) = (judged_until IS NULL)),
  CHECK (ended_at IS NULL OR judged_until IS NOT NULL)
);

CREATE INDEX asked_refit_under_way ON asked_refit (number) WHERE ended_at IS NULL;

-- The items that a conclusion could not decide.
CREATE TABLE undecided_item (
  tenant  text NOT NULL,
  project text NOT NULL,
  number  bigint NOT NULL,
  item    text NOT NULL,
  PRIMARY KEY (tenant, project, number, item),
  FOREIGN KEY (tenant, project, number) REFERENCES asked_refit ON DELETE CASCADE
);
