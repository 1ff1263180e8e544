-- An import may be cancelled. It is finished then, too, in that nothing more is taken in: replicas of the release before,
-- which do not know the column, refuse its chunks as those of a finished one.
ALTER TABLE import ADD COLUMN cancelled boolean NOT NULL DEFAULT false;
ALTER TABLE import ADD CONSTRAINT cancelled_takes_nothing_in CHECK (finished OR NOT cancelled);

CREATE INDEX import_newest ON import (tenant, project, created_at, import);
