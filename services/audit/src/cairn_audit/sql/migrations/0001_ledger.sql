-- The ledger: one append-only Merkle log for each tenant (RFC 6962).

-- How long each tenant's ledger is. Its row lock orders the appends, so that indices have no gap.
CREATE TABLE ledger_head (
  tenant       text PRIMARY KEY,
  size         bigint NOT NULL DEFAULT 0 CHECK (size >= 0),
  -- Size after the last entry that is worth a new checkpoint: the announcement of a checkpoint is not, or signing would never end.
  news_size    bigint NOT NULL DEFAULT 0 CHECK (news_size BETWEEN 0 AND size)
);

CREATE TABLE ledger_entry (
  tenant    text NOT NULL,
  index     bigint NOT NULL CHECK (index >= 0),
  event_id  uuid NOT NULL,
  record    bytea NOT NULL,  -- the serialized LedgerRecord, verbatim: what is hashed
  leaf_hash bytea NOT NULL CHECK (octet_length(leaf_hash) = 32),
  PRIMARY KEY (tenant, index),
  UNIQUE (tenant, event_id)
);

-- The hashes of complete subtrees above the leaves. Leaf hashes are in ledger_entry.
CREATE TABLE ledger_node (
  tenant text NOT NULL,
  level  smallint NOT NULL CHECK (level >= 1),
  index  bigint NOT NULL CHECK (index >= 0),
  hash   bytea NOT NULL CHECK (octet_length(hash) = 32),
  PRIMARY KEY (tenant, level, index)
);

-- Every head that was ever signed.
CREATE TABLE checkpoint (
  tenant      text NOT NULL,
  size        bigint NOT NULL CHECK (size >= 0),
  root_hash   bytea NOT NULL CHECK (octet_length(root_hash) = 32),
  note        text NOT NULL,
  key_id      text NOT NULL,
  create_time timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, size)
);

-- The public keys with which this installation signs or signed, of all tenants alike: hence no tenant here.
CREATE TABLE ledger_key (
  key_id     text PRIMARY KEY,
  public_key bytea NOT NULL UNIQUE CHECK (octet_length(public_key) = 32),
  first_use  timestamptz NOT NULL DEFAULT now()
);

-- Append only, whoever asks: history is not corrected, it is added to.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'integrity_constraint_violation';
END
$$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_entry FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_node FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON checkpoint FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_key FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- No gaps: each insert carries on exactly where its tenant's ledger ended.
CREATE FUNCTION refuse_gap() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  gap record;
BEGIN
  SELECT added.tenant, added.first INTO gap
  FROM (SELECT tenant, min(index) AS first, max(index) AS last, count(*) AS many FROM added_entry GROUP BY tenant) AS added
  WHERE added.last - added.first + 1 <> added.many
     OR (added.first > 0 AND NOT EXISTS (
          SELECT 1 FROM ledger_entry AS before WHERE before.tenant = added.tenant AND before.index = added.first - 1))
  LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'the ledger of % would have a gap at %', gap.tenant, gap.first USING ERRCODE = 'integrity_constraint_violation';
  END IF;
  RETURN NULL;
END
$$;

CREATE TRIGGER gap_free AFTER INSERT ON ledger_entry REFERENCING NEW TABLE AS added_entry
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_gap();
