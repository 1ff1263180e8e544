"""P1, P3: an import goes on after kill -9 of the service that takes it in, wherever it was; nothing is lost or doubled."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from cairn.annotation.v1 import annotation_store_pb2 as store
from cairn.events.v1.annotation_store_events_pb2 import ItemsImported
from cairn.label.v1.label_schema_pb2 import LabelSchema, Question, TextQuestion
from cairn_client import AsyncCairn
from cairn_client.names import item_key
from cairn_client.tokens import Issuer
from cairn_kit.database import Database
from cairn_kit.embedded import EmbeddedPostgres
from cairn_kit.testing import announced, eventually
from cairn_kit.testing.scratch import scratch_folder
from cairn_stack import PrivateStack
from cairn_stack.catalog import SERVICES
from cairn_stack.home import Home
from cairn_stack.provision import DATABASE, SUPERUSER, dsn, passwords

ITEMS, KILLS = 20_000, 4
SCHEMA = LabelSchema(questions=[Question(id="note", text=TextQuestion())])

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def store_alone() -> Iterator[PrivateStack]:
    alone = [service for service in SERVICES if service.name == "annotation-store"]
    with scratch_folder() as folder, PrivateStack(folder, services=alone) as stack:
        yield stack


async def test_an_import_goes_on_after_its_service_was_killed_anywhere(store_alone: PrivateStack) -> None:
    sent = {f"item {n}": f"text {n}" for n in range(ITEMS)}
    async with client(store_alone) as cairn:
        await cairn.projects.create("bulk", SCHEMA)
        # given an import whose service is killed at offsets that nobody chose
        importing = asyncio.ensure_future(cairn.import_items("bulk", sent, import_id="one"))
        kills = random.Random(7)
        for offset in sorted(kills.randrange(ITEMS * 3 // 4) for _ in range(KILLS)):
            await eventually(lambda offset=offset: reached(cairn, offset), timeout=120)
            await asyncio.to_thread(store_alone.kill, "annotation-store")
        # when it has come to its end
        done = await importing
        # then each item is there, as it was sent, and was counted once
        assert (done.created, done.unchanged, done.failed) == (ITEMS, 0, 0)
        assert {item_key(item.name): item.text async for item in cairn.items("bulk")} == sent
        # and was told of once
        told = await told_of(store_alone)
        assert Counter(item_key(name) for name in told) == Counter(list(sent))


def client(stack: PrivateStack) -> AsyncCairn:
    """A client of the one service that runs."""
    profile = stack.profile
    issuer = Issuer(Path(profile["issuer_key_file"]))
    token = issuer.mint(tenant=profile["tenant"], subject="importer", roles=["admin"], lifetime=3600.0)
    return AsyncCairn(addresses=profile["services"]["annotation-store"], token=token)


async def reached(cairn: AsyncCairn, offset: int) -> bool:
    """Whether so many items were taken in; raises while the service is away."""
    request = store.GetImportRequest(name="projects/bulk/imports/one")
    found = await cairn.transport.call(cairn.transport.store.GetImport, request)
    return found.next_offset > offset


async def told_of(stack: PrivateStack) -> list[str]:
    """The items of every ItemsImported in the outbox, which republish would send again: all that was ever told."""
    home = Home(stack.home)
    where = dsn(EmbeddedPostgres(home.postgres), SUPERUSER, passwords(home, [])[SUPERUSER], DATABASE)
    database = Database(where, "annotation_store", pool_min=0)
    await database.open()
    try:
        events = await announced(database)
    finally:
        await database.close()
    imported = ItemsImported.DESCRIPTOR.full_name
    return [
        item.name
        for event in events
        if event.type == imported
        for item in ItemsImported.FromString(event.body).items
    ]
