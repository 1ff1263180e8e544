-- That an item's project exists was looked up for each item: two fifths of what PostgreSQL did for an import. The
-- trigger that counts items writes `progress` once a statement, so the counts carry the reference instead: no item is
-- written without its project's counts, no counts without the project, and no project goes that has any.
--
-- Locked in the order in which transactions take them, so that none of these and the migration wait for each other.
LOCK TABLE project, item, progress IN ACCESS EXCLUSIVE MODE;
ALTER TABLE item DROP CONSTRAINT item_tenant_project_fkey;
ALTER TABLE progress ADD FOREIGN KEY (tenant, project) REFERENCES project;
