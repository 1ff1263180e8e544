"""The processes that make an export's lines say what the service itself would say, and outlive nobody."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from dataclasses import astuple
from datetime import UTC, datetime
from itertools import pairwise, product
from typing import Any

import psutil
import pytest

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.label.v1 import label_value_pb2 as v
from cairn_annotation_store.domain.export_rows import Shown
from cairn_annotation_store.export_lines import Order, lines_of
from cairn_annotation_store.export_process import _ORDER, ExportProcessDied, ExportProcesses, Reached
from cairn_annotation_store.store.exported import Cut, PageSize, Span
from cairn_kit.testing import eventually

LABELS = 1200
EVERYTHING = Span(("", ""), (f"k{LABELS - 1:04d}", "species"))
WHOLE = PageSize(10_000, 8 << 20)

_STARTS_ONE = """
import asyncio
import json
import sys

from cairn_annotation_store.export_process import _ORDER, ExportProcesses, Reached


async def start() -> None:
    processes = ExportProcesses(Reached(*json.loads(sys.argv[1])), 1)
    await processes.lines_of(_ORDER.validate_json(sys.argv[2]))
    print(*processes.pids, flush=True)
    await asyncio.Event().wait()


asyncio.run(start())
"""


@pytest.fixture
async def labeled(birds: Any) -> Any:
    """A project with many labels, some of which have annotations."""
    await birds.create()
    await birds.take_in([pb.Item(key=f"k{n:04d}", text="x") for n in range(LABELS)])
    small, large = (v.Answer(question="species", text=times * "caf\u00e9 \u2603") for times in (1, 200))
    await birds.database.execute(
        "INSERT INTO label (tenant, project, item, question, revision, stands, source, source_order, event_id, "
        "confidence, answer, provenance) SELECT tenant, project, item, 'species', 1, true, 2, 1, gen_random_uuid(), "
        "random(), $1, '' FROM item",
        small.SerializeToString(),
    )
    await birds.database.execute(
        "INSERT INTO annotation (tenant, project, annotation, item, task, lease, labeler, kind, audit, answers, late, "
        "schema_version, submitted_at) SELECT tenant, project, gen_random_uuid(), item, 't', item || n, 'labelers/' || n, "
        "1, '', $1, false, 1, now() FROM item, generate_series(1, 2) n WHERE item > 'k0600'",
        pb.Annotation(answers=[large]).SerializeToString(),
    )
    return birds


async def order(
    birds: Any,
    span: Span = EVERYTHING,
    most: PageSize = WHOLE,
    *,
    export_format: Any = pb.EXPORT_FORMAT_JSONL,
    with_annotations: bool = True,
) -> Order:
    """What is there now, in a span of it."""
    snapshot = await birds.database.fetchval("SELECT pg_current_snapshot()")
    cut = Cut(snapshot, datetime.now(UTC))
    return Order("acme", Shown(export_format, "birds", with_annotations), cut, span, most)


def spans(each: int) -> list[Span]:
    """So many labels each, all of them together."""
    ends = [("", ""), *((f"k{n:04d}", "species") for n in range(each - 1, LABELS, each))]
    return [Span(after, upto) for after, upto in pairwise(ends)]


async def test_orders_are_filled_as_the_service_itself_would(
    labeled: Any, processes: ExportProcesses
) -> None:
    orders = [
        await order(labeled, span, export_format=export_format, with_annotations=with_annotations)
        for export_format, with_annotations, span in product(
            (pb.EXPORT_FORMAT_JSONL, pb.EXPORT_FORMAT_CSV), (True, False), spans(400)
        )
    ]
    assert processes.pids == []
    found = await asyncio.gather(*map(processes.lines_of, orders))
    assert found == [await lines_of(labeled.database, one) for one in orders]
    assert [(lines.labels, lines.read, lines.cut_off) for lines in found] == [(400, 400, False)] * 12
    # by no more processes than there may be, all of which wait for calls to have their turn
    assert [psutil.Process(pid).nice() for pid in processes.pids] == [10, 10]


async def test_another_process_is_started_when_all_have_something_to_do(
    labeled: Any, processes: ExportProcesses
) -> None:
    first = await order(labeled, spans(400)[0])
    for _ in range(3):
        await processes.lines_of(first)
        assert len(processes.pids) == 1
    await asyncio.gather(*(processes.lines_of(first) for _ in range(2)))
    assert len(processes.pids) == 2


@pytest.mark.parametrize("size", [20_000, 1_000_000])
async def test_what_is_cut_off_is_told_and_what_is_whole_has_its_lines(
    labeled: Any, tools: Any, size: int
) -> None:
    # among the labels, or among the annotations to the later ones
    whole = tools.jsonl((await lines_of(labeled.database, await order(labeled))).content)
    found = await lines_of(labeled.database, await order(labeled, most=PageSize(10_000, size)))
    assert found.cut_off
    rows = tools.jsonl(found.content)
    assert (found.labels, found.read, found.last) == (len(rows), len(rows), (rows[-1]["item"], "species"))
    assert rows == whole[: len(rows)]
    assert 50 < len(rows) < LABELS


@pytest.mark.parametrize("size", [8 << 20, 300_000])
async def test_of_annotations_to_items_without_labels_there_may_be_any_number(
    labeled: Any, tools: Any, size: int
) -> None:
    # more than there may be for so many labels, or than bytes that are read at once
    keys = ["k0100", *(f"k{n:04d}" for n in range(620, LABELS, 20))]
    await labeled.database.execute("DELETE FROM label WHERE item <> ALL ($1)", keys)
    found = await lines_of(labeled.database, await order(labeled, most=PageSize(10_000, size)))
    rows = tools.jsonl(found.content)
    assert [row["item"] for row in rows] == keys
    assert [len(row["annotations"]) for row in rows] == [0, *(2 for _ in keys[1:])]
    assert not found.cut_off


async def test_a_process_that_is_killed_is_told_of_and_replaced(
    labeled: Any, processes: ExportProcesses
) -> None:
    wanted = await order(labeled)
    await processes.lines_of(wanted)
    [pid] = processes.pids
    # given two orders that it has not filled
    os.kill(pid, signal.SIGSTOP)
    waiting = [asyncio.ensure_future(processes._places[0].lines_of(wanted)) for _ in range(2)]
    await eventually(lambda: processes._places[0].orders, 2)
    # when it is killed, both are told
    os.kill(pid, signal.SIGKILL)
    for one in waiting:
        with pytest.raises(ExportProcessDied):
            await one
    # then another fills the next
    assert await processes.lines_of(wanted) == await lines_of(labeled.database, wanted)
    assert pid not in processes.pids


async def test_a_process_that_hangs_is_ended_and_replaced(labeled: Any, processes: ExportProcesses) -> None:
    wanted = await order(labeled)
    await processes.lines_of(wanted)
    [pid] = processes.pids
    # given one that has been silent for too long
    os.kill(pid, signal.SIGSTOP)
    running = processes._places[0].running
    assert running is not None
    running._patience = 0.2
    with pytest.raises(ExportProcessDied, match="silent"):
        await processes.lines_of(wanted)
    # then another fills the next order
    await eventually(lambda: not psutil.pid_exists(pid))
    assert await processes.lines_of(wanted) == await lines_of(labeled.database, wanted)
    assert pid not in processes.pids


async def test_lines_that_nobody_wants_any_more_are_nobody_elses(
    labeled: Any, processes: ExportProcesses
) -> None:
    one, other, last = [await order(labeled, span) for span in spans(400)]
    place = processes._places[0]
    given_up = [asyncio.ensure_future(place.lines_of(wanted)) for wanted in (one, other)]
    await eventually(lambda: len(place.running._open) if place.running else 0, 2)
    for wanted in given_up:
        wanted.cancel()
    assert await place.lines_of(last) == await lines_of(labeled.database, last)
    assert place.orders == 0


async def test_it_ends_with_a_service_that_was_killed(labeled: Any) -> None:
    # given a process that has started one, and says which
    reached = json.dumps(astuple(Reached.by(labeled.running.settings)))
    wanted = _ORDER.dump_json(await order(labeled))
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _STARTS_ONE, reached, wanted, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    child = psutil.Process(int(await parent.stdout.readline()))
    # when it is killed
    parent.kill()
    await parent.wait()
    # then the other ends, too
    await eventually(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
