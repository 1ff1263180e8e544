-- Projects to be fitted again, and those that were and whose items are judged by it now, a thousand at a time.
CREATE TABLE refitting (
  tenant        text NOT NULL,
  project       text NOT NULL,
  judged_until  text,                       -- the last item that was judged again; '' before the first, NULL before the fit
  changed_items bigint NOT NULL DEFAULT 0,  -- of those judged again: how many had something said of them
  asked_at      timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, project)
);
