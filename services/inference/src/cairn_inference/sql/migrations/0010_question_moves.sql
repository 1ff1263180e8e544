-- When another question is routed, items follow in chunks: those up to the key `moved_until` have the labels of the routed
-- question, those after it still the ones of `moving_from` ('' when none was routed before). `moving_since` is when the move
-- was seen; nothing follows while transactions run that began before.
ALTER TABLE project
    ADD COLUMN moving_from text,
    ADD COLUMN moved_until text,
    ADD COLUMN moving_since timestamptz,
    ADD CHECK ((moving_from IS NULL) = (moved_until IS NULL)),
    ADD CHECK (moving_from IS NULL OR threshold IS NULL);
