-- A task or slot that is deleted asks for its leases: by no index it went through all those of its project.
CREATE INDEX lease_of_slot ON lease (task, slot);
