"""PostgreSQL, NATS and the Cairn services, embedded on one machine."""
