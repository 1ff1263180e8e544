"""A judge that is any program: it reads items as JSON lines from stdin and writes verdicts as JSON lines to stdout."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from google.protobuf import json_format

from cairn.label.v1.label_value_pb2 import BlobRef
from cairn_client.calls.job import Job
from cairn_client.errors import CairnError, InputError
from cairn_client.words import counted, first_of, quoted
from cairn_client.working.verdicts import JudgeFailed, Release, Skip, Verdict

_LONGEST_LINE = 16 * 1024 * 1024
_LAST_WORDS = 4096
"""Bytes of what the program said last on stderr that are looked at when it ends."""
_GOODBYE = 5.0
"""Seconds that the program has to end when its stdin is closed."""

Download = Callable[[BlobRef, str], Awaitable[bytes]]
"""The bytes of a blob, for the holder of a lease token."""


@dataclass(frozen=True, slots=True)
class _Program:
    """A program that runs, both ends of the line to it, and what passes on its stderr."""

    process: Process
    stdin: asyncio.StreamWriter
    stdout: asyncio.StreamReader
    stderr: _PassedOn


class _PassedOn:
    """What a program says on stderr goes on to ours as it comes; its end is remembered."""

    def __init__(self, source: asyncio.StreamReader) -> None:
        self._last = b""
        self._passing = asyncio.create_task(self._pass_on(source))

    async def _pass_on(self, source: asyncio.StreamReader) -> None:
        while said := await source.read(64 * 1024):
            self._last = (self._last + said)[-_LAST_WORDS:]
            with suppress(OSError):  # whoever read ours has gone: no reason to hold the program up
                await asyncio.to_thread(_write_stderr, said)

    async def last_line(self) -> str:
        """What it said last; empty when it said nothing. For when it has ended."""
        await asyncio.wait([self._passing], timeout=_GOODBYE)  # a child of its own may hold the line open
        lines = self._last.decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


class CommandJudge:
    """Runs one program for as long as it goes well; after a failure it is started anew.

    A line for each item is the contract's JSON of the item, with its `key` as it was given at import and, where the
    item is a file, the `path` of a copy that exists until it is judged. A line for each verdict, in any order, is
    `{"key": ..., "answers": {question: value}}`, `{"key": ..., "skip": "why"}` or `{"key": ..., "release": true}`.
    """

    def __init__(self, command: Sequence[str], download: Download) -> None:
        self._command = command
        self._download = download
        self._program: _Program | None = None
        self._turn = asyncio.Lock()
        self._files = tempfile.TemporaryDirectory(prefix="cairn-work-", ignore_cleanup_errors=True)

    async def __aenter__(self) -> CommandJudge:
        await self._running()  # what cannot be run is said before anything is leased
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()
        self._files.cleanup()

    async def __call__(self, jobs: Sequence[Job]) -> Sequence[Verdict]:
        """Verdicts of the program. Raises InputError for a line that is none, CairnError when the program ends, JudgeFailed
        when it cannot be started."""
        async with self._turn:
            files: list[Path] = []
            try:
                program = await self._running()
                # Several audits may ask for a review of one item: it is judged once.
                lines = {job.key: await self._line(job, files) for job in jobs}
                _, said = await asyncio.gather(
                    _write(program, lines.values()), self._read(program, set(lines))
                )
            except BaseException:
                await self._end()  # what it would say next belongs to nobody
                raise
            finally:
                for file in files:
                    file.unlink(missing_ok=True)
        return [said[job.key] for job in jobs]

    async def _running(self) -> _Program:
        if self._program is None:
            try:
                # In a session of its own: Ctrl-C ends the run, which lets the program finish what it has.
                process = await asyncio.create_subprocess_exec(
                    *self._command,
                    stdin=PIPE,
                    stdout=PIPE,
                    stderr=PIPE,
                    limit=_LONGEST_LINE,
                    start_new_session=True,
                )
            except OSError as error:
                raise JudgeFailed(f"{self._command[0]} cannot be run: {error.strerror}.") from None
            if process.stdin is None or process.stdout is None or process.stderr is None:
                raise RuntimeError("a program was started without pipes")
            self._program = _Program(process, process.stdin, process.stdout, _PassedOn(process.stderr))
        return self._program

    async def _line(self, job: Job, files: list[Path]) -> bytes:
        if job.item is None:
            raise job.error or CairnError("The item cannot be shown.")
        told: dict[str, Any] = json_format.MessageToDict(job.item, preserving_proto_field_name=True)
        told["key"] = job.key
        if job.item.WhichOneof("content") == "blob":
            suffix = "." + job.item.blob.media_type.rpartition("/")[2]
            with tempfile.NamedTemporaryFile(dir=self._files.name, suffix=suffix, delete=False) as file:
                files.append(Path(file.name))
                file.write(await self._download(job.item.blob, job.lease.token))
            told["path"] = file.name
        return json.dumps(told, ensure_ascii=False).encode() + b"\n"

    async def _read(self, program: _Program, wanted: set[str]) -> dict[str, Verdict]:
        said: dict[str, Verdict] = {}
        while wanted - said.keys():
            try:
                line = await program.stdout.readline()
            except ValueError:
                raise InputError(f"{self._command[0]} wrote a line above {_LONGEST_LINE} bytes.") from None
            if not line:
                raise await self._ended(program, len(wanted - said.keys()))
            key, verdict = self._verdict(line)
            if key in said:
                raise InputError(
                    f"{self._command[0]} judged {quoted(key)} twice; expected a line for each item."
                )
            if key not in wanted:
                raise InputError(
                    f"{self._command[0]} judged {quoted(key)}, which it was not asked about;"
                    f" expected {first_of(sorted(wanted - said.keys()))}."
                )
            said[key] = verdict
        return said

    async def _ended(self, program: _Program, unjudged: int) -> CairnError:
        last = await program.stderr.last_line()
        with suppress(TimeoutError):
            async with asyncio.timeout(_GOODBYE):
                await program.process.wait()
        code = program.process.returncode
        ended = "closed its stdout" if code is None else f"ended with {code}"
        left = f"{self._command[0]} {ended} and left {counted(unjudged, 'item')} unjudged"
        return CairnError(f"{left}; the last that it said: {quoted(last)}." if last else f"{left}.")

    def _verdict(self, line: bytes) -> tuple[str, Verdict]:
        try:
            match json.loads(line):
                case {"key": str(key), "answers": dict(answers)}:
                    return key, answers
                case {"key": str(key), "skip": str(reason)}:
                    return key, Skip(reason)
                case {"key": str(key), "release": True}:
                    return key, Release()
        except (ValueError, RecursionError):
            pass
        text = quoted(line.decode(errors="replace").rstrip())
        raise InputError(
            f"{self._command[0]} wrote {text}; expected a line "
            '{"key": "...", "answers": {...}}, with "skip": "why" or "release": true instead of the answers, and'
            " nothing else."
        )

    async def _end(self) -> None:
        program, self._program = self._program, None
        if program is None:
            return
        program.stdin.close()
        for end in (_nothing, program.process.terminate, program.process.kill):
            with suppress(TimeoutError, ProcessLookupError):
                end()
                async with asyncio.timeout(_GOODBYE):
                    await _end_of(program)
                    return


def _nothing() -> None:
    """A closed stdin is enough for most."""


def _write_stderr(said: bytes) -> None:
    sys.stderr.buffer.write(said)
    sys.stderr.buffer.flush()


async def _write(program: _Program, lines: Iterable[bytes]) -> None:
    with suppress(ConnectionError):  # it has ended; the reading side tells how
        for line in lines:
            program.stdin.write(line)
            await program.stdin.drain()


async def _end_of(program: _Program) -> None:
    """Wait for the end of a program that may still have something to say."""
    while await program.stdout.read(64 * 1024):
        pass
    await program.process.wait()
