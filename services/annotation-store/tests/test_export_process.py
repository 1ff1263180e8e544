"""The process that makes an export's lines says what the service itself would say, and outlives nobody."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import psutil
import pytest

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.label.v1 import label_value_pb2 as v
from cairn_annotation_store.domain.export_rows import ExportedAnnotation, ExportedLabel, lines
from cairn_annotation_store.export_process import ExportProcess, ExportProcessDied
from cairn_kit.testing import eventually

MADE = datetime(2026, 1, 1, tzinfo=UTC)

_STARTS_ONE = """
import asyncio
from datetime import datetime

from cairn_annotation_store.domain.export_rows import ExportedLabel
from cairn_annotation_store.export_process import ExportProcess


async def start() -> None:
    process = ExportProcess()
    await process.lines(1, 501 * [ExportedLabel("i", "q", 1, 1, 0.5, b"", b"", datetime(2026, 1, 1))])
    print(process.pid, flush=True)
    await asyncio.Event().wait()


asyncio.run(start())
"""


@pytest.fixture
async def process() -> AsyncIterator[ExportProcess]:
    async with ExportProcess() as running:
        yield running


def page(count: int, word: str = "owl") -> list[ExportedLabel]:
    answer = v.Answer(question="q", text=word)
    answers = pb.Annotation(answers=[answer]).SerializeToString()
    annotation = ExportedAnnotation("projects/birds/annotations/1", "labelers/ann", 1, False, MADE, answers)
    provenance = pb.Provenance(event_id="e", schema_version=1)
    return [
        ExportedLabel(
            f"item-{n}", "q", 1, 2, 0.9, answer.SerializeToString(), provenance.SerializeToString(),
            MADE, [annotation] if n % 2 else None,
        )
        for n in range(count)
    ]  # fmt: skip


@pytest.mark.parametrize("export_format", [pb.EXPORT_FORMAT_JSONL, pb.EXPORT_FORMAT_CSV])
async def test_it_writes_the_lines_of_a_page_in_their_order(
    process: ExportProcess, export_format: Any
) -> None:
    for word in ("owl", "caf\u00e9 \u2603"):  # the same process, page after page
        labels = page(1201, word)
        assert await process.lines(export_format, labels) == lines(export_format, labels)


async def test_a_small_page_starts_no_process(process: ExportProcess) -> None:
    labels = page(100)
    assert await process.lines(pb.EXPORT_FORMAT_CSV, labels) == lines(pb.EXPORT_FORMAT_CSV, labels)
    assert process.pid is None


async def test_a_process_that_was_killed_is_told_of_and_replaced(process: ExportProcess) -> None:
    labels = page(1201)
    await process.lines(pb.EXPORT_FORMAT_CSV, labels)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(ExportProcessDied):
        await process.lines(pb.EXPORT_FORMAT_CSV, labels)
    assert await process.lines(pb.EXPORT_FORMAT_CSV, labels) == lines(pb.EXPORT_FORMAT_CSV, labels)


async def test_the_answer_to_a_call_that_was_given_up_is_nobody_elses(process: ExportProcess) -> None:
    await process.lines(pb.EXPORT_FORMAT_CSV, page(501))
    given_up = asyncio.create_task(process.lines(pb.EXPORT_FORMAT_CSV, page(5000, "given up")))
    await asyncio.wait({given_up}, timeout=0.01)
    given_up.cancel()
    labels = page(1201)
    assert await process.lines(pb.EXPORT_FORMAT_CSV, labels) == lines(pb.EXPORT_FORMAT_CSV, labels)


async def test_it_ends_with_a_service_that_was_killed() -> None:
    # given a process that has started one, and says which
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _STARTS_ONE, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    child = psutil.Process(int(await parent.stdout.readline()))
    # when it is killed
    parent.kill()
    await parent.wait()
    # then the other ends, too
    await eventually(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
