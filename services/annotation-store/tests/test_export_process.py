"""The process that makes an export's lines says what the service itself would say, and outlives nobody."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from struct import pack
from typing import Any
from uuid import UUID

import psutil
import pytest

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.label.v1 import label_value_pb2 as v
from cairn_annotation_store.domain.export_copy import CopiedLabels
from cairn_annotation_store.domain.export_rows import ExportedAnnotation, ExportedLabel, Shown, lines
from cairn_annotation_store.export_process import ExportProcess, ExportProcessDied, Lines
from cairn_kit.testing import eventually

MADE = (datetime(2026, 1, 1, 12, 30, 1, 7, tzinfo=UTC) - datetime(2000, 1, 1, tzinfo=UTC)) // timedelta(
    microseconds=1
)
ANNOTATION = "01a21b10-f5a9-7006-ad38-bb3005bd22ee"
NOTHING = ExportedAnnotation(str(UUID(int=0)), "", 0, False, MADE, b"")
SHOWN = Shown(pb.EXPORT_FORMAT_JSONL, "birds", with_annotations=True)
HEADER, TRAILER = b"PGCOPY\n\xff\r\n\x00" + bytes(8), b"\xff\xff"

_STARTS_ONE = """
import asyncio
import sys
from pathlib import Path

from cairn_annotation_store.domain.export_rows import Shown
from cairn_annotation_store.export_process import ExportProcess


async def start() -> None:
    process = ExportProcess()
    async with process.page(Shown(1, "birds", True)) as page:
        await page.add(Path(sys.argv[1]).read_bytes())
        await page.lines()
    print(process.pid, flush=True)
    await asyncio.Event().wait()


asyncio.run(start())
"""


@pytest.fixture
async def process() -> AsyncIterator[ExportProcess]:
    async with ExportProcess() as running:
        yield running


def page(count: int, word: str = "owl", *, with_annotations: bool = True) -> list[ExportedLabel]:
    answer = v.Answer(question="q", text=word)
    answers = pb.Annotation(answers=[answer]).SerializeToString()
    provenance = pb.Provenance(event_id="e", schema_version=1)
    return [
        ExportedLabel(
            f"item-{n}", "q", 1, 2, 0.9, answer.SerializeToString(), provenance.SerializeToString(), MADE,
            [ExportedAnnotation(ANNOTATION, "labelers/ann", 1, False, MADE, answers)] * (n % 3)
            if with_annotations
            else None,
        )
        for n in range(count)
    ]  # fmt: skip


def copied(labels: Sequence[ExportedLabel]) -> list[bytes]:
    """The labels as COPY sends them, some rows at a time, after PostgreSQL's documentation of the format."""
    rows = [HEADER, *(row for label in labels for row in _rows(label)), TRAILER]
    return [b"".join(rows[first : first + 700]) for first in range(0, len(rows), 700)]


def _rows(label: ExportedLabel) -> list[bytes]:
    given = label.annotations or []
    return [_row(label, nth, one) for nth, one in enumerate(given, start=1)] or [_row(label, 0, NOTHING)]


def _row(label: ExportedLabel, nth: int, given: ExportedAnnotation) -> bytes:
    first, stood = nth <= 1, label.revision > 0
    values = [
        label.item.encode(), label.question.encode(), label.answer if first and stood else None,
        label.provenance if first and stood else None, given.labeler.encode() if nth else None,
        given.answers if nth else None,
    ]  # fmt: skip
    columns = [
        pack(">i", nth), pack(">q", label.revision), pack(">h", label.source), pack(">d", label.confidence),
        pack(">q", label.made), given.annotation.encode(), pack(">h", given.kind), pack(">?", given.late),
        pack(">q", given.submitted), *(pack(">i", len(value or b"")) for value in values), *values,
    ]  # fmt: skip
    return pack(">h", len(columns)) + b"".join(
        pack(">i", -1) if column is None else pack(">i", len(column)) + column for column in columns
    )


async def made(
    process: ExportProcess, export_format: Any, labels: list[ExportedLabel], *, with_annotations: bool = True
) -> Lines:
    async with process.page(Shown(export_format, "birds", with_annotations)) as page:
        for rows in copied(labels):
            await page.add(rows)
        return await page.lines()


