-- Until a table was analyzed the planner takes every index that begins with tenant and project for as good as the right
-- one, and a foreign key's check keeps the plan that it made then. So task has no such index besides its keys: one
-- begins with the item, the other is partial, though on all rows, and serves only those who repeat its condition.
DROP INDEX task_of_item;
DROP INDEX task_list;
CREATE UNIQUE INDEX task_of_item ON task (item, tenant, project, kind, audit);
CREATE INDEX task_list ON task (tenant, project, state DESC, priority DESC, place) INCLUDE (kind)
  WHERE state IN ('OPEN', 'FILLED', 'CLOSED');
