-- Where projects are many the planner believes each to be small, and takes any index that begins with tenant and project for
-- as good as the right one: who asked for work in a large project had all of its leases read. So no index on all leases
-- begins so: the key begins with the lease, and what deletes a project repeats the condition of the other.
LOCK TABLE lease IN ACCESS EXCLUSIVE MODE;
ALTER TABLE lease DROP CONSTRAINT lease_pkey;
ALTER TABLE lease ADD PRIMARY KEY (lease, tenant, project);
CREATE INDEX lease_of_project ON lease (tenant, project, lease) WHERE created_at > '-infinity';
