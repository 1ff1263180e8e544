"""PostgreSQL: a pool with time-outs, transactions with hooks, named queries, migrations."""

from cairn_kit.database.migrations import MigrationError, migrate, provision
from cairn_kit.database.pool import Database, PlanCacheMode, connect
from cairn_kit.database.queries import Queries
from cairn_kit.database.transaction import Transaction

__all__ = [
    "Database",
    "MigrationError",
    "PlanCacheMode",
    "Queries",
    "Transaction",
    "connect",
    "migrate",
    "provision",
]
