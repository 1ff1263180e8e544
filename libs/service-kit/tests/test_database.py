"""Transactions that end whole, migrations that happen once, connections that carry nothing over."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from cairn.dispatch.v1 import task_dispatch_pb2 as api
from cairn_kit.database import Database, MigrationError, Queries, connect, meanwhile, migrate, migrations
from cairn_kit.database.migrations import pending
from cairn_kit.errors import InvalidArgument, NotFound
from cairn_kit.rpc import once_many
from cairn_kit.testing import World, eventually

MIGRATIONS = Path(__file__).parent / "migrations"


@pytest.fixture
async def database(world: World) -> Database:
    return await world.database("sample", MIGRATIONS)


async def written(database: Database) -> list[str]:
    return [row["what"] for row in await database.fetch("SELECT what FROM effect ORDER BY place")]


async def put(tx: Any, what: str) -> None:
    await tx.execute("INSERT INTO effect (tenant, what) VALUES ('acme', $1)", what)


async def test_a_cancelled_transaction_leaves_nothing_and_its_connection_goes_on(database: Database) -> None:
    inside = asyncio.Event()
    forgotten: list[str] = []

    async def work() -> None:
        async with database.transaction() as tx:
            tx.on_rollback(lambda: forgotten.append("state"))
            await put(tx, "cancelled")
            inside.set()
            await tx.fetchval("SELECT pg_sleep(30)")

    task = asyncio.create_task(work())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await written(database) == []
    assert forgotten == ["state"]


async def test_a_commit_that_has_begun_is_finished_though_the_caller_goes_away(database: Database) -> None:
    await database.execute(
        """
        CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS
          $$ BEGIN PERFORM pg_sleep(0.3); RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER slow_commit AFTER INSERT ON effect
          DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION linger();
        """
    )
    told: list[str] = []
    committing = asyncio.Event()

    async def commit_begins(_: object) -> None:
        committing.set()

    async def work() -> None:
        async with database.transaction() as tx:
            await put(tx, "kept")
            tx.before_commit(commit_begins)
            tx.after_commit(lambda: told.append("committed"))
            tx.on_rollback(lambda: told.append("rolled back"))

    task = asyncio.create_task(work())
    await committing.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await written(database) == ["kept"]
    assert told == ["committed"]


async def test_conflicting_transactions_are_tried_again_until_both_count(database: Database) -> None:
    async with database.transaction() as tx:
        await put(tx, "0")

    async def increment(tx: Any) -> None:
        value = int(await tx.fetchval("SELECT what FROM effect"))
        await asyncio.sleep(0)
        await tx.execute("UPDATE effect SET what = $1", str(value + 1))

    await asyncio.gather(*(database.retrying(increment, "serializable") for _ in range(4)))

    assert await written(database) == ["4"]


async def test_what_is_set_in_a_transaction_is_gone_after_it(world: World) -> None:
    database = Database(await world.dsn("sample", MIGRATIONS), "sample", pool_min=1, pool_max=1)
    await database.open()
    async with database.transaction() as tx:
        await tx.execute("SET LOCAL app.tenant = 'acme'")
        assert await tx.fetchval("SELECT current_setting('app.tenant', true)") == "acme"
    assert not await database.fetchval("SELECT current_setting('app.tenant', true)")
    await database.close()


async def test_a_full_pool_is_waited_for_but_not_for_ever(world: World) -> None:
    dsn = await world.dsn("sample", MIGRATIONS)
    database = Database(dsn, "sample", pool_min=1, pool_max=1, acquire_timeout=0.05)
    await database.open()
    async with database.transaction():
        with pytest.raises(TimeoutError):
            await database.fetchval("SELECT 1")
    assert await database.fetchval("SELECT 1") == 1
    await database.close()


async def test_a_statement_that_takes_too_long_is_ended_by_the_server(world: World) -> None:
    dsn = await world.dsn("sample", MIGRATIONS)
    database = Database(dsn, "sample", pool_min=0, statement_timeout=0.05)
    await database.open()
    with pytest.raises(asyncpg.QueryCanceledError):
        await database.fetchval("SELECT pg_sleep(30)")
    await database.close()


@pytest.mark.parametrize("rows", [1, 100_000])
async def test_a_copy_whose_rows_nobody_takes_ends_with_the_reason(world: World, rows: int) -> None:
    dsn = await world.dsn("sample", MIGRATIONS)
    database = Database(dsn, "sample", pool_min=1, pool_max=1, acquire_timeout=3600.0)
    await database.open()

    async def refuse(_: bytes) -> None:
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        await asyncio.wait_for(database.copy_out(refuse, "SELECT generate_series(1, $1::int)", rows), 60.0)
    assert await database.fetchval("SELECT 1") == 1
    await database.close()


async def test_only_one_holds_an_exclusive_lock_and_it_passes_on(database: Database) -> None:
    order: list[str] = []
    first_in, let_go = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with database.exclusively("refit"):
            order.append("first")
            first_in.set()
            await let_go.wait()

    async def second() -> None:
        async with database.exclusively("refit") as lock:
            order.append("second")
            pid = await database.fetchval(
                "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted LIMIT 1"
            )
            await database.fetchval("SELECT pg_terminate_backend($1)", pid)
            await asyncio.wait_for(lock.lost.wait(), 60)

    holder = asyncio.create_task(first())
    await first_in.wait()
    waiter = asyncio.create_task(second())
    order.append("let go")
    let_go.set()
    await asyncio.gather(holder, waiter)
    assert order == ["first", "let go", "second"]


async def test_migrations_run_once_whoever_starts_them(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "sql"
    folder.mkdir()
    (folder / "0001_one.sql").write_text("CREATE TABLE one (n int); INSERT INTO one VALUES (1);")
    dsn = await world.dsn("fresh", folder)
    (folder / "0002_two.sql").write_text("INSERT INTO one VALUES (2);")
    assert await pending(dsn, "fresh", folder) == ["service/0002_two.sql"]

    applied = await asyncio.gather(*(migrate(dsn, "fresh", folder) for _ in range(4)))

    assert sorted(applied) == [[], [], [], ["service/0002_two.sql"]]
    assert await pending(dsn, "fresh", folder) == []


async def test_a_migration_that_was_changed_fails_or_is_unknown_is_a_plain_error(
    world: World, tmp_path: Path
) -> None:
    folder = tmp_path / "sql"
    folder.mkdir()
    first = folder / "0001_one.sql"
    first.write_text("CREATE TABLE one (n int);")
    dsn = await world.dsn("fresh", folder)

    (folder / "0002_two.sql").write_text("CREATE TABLE two (n int); CREATE TABLE one (n int);")
    with pytest.raises(MigrationError, match=r'0002_two\.sql failed on schema fresh: relation "one" already'):
        await migrate(dsn, "fresh", folder)
    assert await pending(dsn, "fresh", folder) == ["service/0002_two.sql"], "it left nothing behind"

    (folder / "0002_two.sql").unlink()
    first.write_text("CREATE TABLE one (n bigint);")
    with pytest.raises(MigrationError, match="was changed after it was applied"):
        await migrate(dsn, "fresh", folder)
    first.unlink()
    with pytest.raises(MigrationError, match="newer version"):
        await migrate(dsn, "fresh", folder)
    (folder / "0003_three.sql").write_text("")
    with pytest.raises(MigrationError, match="expected 0001"):
        await migrate(dsn, "fresh", folder)


async def test_a_migration_waits_for_who_is_in_its_way_and_fails_none_of_them(
    world: World, tmp_path: Path
) -> None:
    folder = tmp_path / "sql"
    folder.mkdir()
    (folder / "0001_two.sql").write_text("CREATE TABLE one (n int); CREATE TABLE two (n int);")
    dsn = await world.dsn("fresh", folder)
    (folder / "0002_both.sql").write_text(
        "ALTER TABLE one ADD COLUMN m int; ALTER TABLE two ADD COLUMN m int;"
    )
    replica, look = await connect(dsn, "fresh"), await connect(dsn, "fresh")
    waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'two'::regclass)"
    # given a transaction that has the one table, and wants the other when the migration has that
    async with replica.transaction():
        await replica.execute("INSERT INTO two VALUES (1)")
        migrating = asyncio.create_task(migrate(dsn, "fresh", folder))
        await eventually(lambda: look.fetchval(waits), True)
        await replica.execute("INSERT INTO one VALUES (1)")
        assert not migrating.done()
    # then both come to their ends
    assert await migrating == ["service/0002_both.sql"]
    assert await look.fetchval("SELECT count(*) FROM one WHERE m IS NULL") == 1
    await replica.close()
    await look.close()


async def test_a_migration_does_not_wait_for_ever(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "_TRIES", 2)
    monkeypatch.setattr(migrations, "_LOCK_WAIT", "20ms")
    monkeypatch.setattr(migrations, "_REST", (0.0, 0.0))
    folder = tmp_path / "sql"
    folder.mkdir()
    (folder / "0001_one.sql").write_text("CREATE TABLE one (n int);")
    dsn = await world.dsn("fresh", folder)
    (folder / "0002_more.sql").write_text("ALTER TABLE one ADD COLUMN m int;")
    replica = await connect(dsn, "fresh")
    async with replica.transaction():
        await replica.execute("INSERT INTO one VALUES (1)")
        with pytest.raises(MigrationError, match=r"0002_more\.sql failed on schema fresh: .*lock timeout"):
            await migrate(dsn, "fresh", folder)
    assert await migrate(dsn, "fresh", folder) == ["service/0002_more.sql"]
    await replica.close()


async def test_a_service_cannot_touch_another_schema(world: World) -> None:
    database = await world.database("sample", MIGRATIONS)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await database.execute("CREATE SCHEMA another")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await database.execute("CREATE TABLE public.leak (n int)")


def test_queries_are_found_by_name_and_a_missing_one_is_named() -> None:
    queries = Queries("-- name: one\nSELECT 1\n\n-- name: two\n-- why\nSELECT 2;\n", "some.sql")
    assert queries.one == "SELECT 1"
    assert queries.two == "-- why\nSELECT 2;"
    assert queries.names() == ["one", "two"]
    with pytest.raises(AttributeError, match=r"some\.sql has no statement named three"):
        _ = queries.three
    with pytest.raises(ValueError, match="one twice"):
        Queries("-- name: one\nx\n-- name: one\ny")


async def test_many_requests_committed_together_are_each_answered_once(database: Database) -> None:
    ran: list[str] = []

    def request(request_id: str, reason: str) -> tuple[str, api.CancelTaskRequest]:
        return "acme", api.CancelTaskRequest(name="projects/p/tasks/1", reason=reason, request_id=request_id)

    async def run(*requests: tuple[str, api.CancelTaskRequest]) -> list[Any]:
        async with database.transaction() as tx:

            async def effect(indices: Any) -> list[api.Task | Exception]:
                reasons = [requests[index][1].reason for index in indices]
                ran.extend(reasons)
                return [
                    NotFound("TASK_NOT_FOUND", "no") if reason == "bad" else api.Task(close_reason=reason)
                    for reason in reasons
                ]

            return await once_many(tx, requests, api.Task, effect)

    first = await run(request("1", "a"), request("1", "a"), request("1", "other"), request("2", "bad"))
    assert [type(result) for result in first] == [api.Task, api.Task, InvalidArgument, NotFound]
    again = await run(request("1", "a"), request("2", "bad"), request("3", "c"), request("", "d"))
    assert again[0] == first[0]
    assert [type(result) for result in again] == [api.Task, NotFound, api.Task, api.Task]
    assert ran == ["a", "bad", "bad", "c", "d"], "an error is not remembered: the request may come again"


async def test_an_effect_that_repeats_itself_needs_no_answer_kept_but_its_ids_are(
    database: Database,
) -> None:
    ran: list[str] = []

    async def run(request_id: str, reason: str) -> Any:
        request = api.CancelTaskRequest(name="projects/p/tasks/1", reason=reason, request_id=request_id)

        async def effect(_: Any) -> list[api.Task | Exception]:
            ran.append(reason)
            return [NotFound("TASK_NOT_FOUND", "no") if reason == "bad" else api.Task(close_reason=reason)]

        async with database.transaction() as tx:
            [result] = await once_many(tx, [("acme", request)], api.Task, effect, repeatable=True)
            return result

    assert await run("1", "a") == await run("1", "a") == api.Task(close_reason="a")
    assert isinstance(await run("1", "other"), InvalidArgument)
    assert isinstance(await run("2", "bad"), NotFound)
    assert isinstance(await run("2", "c"), api.Task), "an error is not remembered"
    assert ran == ["a", "a", "bad", "c"]
    assert await database.fetchval("SELECT count(*) FROM request WHERE response IS NOT NULL") == 0


async def test_work_is_done_while_a_statement_is_under_way() -> None:
    begun, done = asyncio.Event(), asyncio.Event()

    async def statement() -> None:
        begun.set()
        await done.wait()

    def work() -> bool:
        done.set()
        return begun.is_set()

    assert await meanwhile(statement(), work)


async def test_neither_a_statement_nor_the_work_meanwhile_fails_unheard(database: Database) -> None:
    def fail() -> None:
        raise LookupError

    async with database.transaction() as tx:
        with pytest.raises(LookupError):
            await meanwhile(tx.execute("SELECT pg_sleep(0.01)"), fail)
        assert await tx.fetchval("SELECT 1") == 1, "the line is free again"
    with pytest.raises(asyncpg.DivisionByZeroError):
        async with database.transaction() as tx:
            await meanwhile(tx.execute("SELECT 1 / 0"), lambda: None)
