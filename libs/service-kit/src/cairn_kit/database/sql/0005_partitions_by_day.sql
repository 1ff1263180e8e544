-- Events and what was handled of them are kept by the day of the event, which its id tells (a UUIDv7): what is old goes
-- with its table, and not row by row. Days to come are made by the running services (database/partitions.py). What was
-- kept until today stays in one partition; the last one takes what belongs to no day.
DO $$
DECLARE
  kept text;
  tomorrow uuid := (lpad(to_hex((extract(epoch FROM date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
                                         + interval '1 day') * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid;
BEGIN
  FOREACH kept IN ARRAY ARRAY['inbox', 'outbox'] LOOP
    EXECUTE format('ALTER TABLE %I RENAME TO %I', kept, kept || '_before');
    EXECUTE format('ALTER INDEX %I RENAME TO %I', kept || '_pkey', kept || '_before_pkey');
    EXECUTE format('CREATE TABLE %1$I (LIKE %1$I_before INCLUDING DEFAULTS INCLUDING CONSTRAINTS) PARTITION BY RANGE (event_id)', kept);
  END LOOP;
  ALTER INDEX inbox_age RENAME TO inbox_before_age;
  ALTER INDEX outbox_waiting RENAME TO outbox_before_waiting;
  ALTER TABLE inbox ADD PRIMARY KEY (consumer, event_id);
  ALTER TABLE outbox ADD PRIMARY KEY (event_id);
  CREATE INDEX outbox_waiting ON outbox (event_id) WHERE published_at IS NULL;
  FOREACH kept IN ARRAY ARRAY['inbox', 'outbox'] LOOP
    EXECUTE format('CREATE TABLE %1$I_other PARTITION OF %1$I DEFAULT', kept);
    EXECUTE format('WITH ahead AS (DELETE FROM %1$I_before WHERE event_id >= %2$L RETURNING *) '
                   'INSERT INTO %1$I_other SELECT * FROM ahead', kept, tomorrow);
    EXECUTE format('ALTER TABLE %1$I ATTACH PARTITION %1$I_before FOR VALUES FROM (MINVALUE) TO (%2$L)', kept, tomorrow);
  END LOOP;
END $$;
