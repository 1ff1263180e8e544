-- An item without features gets no score and so no route from one: behind the routing round for good, all such were looked
-- through at every step. An import writes one entry less an item, too.
DROP INDEX item_routed;
CREATE INDEX item_routed ON item (tenant, project, routed_round)
    WHERE open AND NOT validation AND feature_state = 1;
