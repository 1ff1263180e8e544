-- Features are looked for project by project, in those that route a question: a project that routes none keeps all its
-- items wanted, and one look a second went through every one of them.
CREATE INDEX item_wants_features_in_project ON item (tenant, project, feature_after) WHERE feature_state = 0;
DROP INDEX item_wants_features;
