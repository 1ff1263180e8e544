"""A program as a judge: nothing that it says is lost, and nothing of it is left or waited for once it has ended."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest

from cairn.annotation.v1.annotation_store_pb2 import Item
from cairn.dispatch.v1.task_dispatch_pb2 import Lease
from cairn.label.v1.label_schema_pb2 import LabelSchema
from cairn.label.v1.label_value_pb2 import BlobRef
from cairn_client.calls.job import Job
from cairn_client.errors import CairnError
from cairn_client.working import command
from cairn_client.working.command import CommandJudge
from cairn_client.working.verdicts import Release
from cairn_kit.testing import eventually

JOB = Job(Lease(name="leases/a", item="projects/p/items/a"), LabelSchema(), Item(text="a text"))


async def no_file(blob: BlobRef, lease_token: str) -> bytes:
    raise AssertionError(blob)


SAYS_MUCH_AS_IT_ENDS = """
import pathlib, sys
for line in sys.stdin:
    pass
for n in range(20_000):
    print("goodbye", n, "x" * 60, file=sys.stderr)
pathlib.Path(sys.argv[1]).touch()
"""
RUNS_IT = """
import asyncio, sys
from cairn_client.working import command
from cairn_client.working.command import CommandJudge
from cairn_client.working.verdicts import Release

async def main():
    async with CommandJudge([sys.executable, "-c", *sys.argv[1:]], None):
        pass

asyncio.run(main())
"""


async def test_what_a_program_says_last_is_passed_on_to_a_reader_that_is_late(tmp_path: Path) -> None:
    ended = tmp_path / "ended"
    runs_it = [sys.executable, "-c", RUNS_IT, SAYS_MUCH_AS_IT_ENDS, str(ended)]
    process = await asyncio.create_subprocess_exec(*runs_it, stderr=PIPE, limit=1024)
    await eventually(ended.exists, timeout=60)
    _, said = await process.communicate()
    assert said.splitlines()[-1].startswith(b"goodbye 19999 ")


async def test_a_child_that_a_program_leaves_behind_is_not_waited_for_and_nothing_is_left_open(
    tmp_path: Path,
) -> None:
    children = tmp_path / "children"
    leaves_a_child = f"sleep 300 & echo $! >>{children}; read x; echo no model here >&2; exit 3"
    judge = CommandJudge(["sh", "-c", leaves_a_child], no_file)
    clock, before = asyncio.get_running_loop().time, in_use()
    began = clock()
    try:
        for _ in range(3):
            with pytest.raises(CairnError, match=r"ended with 3 .* the last that it said: 'no model here'"):
                await asyncio.wait_for(judge([JOB]), 30)
        async with judge:
            pass
        assert clock() - began < 6, "half a second for each line that a child holds open"
        await eventually(lambda: in_use() == before)
    finally:
        for child in children.read_text().split():
            os.kill(int(child), signal.SIGKILL)


async def test_a_child_that_goes_on_talking_holds_nothing_up(tmp_path: Path) -> None:
    child = tmp_path / "child"
    leaves_a_child = (
        f"(while echo still here >&2; do sleep 0.1; done) & echo $! >{child}; read x; echo no model here >&2"
    )
    judge = CommandJudge(["sh", "-c", leaves_a_child], no_file)
    clock, before = asyncio.get_running_loop().time, in_use()
    try:
        began = clock()
        with pytest.raises(CairnError, match="ended with 0 and left 1 item unjudged; the last that it said"):
            await asyncio.wait_for(judge([JOB]), 30)
        assert clock() - began < 3, "half a second, after which it is not listened to"
        began = clock()
        async with judge:
            pass
        assert clock() - began < 3
        await eventually(lambda: in_use() == before)
    finally:
        with suppress(ProcessLookupError):  # it may have noticed that nobody listens
            os.kill(int(child.read_text()), signal.SIGKILL)


ANSWERS_ONE = """
import json, os, sys
line = sys.stdin.readline()
print(json.dumps({"key": json.loads(line)["key"], "release": True}), flush=True)
open(sys.argv[1], "a").write(".")
os._exit(int(sys.argv[2]))
"""


@pytest.mark.parametrize("code", ["0", "3"])
async def test_a_program_that_ended_when_it_had_answered_is_started_again_for_the_next(
    tmp_path: Path, code: str
) -> None:
    answered = tmp_path / "answered"
    answered.touch()
    async with CommandJudge([sys.executable, "-c", ANSWERS_ONE, str(answered), code], no_file) as judge:
        for n in range(6):
            if n % 2:  # at once, and when it is known to have ended
                assert judge._program is not None
                await judge._program.ended()
            assert await asyncio.wait_for(judge([JOB]), 30) == [Release()]
    assert len(answered.read_text()) == 6


async def test_a_program_that_ends_whenever_it_is_asked_is_started_again_once(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    judge = CommandJudge(["sh", "-c", f"echo >>{starts}; read x; exit 3"], no_file)
    for times in (2, 3):  # the first was there before
        async with judge if times == 2 else nullcontext():
            with pytest.raises(CairnError, match="ended with 3 and left 1 item unjudged"):
                await asyncio.wait_for(judge([JOB]), 30)
        assert len(starts.read_text()) == times


async def test_it_is_said_once_that_nothing_was_heard_of_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_SILENT", 0.1)
    told: list[str] = []
    async with CommandJudge(["sh", "-c", "read x; read x"], no_file, told.append) as judge:
        asking = asyncio.create_task(judge([JOB]))
        await eventually(lambda: bool(told))
        judge._nothing_heard(1)
        asking.cancel()
        await asyncio.wait([asking])
    assert told == [
        "sh has had 1 item for 0.1 s and has written no line yet. It is waited for; does it flush what it writes?"
    ]


async def test_nothing_is_said_of_a_program_that_was_heard() -> None:
    told: list[str] = []
    flushes = 'read x; echo "{\\"key\\": \\"a\\", \\"release\\": true}"; read x; read x'
    async with CommandJudge(["sh", "-c", flushes], no_file, told.append) as judge:
        assert await asyncio.wait_for(judge([JOB]), 30) == [Release()]
        judge._nothing_heard(1)
    assert not told


def in_use() -> tuple[int, int]:
    """Descriptors and tasks."""
    return len(list(Path("/proc/self/fd").iterdir())), len(asyncio.all_tasks())
