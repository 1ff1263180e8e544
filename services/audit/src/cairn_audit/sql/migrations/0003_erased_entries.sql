-- What an entry says is erased with its project; its place, its event's id and its hash stay, so that every root and proof
-- stays what it was. That is the one change that an entry allows, once, and only for an entry of the same ledger.
ALTER TABLE ledger_entry
  ADD COLUMN erased_for uuid,                      -- the event of the ProjectDeleted
  ADD COLUMN erased_at timestamptz,
  ADD CONSTRAINT erased_is_empty CHECK ((erased_for IS NULL) = (erased_at IS NULL) AND (erased_for IS NULL OR record = ''));

CREATE FUNCTION refuse_change_but_erasure() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF (OLD.tenant, OLD.index, OLD.event_id, OLD.leaf_hash) IS DISTINCT FROM (NEW.tenant, NEW.index, NEW.event_id, NEW.leaf_hash)
     OR OLD.erased_for IS NOT NULL OR NEW.erased_for IS NULL OR NEW.erased_for = NEW.event_id
     OR NOT EXISTS (SELECT FROM ledger_entry WHERE tenant = NEW.tenant AND event_id = NEW.erased_for) THEN
    RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'integrity_constraint_violation';
  END IF;
  RETURN NEW;
END
$$;

DROP TRIGGER append_only ON ledger_entry;
CREATE TRIGGER append_only BEFORE DELETE OR TRUNCATE ON ledger_entry FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER erasure_only BEFORE UPDATE ON ledger_entry FOR EACH ROW EXECUTE FUNCTION refuse_change_but_erasure();
