-- Whether an item was decided because collection ended: no refit opens it again, for nobody is there to ask.
ALTER TABLE item ADD COLUMN concluded boolean NOT NULL DEFAULT false;
