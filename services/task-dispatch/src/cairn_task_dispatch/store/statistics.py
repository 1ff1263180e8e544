"""What the planner knows of the tables."""

from __future__ import annotations

from cairn_kit.database import Queries
from cairn_task_dispatch.store.rows import Reader

SQL = Queries.load("cairn_task_dispatch", "sql/statistics.sql")


class Statistics:
    """The planner's view of the tables."""

    async def refresh_statistics(self, tx: Reader) -> list[str]:
        """Have the planner look again at tables that have grown much; returns their names.

        Autovacuum does so too, but looks once a minute: an import fills a table in seconds, and a plan made for the
        empty table reads all of it for each row.
        """
        names = [row["name"] for row in await tx.fetch(SQL.grown_tables)]
        for name in names:
            await tx.execute(f"ANALYZE {name}")
        return names
