"""`cairn work`, and the commands beside it, on a private stack: any program is a labeler, and says what it did."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from cairn_client import (
    AsyncCairn,
    FailedPrecondition,
    InputError,
    Job,
)
from cairn_client.commands import watching
from cairn_client.commands.watching import LiveBoard
from cairn_kit.testing import eventually
from cairn_stack import PrivateStack
from libs.client.tests.test_working import answers, nothing_live, project

pytestmark = pytest.mark.timeout(400)

CAIRN = Path(sys.executable).with_name("cairn")
YES = {"ok": "yes"}


PROGRAM = """
import json, os, sys
for line in sys.stdin:
    item = json.loads(line)
    if item["key"] == "i0003":
        os._exit(3)
    if item["key"] == "i0004":
        verdict = {"skip": "cannot read it"}
    else:
        verdict = {"answers": {"ok": "yes" if item["text"].startswith("text") else "no"}}
    print(json.dumps({"key": item["key"], **verdict}), flush=True)
"""


async def test_any_program_is_a_labeler(cairn: AsyncCairn, stack: PrivateStack, tmp_path: Path) -> None:
    name = await project(cairn, "work-program", 40)
    program = tmp_path / "judge.py"
    program.write_text(PROGRAM)
    done = await run_work(
        stack, name, "--as", "robot", "--batch", 8, "--idle", 1, "--", sys.executable, program
    )
    assert done.returncode == 0, done.stderr
    assert "38 answers given; 1 skipped" in done.stdout
    failed = "1 item failed and skipped, the last 'i0003': It could not be judged: "
    assert failed in done.stderr, "it is started again after an item that ends it"
    assert "ended with 3" in done.stderr
    assert set(await answers(cairn, name)) == {f"i{n:04d}" for n in range(40)} - {"i0003", "i0004"}


@pytest.mark.parametrize(
    ("name", "command", "told"),
    [
        ("cat", ["cat"], "cat wrote '{"),
        ("true", ["true"], "true ended with 0 and left 1 item unjudged."),
        (
            "silent",
            ["sh", "-c", "echo no model here >&2; exit 3"],
            "sh ended with 3 and left 1 item unjudged; the last that it said: 'no model here'.",
        ),
        ("nested", ["sh", "-c", "read x; head -c 100000 /dev/zero | tr '\\0' '['; echo"], "sh wrote '[[["),
        ("list", ["sh", "-c", "read x; echo '[1]'"], "sh wrote '[1]'; expected a line {\"key\""),
        (
            "other",
            ["sh", "-c", """read x; echo '{"key": "z", "answers": {}}'"""],
            "sh judged 'z', which it was not asked about; expected 'i00",
        ),
    ],
)
async def test_a_program_that_is_no_labeler_ends_the_run_with_what_it_did_and_skips_nothing(
    cairn: AsyncCairn, stack: PrivateStack, name: str, command: list[str], told: str
) -> None:
    name = await project(cairn, f"work-not-{name}", 12)
    done = await run_work(stack, name, "--as", "robot", "--", *command)
    assert done.returncode == 1
    assert told in done.stderr
    assert "failed at 10 items" in done.stderr
    assert "Traceback" not in done.stderr
    await eventually(lambda: nothing_live(cairn, name))
    assert len(await cairn.lease(name, 12, labeler="robot")) == 12


async def test_what_a_program_says_on_stderr_is_shown(
    cairn: AsyncCairn, stack: PrivateStack, tmp_path: Path
) -> None:
    name = await project(cairn, "work-words", 6)
    program = tmp_path / "judge.py"
    # In the batch, at the item alone, and once more where it comes last; if it ends when it was there before, a new one is
    # asked, too.
    failed = tmp_path / "failed"
    says = f"open({str(failed)!r}, 'a').write('.'); raise ValueError('no such picture')"
    program.write_text(PROGRAM.replace("os._exit(3)", says))
    done = await run_work(stack, name, "--as", "robot", "--idle", 1, "--", sys.executable, program)
    assert done.returncode == 0, done.stderr
    times = len(failed.read_text())
    assert times in range(2, 6)
    assert done.stderr.count("\nValueError: no such picture\n") == times
    assert "4 answers given; 1 skipped" in done.stdout


async def test_a_program_that_ends_after_each_item_is_a_labeler(
    cairn: AsyncCairn, stack: PrivateStack
) -> None:
    name = await project(cairn, "work-one-each", 12)
    program = (
        "import json, sys; key = json.loads(sys.stdin.readline())['key'];"
        " print(json.dumps({'key': key, 'answers': {'ok': 'yes'}}), flush=True)"
    )
    options = ("--as", "robot", "--batch", 1, "--idle", 1)
    done = await run_work(stack, name, *options, "--", sys.executable, "-c", program)
    assert "12 answers given; 0 skipped" in done.stdout, done.stderr
    assert not done.stderr


async def test_what_waits_for_a_program_is_ended_by_a_second_interrupt(
    cairn: AsyncCairn, stack: PrivateStack, tmp_path: Path
) -> None:
    name = await project(cairn, "work-interrupted", 3)
    asked = tmp_path / "asked"
    judge = ["sh", "-c", f"read x; echo >{asked}; cat >/dev/null"]
    process = await asyncio.create_subprocess_exec(
        CAIRN,
        "--home",
        stack.home,
        "work",
        name,
        "--as",
        "robot",
        "--",
        *judge,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        await eventually(asked.exists, timeout=60)
        process.send_signal(signal.SIGINT)
        assert b"Ctrl-C again ends that, too." in await asyncio.wait_for(process.stderr.readline(), 60)
        assert process.returncode is None
        process.send_signal(signal.SIGINT)
        _, said = await asyncio.wait_for(process.communicate(), 60)
        assert (process.returncode, said) == (
            130,
            b"Ended before all was judged; what was not answered may come again.\n",
        )
    finally:
        if process.returncode is None:
            process.kill()
    assert await nothing_live(cairn, name)
    assert len(await cairn.lease(name, 3, labeler="robot", wait=5)) == 3


async def test_a_program_that_there_is_not_uses_up_no_item(
    cairn: AsyncCairn, stack: PrivateStack, tmp_path: Path
) -> None:
    name = await project(cairn, "work-no-program", 5)
    done = await run_work(stack, name, "--as", "robot", "--", "/no/such/program")
    assert done.returncode == 1
    assert "/no/such/program cannot be run: No such file" in done.stderr
    broken = tmp_path / "judge"
    broken.write_text("#!/no/such/python\n")
    broken.chmod(0o755)
    done = await run_work(stack, name, "--as", "robot", "--", broken)
    assert done.returncode == 1
    assert f"{broken} cannot be run: No such file" in done.stderr
    worked = await cairn.work(name, lambda jobs: [YES for _ in jobs], labeler="robot", idle=1.0)
    assert worked.answered == 5


async def test_a_project_that_is_archived_while_it_is_worked_on_ends_the_run_and_is_no_judges_fault(
    cairn: AsyncCairn,
) -> None:
    name = await project(cairn, "work-archived", 40)

    async def judge(jobs: Sequence[Job]) -> list[dict[str, str]]:
        await cairn.projects.archive(name)
        return [YES for _ in jobs]

    with pytest.raises(FailedPrecondition) as ended:
        await cairn.work(name, judge, labeler="robot", batch=10, idle=60.0)
    assert ended.value.reason == "PROJECT_ARCHIVED"


async def test_annotations_are_not_left_out_of_a_csv_file_without_a_word(
    cairn: AsyncCairn, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no place for annotations"):
        await cairn.export("any-project", tmp_path / "labels.csv", include_annotations=True)


async def run_work(stack: PrivateStack, *arguments: object) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run,
        [CAIRN, "--home", stack.home, "work", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


async def test_a_file_is_given_to_a_program_as_a_path(
    cairn: AsyncCairn, stack: PrivateStack, tmp_path: Path
) -> None:
    spec = {
        "questions": [{"id": "ok", "choice": ["no", "yes"]}],
        "quality": {"min_answers": 1, "max_answers": 1},
    }
    await cairn.projects.create("work-file", spec)
    await cairn.import_items("work-file", [{"key": "a b", "data": b"hello", "media_type": "text/plain"}])
    seen, program = tmp_path / "seen.json", tmp_path / "judge.py"
    program.write_text(
        "import json, sys\n"
        "for line in sys.stdin:\n"
        "    item = json.loads(line)\n"
        f"    json.dump([item['key'], item['path'], open(item['path']).read()], open({str(seen)!r}, 'w'))\n"
        "    print(json.dumps({'key': item['key'], 'answers': {'ok': 'yes'}}), flush=True)\n"
    )
    done = await run_work(stack, "work-file", "--as", "robot", "--idle", 3, "--", sys.executable, program)
    assert "1 answer given" in done.stdout, done.stderr
    key, path, content = json.loads(seen.read_text())
    assert (key, content) == ("a b", "hello")
    assert not await asyncio.to_thread(Path(path).exists)


async def test_a_watch_says_that_a_service_is_away_and_advises_nothing_meanwhile(
    cairn: AsyncCairn, stack: PrivateStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_STILL", 0.0)
    name = await project(cairn, "watch-away", 2)
    async with LiveBoard(cairn, name, advises=True) as board:

        def says(this: str, not_this: str) -> bool:
            line = board._board.line()
            return this in line and not_this not in line

        await eventually(lambda: says("2 answers wanted: cairn label", "Not up to date"), timeout=60)
        await asyncio.to_thread(stack.kill, "task-dispatch")
        await eventually(lambda: says("nothing is heard from task-dispatch.", "cairn label"), timeout=60)
        await eventually(lambda: says("2 answers wanted: cairn label", "Not up to date"), timeout=120)
