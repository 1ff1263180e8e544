-- Tables that have doubled since the planner last looked at them. All our indexes begin with tenant and project: until
-- it has seen that these hardly differ between rows, the planner takes any index for as good as the right one.
-- name: grown_tables
SELECT quote_ident(relname) AS name
FROM pg_class
WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'
  AND pg_relation_size(oid) > 2 * 8192 * greatest(relpages, 8)
