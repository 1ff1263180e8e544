"""A sample is the labels of lowest hash of each stratum, found without putting all labels in order."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from cairn.annotation.v1.annotation_store_pb2 import LABEL_SOURCE_CONSENSUS
from cairn_audit.__main__ import SERVICE
from cairn_audit.domain.names import AuditId, Project, Tenant
from cairn_audit.domain.sampling import Design, design
from cairn_audit.store import AuditKey, AuditStore, audits
from cairn_kit.database import Database
from cairn_kit.testing import World

LABELS, SEED, SAMPLE = 6_000, 7, 60
KEY = AuditKey(Tenant("acme"), Project("birds"), AuditId("a"))
FILL = """
INSERT INTO label
SELECT 'acme', 'birds', 'species', 'i' || n, 1, $1, CASE WHEN n % 3 = 0 THEN 'wren' ELSE 'tit' END, 4, 0.98, 'x'
FROM generate_series(1, $2) n
"""


@pytest.fixture
async def database(world: World) -> Database:
    filled = await world.database("audit", SERVICE.migrations)
    await filled.execute(FILL, LABEL_SOURCE_CONSENSUS, LABELS)
    return filled


async def draw(database: Database) -> Design:
    store = AuditStore()
    async with database.transaction() as tx:
        counts = await store.count_cells(tx, KEY.tenant, KEY.project, "species", 0)
        drawn = design(counts, SAMPLE, 0.05, 0.95)
        await store.create_audit(
            tx, KEY, question="species", source=0, max_error=0.05, confidence=0.95, seed=SEED, design=drawn
        )
    return drawn


def lowest(class_id: str, drawn: int) -> set[str]:
    """The items of a class whose labels are drawn, worked out from what is documented."""
    items = [f"i{n}" for n in range(1, LABELS + 1) if (n % 3 == 0) == (class_id == "wren")]
    return set(sorted(items, key=lambda item: hashlib.sha256(f"{SEED}/{item}".encode()).digest())[:drawn])


@pytest.mark.parametrize("below", [None, b"", b"\x00\x20"], ids=["as usual", "none below", "few below"])
async def test_the_sample_is_the_lowest_hashes_wherever_the_bound_lies(
    database: Database, monkeypatch: pytest.MonkeyPatch, below: bytes | None
) -> None:
    if below is not None:
        monkeypatch.setattr(audits, "hash_bound", lambda drawn, population: below)
    drawn = await draw(database)
    assert drawn.sampled == SAMPLE
    for place, stratum in enumerate(drawn.strata):
        rows = await database.fetch("SELECT item FROM sample WHERE stratum = $1", place)
        assert {row["item"] for row in rows} == lowest(stratum.class_id, drawn.drawn[place])


async def test_few_labels_are_put_in_order(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    statements: list[tuple[Any, ...]] = []

    async def noted(tx: Any, statement: str, *values: Any) -> Any:
        statements.append((statement, *values))
        return await tx.connection.fetch(statement, *values)

    monkeypatch.setattr("cairn_kit.database.transaction.Transaction.fetch", noted)
    await draw(database)
    await database.execute("DELETE FROM sample")
    statement, *values = statements[-1]
    said = await database.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", *values)
    [sort] = [node for node in nodes(json.loads(said)[0]["Plan"]) if node["Node Type"] == "Sort"]
    assert SAMPLE <= sort["Actual Rows"] < LABELS / 10


def nodes(plan: Any) -> Iterator[Any]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)
