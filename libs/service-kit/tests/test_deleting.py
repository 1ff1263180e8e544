"""A deletion in the background: nothing is left of the project, nothing is missing beside it, whoever dies in between."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cairn_kit.database import (
    Database,
    Deleted,
    DeletedProject,
    ProjectDeletions,
    Rows,
    Transaction,
    deleting,
)
from cairn_kit.ids import uuid7
from cairn_kit.testing import World, eventually

TABLES = """
CREATE TABLE parent (
  tenant text, project text COLLATE "C", parent uuid, PRIMARY KEY (tenant, project, parent));
CREATE TABLE child (
  tenant text, project text COLLATE "C", parent uuid, n bigint, PRIMARY KEY (tenant, project, parent, n),
  FOREIGN KEY (tenant, project, parent) REFERENCES parent);
INSERT INTO parent SELECT t, p, gen_random_uuid()
FROM unnest('{acme,globex}'::text[]) AS t, unnest('{birds,birds2}'::text[]) AS p, generate_series(1, 40);
INSERT INTO child SELECT tenant, project, parent, n FROM parent, generate_series(1, 5) AS n;
"""
PARTS = (Rows("child", "parent uuid"), Rows("parent", "parent uuid"))


@pytest.fixture
async def database(world: World) -> Database:
    database = await world.database("sample")
    async with database.transaction() as tx:
        await tx.execute(TABLES)
    return database


@pytest.fixture(autouse=True)
def in_small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Smaller than the rows of a few keys, so that chunks end among the rows of one."""
    monkeypatch.setattr(deleting, "FIRST_CHUNK", 7)
    monkeypatch.setattr(deleting, "LARGEST_CHUNK", 7)
    monkeypatch.setattr(deleting, "_REST", 0.0)
    monkeypatch.setattr(deleting, "_LATER", 0.0)


async def wish(database: Database, deletions: ProjectDeletions) -> None:
    async with database.transaction() as tx:
        assert await deletions.begin(tx, "acme", "birds", uuid7())


async def left(database: Database) -> dict[tuple[str, str], tuple[int, int]]:
    rows = await database.fetch(
        "SELECT tenant, project, count(DISTINCT parent) AS parents, count(n) AS children "
        "FROM parent LEFT JOIN child USING (tenant, project, parent) GROUP BY tenant, project"
    )
    return {(row["tenant"], row["project"]): (row["parents"], row["children"]) for row in rows}


async def is_gone(database: Database) -> bool:
    return bool(await database.fetchval("SELECT gone_at IS NOT NULL FROM deleted_project"))


async def finish(database: Database, *workers: ProjectDeletions) -> None:
    async def worked() -> bool:
        await asyncio.gather(*(worker.work() for worker in workers))
        return await is_gone(database)

    await eventually(worked)


BESIDE = {("acme", "birds2"): (40, 200), ("globex", "birds"): (40, 200), ("globex", "birds2"): (40, 200)}


async def test_all_of_the_project_goes_by_two_workers_and_nothing_beside_it(database: Database) -> None:
    one, other = ProjectDeletions(database, PARTS), ProjectDeletions(database, PARTS)
    await wish(database, one)
    async with database.transaction() as tx:
        assert not await one.begin(tx, "acme", "birds", uuid7())  # it is one wish
    await finish(database, one, other)
    assert await left(database) == BESIDE
    assert await database.fetchval("SELECT deleted FROM deleted_project") == 40 + 200


async def test_nothing_is_deleted_while_a_transaction_runs_that_may_not_know_of_it(
    database: Database,
) -> None:
    deletions = ProjectDeletions(database, PARTS)
    async with database.transaction() as older:
        await older.fetchval("SELECT 1")
        await wish(database, deletions)
        await deletions.work()
        await deletions.work()
        assert (await left(database))["acme", "birds"] == (40, 200)
        parent = await older.fetchval(
            "INSERT INTO parent VALUES ('acme', 'birds', gen_random_uuid()) RETURNING parent"
        )
        await older.execute("INSERT INTO child VALUES ('acme', 'birds', $1, 1)", parent)
    await finish(database, deletions)
    assert await left(database) == BESIDE


class Killed(Rows):
    """Rows during whose deletion the connection is killed, a few times."""

    def __init__(self, table: str, *keys: str, times: int) -> None:
        super().__init__(table, *keys)
        self.times = times

    async def delete(self, tx: Transaction, which: DeletedProject, after: str, most: int) -> Deleted:
        deleted = await super().delete(tx, which, after, most)
        if after and self.times:
            self.times -= 1
            await tx.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return deleted


async def test_whoever_is_killed_in_the_middle_of_a_chunk_is_followed_by_one_that_goes_on(
    database: Database,
) -> None:
    killed = ProjectDeletions(
        database, [Killed("child", "parent uuid", times=2), Killed("parent", "parent uuid", times=1)]
    )
    await wish(database, killed)

    async def worked() -> Any:
        try:
            await killed.work()
        except Exception:
            return False
        return await is_gone(database)

    await eventually(worked)
    assert await left(database) == BESIDE
    assert (
        await database.fetchval("SELECT deleted FROM deleted_project") == 40 + 200
    )  # no chunk counts that did not commit


async def test_what_was_written_behind_its_back_is_found_when_it_stumbles_over_it(database: Database) -> None:
    class Late(Rows):
        """While the parents go, somebody adds a child to one of them: it holds its parent."""

        done = False

        async def delete(self, tx: Transaction, which: DeletedProject, after: str, most: int) -> Deleted:
            if after and not self.done:
                self.done = True
                await database.execute(
                    "INSERT INTO child SELECT tenant, project, max(parent), 9 FROM parent "
                    "WHERE (tenant, project) = ('acme', 'birds') GROUP BY tenant, project"
                )
            return await super().delete(tx, which, after, most)

    deletions = ProjectDeletions(database, [PARTS[0], Late("parent", "parent uuid")])
    await wish(database, deletions)

    async def worked() -> bool:
        try:
            await deletions.work()
        except Exception:
            return False
        return await is_gone(database)

    await eventually(worked)
    assert await left(database) == BESIDE
