-- Which claim wrote a part: its path carries it, so that a worker whose claim is over, and whose write comes late,
-- cannot write over the part of the one that has taken the export over. Written with the export's `parts`, by whoever
-- holds the claim. A part without a row was written by the release before, under its number alone.
CREATE TABLE export_part (
  tenant  text COLLATE "C" NOT NULL,
  project text COLLATE "C" NOT NULL,
  export  uuid NOT NULL,
  part    integer NOT NULL CHECK (part >= 0),
  worker  uuid NOT NULL,
  PRIMARY KEY (tenant, project, export, part),
  FOREIGN KEY (tenant, project, export) REFERENCES export
);