def shown(export_format: Any, labels: list[ExportedLabel], *, with_annotations: bool = True) -> Lines:
    """What is to be made of them."""
    content = lines(Shown(export_format, "birds", with_annotations), labels)
    last = (labels[-1].item, labels[-1].question) if labels else None
    return Lines(len(labels), len(labels), last, content)


@pytest.mark.parametrize("export_format", [pb.EXPORT_FORMAT_JSONL, pb.EXPORT_FORMAT_CSV])
async def test_it_writes_the_lines_of_a_page_in_their_order(
    process: ExportProcess, export_format: Any
) -> None:
    for word in ("owl", "caf\u00e9 \u2603"):  # the same process, page after page
        for with_annotations in (True, False):
            labels = page(3201, word, with_annotations=with_annotations)
            found = await made(process, export_format, labels, with_annotations=with_annotations)
            assert found == shown(export_format, labels, with_annotations=with_annotations)
    assert process.pid is not None


async def test_a_small_page_starts_no_process(process: ExportProcess) -> None:
    for count in (0, 1, 800):
        found = await made(process, pb.EXPORT_FORMAT_CSV, page(count))
        assert found == shown(pb.EXPORT_FORMAT_CSV, page(count))
    assert process.pid is None


@pytest.mark.parametrize("count", [10, 3201])
async def test_of_what_was_cut_off_the_last_label_is_left_out(process: ExportProcess, count: int) -> None:
    labels = page(count)
    rows = copied(labels)
    async with process.page(SHOWN) as making:
        for some in rows:
            await making.add(some.removesuffix(TRAILER))
        found = await making.lines(cut_off=True)
    assert found == shown(pb.EXPORT_FORMAT_JSONL, labels[:-1])


def test_where_nothing_stood_is_no_label() -> None:
    [first, second] = page(2)
    copy = CopiedLabels(with_annotations=True)
    [rows] = copied([first._replace(revision=0), second, second._replace(item="item-2", revision=0)])
    assert [*copy.add(rows), *copy.end()] == [second]
    assert (copy.read, copy.last) == (3, ("item-2", "q"))


def test_a_label_may_come_in_pieces() -> None:
    labels = page(9)
    copy = CopiedLabels(with_annotations=True)
    pieces = [HEADER, *(row for label in labels for row in _rows(label)), TRAILER]
    assert [label for piece in pieces for label in copy.add(piece)] == labels[:-1]
    assert copy.end() == labels[-1:]


@pytest.mark.parametrize("turns", [(2,), (0, 2), (1, 3), (1, 1, 3)])
def test_no_annotation_is_taken_for_another_labels(turns: Sequence[int]) -> None:
    label = page(3)[2]
    given = ExportedAnnotation(ANNOTATION, "labelers/ann", 1, False, MADE, b"")
    rows = HEADER + b"".join(_row(label, nth, given) for nth in turns) + TRAILER
    with pytest.raises(ValueError, match="out of turn"):
        CopiedLabels(with_annotations=True).add(rows)


async def test_a_process_that_was_killed_is_told_of_and_replaced(process: ExportProcess) -> None:
    labels = page(3201)
    await made(process, pb.EXPORT_FORMAT_CSV, labels)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(ExportProcessDied):
        await made(process, pb.EXPORT_FORMAT_CSV, labels)
    assert (await made(process, pb.EXPORT_FORMAT_CSV, labels)) == shown(pb.EXPORT_FORMAT_CSV, labels)


async def test_lines_of_a_page_that_was_given_up_are_nobody_elses(process: ExportProcess) -> None:
    with suppress(TimeoutError):
        async with process.page(Shown(pb.EXPORT_FORMAT_CSV, "birds", True)) as given_up:
            for rows in copied(page(5000, "given up")):
                await given_up.add(rows)
            raise TimeoutError
    labels = page(3201)
    assert (await made(process, pb.EXPORT_FORMAT_CSV, labels)) == shown(pb.EXPORT_FORMAT_CSV, labels)


async def test_it_ends_with_a_service_that_was_killed(tmp_path: Path) -> None:
    # given a process that has started one, and says which
    rows = tmp_path / "rows"
    rows.write_bytes(b"".join(copied(page(3201))))
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _STARTS_ONE, rows, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    child = psutil.Process(int(await parent.stdout.readline()))
    # when it is killed
    parent.kill()
    await parent.wait()
    # then the other ends, too
    await eventually(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
