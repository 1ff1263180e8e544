-- A conclusion that has come to nothing is given up when nobody has asked for it for an hour.
ALTER TABLE asked_refit ADD COLUMN last_asked_at timestamptz NOT NULL DEFAULT now();
