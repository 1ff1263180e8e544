-- Who works on a project: the replica that keeps its share (crc32 of tenant/project, modulo 16). That is settled by
-- session advisory locks; here it is proven. The epoch grows each time a replica begins to keep the share, and every
-- transaction that looks at or changes a project's state locks the row with the epoch it knows: one that was superseded
-- finds none, and cannot commit what a stale state says.
CREATE TABLE share (
  share smallint PRIMARY KEY CHECK (share BETWEEN 0 AND 15),
  epoch bigint NOT NULL DEFAULT 0
);

INSERT INTO share (share) SELECT * FROM generate_series(0, 15);
