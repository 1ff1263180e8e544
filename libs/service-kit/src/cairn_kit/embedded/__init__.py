"""PostgreSQL and NATS as plain processes from wheels: what the local stack and the tests run on."""

from cairn_kit.embedded.nats_server import EmbeddedNats
from cairn_kit.embedded.postgres_server import EmbeddedPostgres
from cairn_kit.embedded.process import EmbeddedError

__all__ = ["EmbeddedError", "EmbeddedNats", "EmbeddedPostgres"]
