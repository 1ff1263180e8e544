-- How many items went automatically is told whenever somebody looks at the routing, or stops it.
CREATE INDEX item_auto ON item (tenant, project) WHERE route = 1;
