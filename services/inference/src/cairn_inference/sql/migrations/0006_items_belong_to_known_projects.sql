-- That an item's project exists was looked up for each item: half of what PostgreSQL did to copy the items of an import.
-- Whoever writes items has read their projects in the same transaction, and a project's row goes after all of its items,
-- when no transaction runs any more that began before the project was deleted.
--
-- Locked in the order in which transactions take them, so that none of these and the migration wait for each other.
LOCK TABLE project, item IN ACCESS EXCLUSIVE MODE;
ALTER TABLE item DROP CONSTRAINT item_tenant_project_fkey;
