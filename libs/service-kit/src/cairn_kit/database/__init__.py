"""PostgreSQL: a pool with time-outs, transactions with hooks, named queries, migrations, deletion in the background."""

from cairn_kit.database.deleting import Deleted, DeletedProject, ProjectDeletions, Rows
from cairn_kit.database.migrations import MigrationError, migrate, provision
from cairn_kit.database.pool import Database, PlanCacheMode, connect
from cairn_kit.database.queries import Queries
from cairn_kit.database.transaction import Transaction, meanwhile

__all__ = [
    "Database",
    "Deleted",
    "DeletedProject",
    "MigrationError",
    "PlanCacheMode",
    "ProjectDeletions",
    "Queries",
    "Rows",
    "Transaction",
    "connect",
    "meanwhile",
    "migrate",
    "provision",
]
