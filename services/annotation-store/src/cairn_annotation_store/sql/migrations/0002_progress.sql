-- Counts of a project, kept by the rows that they count: triggers on whole statements, so that no code path can
-- forget one and none can drift. A project's counts are spread over shards, one for each backend (modulo 64), so
-- that concurrent transactions do not wait for each other's commit; reading sums them.

CREATE TABLE progress (
  tenant            text COLLATE "C" NOT NULL,
  project           text COLLATE "C" NOT NULL,
  shard             smallint NOT NULL,
  items             bigint NOT NULL DEFAULT 0,
  auto_items        bigint NOT NULL DEFAULT 0,
  consensus_items   bigint NOT NULL DEFAULT 0,
  gold_items        bigint NOT NULL DEFAULT 0,
  corrected_items   bigint NOT NULL DEFAULT 0,
  labels            bigint NOT NULL DEFAULT 0,
  annotations       bigint NOT NULL DEFAULT 0,
  label_annotations bigint NOT NULL DEFAULT 0,
  late_annotations  bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (tenant, project, shard)
) WITH (fillfactor = 50);

CREATE FUNCTION count_new_items() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO progress AS p (tenant, project, shard, items, auto_items, consensus_items, gold_items, corrected_items)
  SELECT tenant, project, pg_backend_pid() % 64, count(*),
         count(*) FILTER (WHERE complete_by = 1), count(*) FILTER (WHERE complete_by = 2),
         count(*) FILTER (WHERE complete_by = 3), count(*) FILTER (WHERE complete_by = 4)
  FROM new_rows GROUP BY tenant, project ORDER BY tenant, project
  ON CONFLICT (tenant, project, shard) DO UPDATE SET
    items = p.items + excluded.items, auto_items = p.auto_items + excluded.auto_items,
    consensus_items = p.consensus_items + excluded.consensus_items,
    gold_items = p.gold_items + excluded.gold_items, corrected_items = p.corrected_items + excluded.corrected_items;
  RETURN NULL;
END $$;

CREATE TRIGGER count_new_items AFTER INSERT ON item
  REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION count_new_items();

CREATE FUNCTION count_changed_items() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO progress AS p (tenant, project, shard, auto_items, consensus_items, gold_items, corrected_items)
  SELECT tenant, project, pg_backend_pid() % 64, sum(n) FILTER (WHERE complete_by = 1),
         sum(n) FILTER (WHERE complete_by = 2), sum(n) FILTER (WHERE complete_by = 3), sum(n) FILTER (WHERE complete_by = 4)
  FROM (SELECT tenant, project, coalesce(complete_by, 0) AS complete_by, 1 AS n FROM new_rows
        UNION ALL SELECT tenant, project, coalesce(complete_by, 0), -1 FROM old_rows
        -- each source appears once with nothing, so that no sum is null
        UNION ALL SELECT DISTINCT tenant, project, s::smallint, 0 FROM new_rows, generate_series(1, 4) AS s) AS change
  GROUP BY tenant, project ORDER BY tenant, project
  ON CONFLICT (tenant, project, shard) DO UPDATE SET
    auto_items = p.auto_items + excluded.auto_items, consensus_items = p.consensus_items + excluded.consensus_items,
    gold_items = p.gold_items + excluded.gold_items, corrected_items = p.corrected_items + excluded.corrected_items;
  RETURN NULL;
END $$;

CREATE TRIGGER count_changed_items AFTER UPDATE ON item
  REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION count_changed_items();

CREATE FUNCTION count_new_annotations() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO progress AS p (tenant, project, shard, annotations, label_annotations, late_annotations)
  SELECT tenant, project, pg_backend_pid() % 64, count(*), count(*) FILTER (WHERE kind = 1), count(*) FILTER (WHERE late)
  FROM new_rows GROUP BY tenant, project ORDER BY tenant, project
  ON CONFLICT (tenant, project, shard) DO UPDATE SET
    annotations = p.annotations + excluded.annotations,
    label_annotations = p.label_annotations + excluded.label_annotations,
    late_annotations = p.late_annotations + excluded.late_annotations;
  RETURN NULL;
END $$;

CREATE TRIGGER count_new_annotations AFTER INSERT ON annotation
  REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION count_new_annotations();

CREATE FUNCTION count_new_labels() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO progress AS p (tenant, project, shard, labels)
  SELECT tenant, project, pg_backend_pid() % 64, count(*) FILTER (WHERE revision = 1)
  FROM new_rows GROUP BY tenant, project ORDER BY tenant, project
  ON CONFLICT (tenant, project, shard) DO UPDATE SET labels = p.labels + excluded.labels;
  RETURN NULL;
END $$;

CREATE TRIGGER count_new_labels AFTER INSERT ON label
  REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION count_new_labels();
