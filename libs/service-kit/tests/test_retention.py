"""Events are kept by the day; old days go whole, and nothing goes that is still wanted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from cairn_kit.database import Database, migrate, migrations
from cairn_kit.database.partitions import DayPartitions
from cairn_kit.events.retention import Retention
from cairn_kit.ids import first_uuid7_at
from cairn_kit.testing import World, eventually

DAY = timedelta(days=1)
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
NAMES = "SELECT relname FROM pg_class WHERE relispartition AND relkind = 'r' AND relname LIKE $1 ORDER BY 1"


@pytest.fixture
async def database(world: World) -> AsyncIterator[Database]:
    """A service's schema with the partitions of today, and nobody who works in it."""
    found = Database(await world.dsn("kept"), "kept")
    await found.open()
    await Retention(found, 7.0).keep()
    yield found
    await found.close()


async def partitions(database: Database, table: str) -> list[str]:
    rows = await database.fetch(NAMES, f"{table}\\_%")
    return [row["relname"].removeprefix(f"{table}_") for row in rows]


async def put_out(database: Database, moment: datetime, *, published: bool = True) -> UUID:
    event_id = UUID(int=first_uuid7_at(moment).int | uuid4().int >> 60)
    await database.execute(
        "INSERT INTO outbox VALUES ($1, 't', 'cairn.v1.a.p.x.y', 'a', 'p', 'r', 0, '', now(), '', $2)",
        event_id,
        moment if published else None,
    )
    return event_id


async def kept(database: Database, table: str) -> set[UUID]:
    return {row["event_id"] for row in await database.fetch(f"SELECT event_id FROM {table}")}


async def test_days_to_come_are_ready_and_each_event_lies_with_its_day(world: World, sample: Any) -> None:
    async with world.run(sample.service) as service:
        days = [f"{TODAY + n * DAY:%Y%m%d}" for n in (1, 2, 3)]
        await eventually(lambda: partitions(service.database, "inbox"), [*days, "before", "other"])
        event_id = await put_out(service.database, TODAY + 2 * DAY)
        where = await service.database.fetchval(
            "SELECT tableoid::regclass::text FROM outbox WHERE event_id = $1", event_id
        )
        assert where == f"outbox_{days[1]}"


async def test_what_is_over_goes_and_what_is_wanted_or_unpublished_stays(database: Database) -> None:
    """Seen from eight days on: the stream keeps seven, the inbox twice as long."""
    old, fresh = await put_out(database, TODAY + DAY), await put_out(database, TODAY + 2 * DAY)
    stuck = await put_out(database, TODAY + 3 * DAY, published=False)
    later = DayPartitions(database, "outbox")

    await later.drop_before(TODAY + 2 * DAY, unless="published_at IS NULL")
    assert await kept(database, "outbox") == {fresh, stuck}
    await later.drop_before(TODAY + 9 * DAY, unless="published_at IS NULL")
    assert await kept(database, "outbox") == {stuck}
    assert old not in await kept(database, "outbox")

    await later.make_ready(TODAY + 9 * DAY)
    assert f"{TODAY + 9 * DAY:%Y%m%d}" in await partitions(database, "outbox")


async def test_rows_of_no_day_are_forgotten_by_their_age(database: Database) -> None:
    ago = [await put_out(database, TODAY - n * 10 * DAY) for n in range(3)]
    waiting = await put_out(database, TODAY - 30 * DAY, published=False)
    await database.execute(
        "INSERT INTO inbox SELECT 'c', gen_random_uuid(), now() - n * interval '10 days' FROM generate_series(0, 3) n"
    )

    await Retention(database, 7.0).keep()
    assert await kept(database, "outbox") - {waiting} == {ago[0]}
    assert await database.fetchval("SELECT count(*) FROM inbox") == 2


async def test_a_day_whose_rows_are_elsewhere_already_stays_without_a_table(database: Database) -> None:
    far = TODAY + 40 * DAY
    await database.execute("INSERT INTO inbox VALUES ('c', $1)", first_uuid7_at(far + DAY / 2))
    await DayPartitions(database, "inbox").make_ready(far)
    made = await partitions(database, "inbox")
    assert f"{far:%Y%m%d}" not in made
    assert f"{far + DAY:%Y%m%d}" in made


async def test_a_table_in_use_is_left_for_another_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cairn_kit.database.partitions._PATIENCE", "20ms")
    old = await put_out(database, TODAY + DAY)
    async with database.transaction() as reader:
        await reader.fetch("SELECT FROM outbox")
        await DayPartitions(database, "outbox").drop_before(TODAY + 2 * DAY)
        assert old in await kept(database, "outbox")
    await DayPartitions(database, "outbox").drop_before(TODAY + 2 * DAY)
    assert old not in await kept(database, "outbox")


async def test_what_was_kept_before_there_were_days_is_kept_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The schema of the release before, with events of today and of a clock that is ahead, is brought up to date."""
    everything = migrations.read_migrations(None)
    monkeypatch.setattr(migrations, "read_migrations", lambda _: [m for m in everything if m.name < "0005"])
    dsn = await world.dsn("before")
    ids = [first_uuid7_at(TODAY + n * DAY + DAY / 2) for n in (-20, 0, 2)]
    connection = await asyncpg.connect(dsn, server_settings={"search_path": "before"})
    try:
        for table, values in (
            ("outbox", "($1, 't', 's', 'a', 'p', 'r', 0, '', now(), '')"),
            ("inbox", "('c', $1)"),
        ):
            await connection.executemany(f"INSERT INTO {table} VALUES {values}", [(one,) for one in ids])
        monkeypatch.setattr(migrations, "read_migrations", lambda _: everything)
        assert (await migrate(dsn, "before"))[0] == "kit/0005_partitions_by_day.sql"
        for table in ("outbox", "inbox"):
            rows = await connection.fetch(f"SELECT event_id FROM {table} ORDER BY 1")
            assert [row["event_id"] for row in rows] == ids
        again = await connection.execute(
            "INSERT INTO inbox SELECT 'c', unnest($1::uuid[]) ON CONFLICT DO NOTHING", ids
        )
        assert again == "INSERT 0 0"
    finally:
        await connection.close()
