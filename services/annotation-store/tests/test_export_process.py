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
from cairn_annotation_store.domain.export_copy import end_of_page, labels_of
from cairn_annotation_store.domain.export_rows import ExportedAnnotation, ExportedLabel, lines
from cairn_annotation_store.export_process import ExportProcess, ExportProcessDied, Lines, Shown
from cairn_kit.testing import eventually

MADE = datetime(2026, 1, 1, 12, 30, 1, 7, tzinfo=UTC)
ANNOTATION = UUID("01a21b10-f5a9-7006-ad38-bb3005bd22ee")
HEADER, TRAILER = b"PGCOPY\n\xff\r\n\x00" + bytes(8), b"\xff\xff"

_STARTS_ONE = """
import asyncio
import sys
from pathlib import Path

from cairn_annotation_store.export_process import ExportProcess, Shown


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
            [
                ExportedAnnotation(
                    f"projects/birds/items/item-{n}/annotations/{ANNOTATION}", "labelers/ann", 1, False, MADE, answers
                )
            ]
            * (n % 3)
            if with_annotations
            else None,
        )
        for n in range(count)
    ]  # fmt: skip


def copied(labels: Sequence[ExportedLabel]) -> list[bytes]:
    """The labels as COPY sends them, some rows at a time, after PostgreSQL's documentation of the format."""
    rows = [HEADER, *(_row(label, nth) for nth, label in enumerate(labels, start=1)), TRAILER]
    return [b"".join(rows[first : first + 700]) for first in range(0, len(rows), 700)]


def _row(label: ExportedLabel, nth: int) -> bytes:
    item, question = label.item.encode(), label.question.encode()
    size = len(label.answer) + len(label.provenance)
    columns = [
        pack(">q", label.revision), pack(">h", label.source), pack(">d", label.confidence), _time(label.created_at),
        label.answer, label.provenance, _array(label.annotations), item, question,
        pack(">i", len(item)), pack(">i", len(question)), pack(">q", nth), pack(">q", nth * size),
    ]  # fmt: skip
    return pack(">h", len(columns)) + b"".join(
        pack(">i", -1) if column is None else pack(">i", len(column)) + column for column in columns
    )


def _array(annotations: Sequence[ExportedAnnotation] | None) -> bytes | None:
    if not annotations:
        return None
    elements = []
    for given in annotations:
        parts = [
            (2950, ANNOTATION.bytes), (21, pack(">h", given.kind)), (16, pack(">?", given.late)),
            (1184, _time(given.submitted_at)), (25, given.labeler.encode()), (17, given.answers),
        ]  # fmt: skip
        element = pack(">i", len(parts)) + b"".join(pack(">ii", oid, len(part)) + part for oid, part in parts)
        elements.append(pack(">i", len(element)) + element)
    return pack(">iiiii", 1, 0, 2249, len(elements), 1) + b"".join(elements)


def _time(moment: datetime) -> bytes:
    return pack(">q", (moment - datetime(2000, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1))


async def made(
    process: ExportProcess, export_format: Any, labels: list[ExportedLabel], *, with_annotations: bool = True
) -> Lines:
    async with process.page(Shown(export_format, "birds", with_annotations)) as page:
        for rows in copied(labels):
            await page.add(rows)
        return await page.lines()


@pytest.mark.parametrize("export_format", [pb.EXPORT_FORMAT_JSONL, pb.EXPORT_FORMAT_CSV])
async def test_it_writes_the_lines_of_a_page_in_their_order(
    process: ExportProcess, export_format: Any
) -> None:
    for word in ("owl", "caf\u00e9 \u2603"):  # the same process, page after page
        for with_annotations in (True, False):
            labels = page(3201, word, with_annotations=with_annotations)
            found = await made(process, export_format, labels, with_annotations=with_annotations)
            assert found == (3201, lines(export_format, labels))
    assert process.pid is not None


async def test_a_small_page_starts_no_process(process: ExportProcess) -> None:
    for count in (0, 1, 800):
        found = await made(process, pb.EXPORT_FORMAT_CSV, page(count))
        assert found == (count, lines(pb.EXPORT_FORMAT_CSV, page(count)))
    assert process.pid is None


def test_a_page_ends_where_its_last_row_says() -> None:
    labels = page(3)
    size = 3 * (len(labels[0].answer) + len(labels[0].provenance))
    assert end_of_page(b"".join(copied(labels))) == ("item-2", "q", 3, size)
    assert end_of_page(copied([])[0]) is None


def test_where_nothing_stood_is_no_label() -> None:
    [first, second] = page(2)
    [rows] = copied([first._replace(revision=0), second])
    assert [*labels_of(rows, "birds", with_annotations=True)] == [second]


async def test_a_process_that_was_killed_is_told_of_and_replaced(process: ExportProcess) -> None:
    labels = page(3201)
    await made(process, pb.EXPORT_FORMAT_CSV, labels)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(ExportProcessDied):
        await made(process, pb.EXPORT_FORMAT_CSV, labels)
    assert (await made(process, pb.EXPORT_FORMAT_CSV, labels)).content == lines(pb.EXPORT_FORMAT_CSV, labels)


async def test_lines_of_a_page_that_was_given_up_are_nobody_elses(process: ExportProcess) -> None:
    with suppress(TimeoutError):
        async with process.page(Shown(pb.EXPORT_FORMAT_CSV, "birds", True)) as given_up:
            for rows in copied(page(5000, "given up")):
                await given_up.add(rows)
            raise TimeoutError
    labels = page(3201)
    assert (await made(process, pb.EXPORT_FORMAT_CSV, labels)).content == lines(pb.EXPORT_FORMAT_CSV, labels)


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
