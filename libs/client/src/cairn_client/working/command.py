"""A judge that is any program: it reads items as JSON lines from stdin and writes verdicts as JSON lines to stdout."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from google.protobuf import json_format

from cairn.label.v1.label_value_pb2 import BlobRef
from cairn_client.calls.job import Job
from cairn_client.errors import CairnError, InputError
from cairn_client.words import counted, first_of, quoted
from cairn_client.working.program import LONGEST_LINE, Program
from cairn_client.working.verdicts import JudgeFailed, Release, Skip, Verdict

Download = Callable[[BlobRef, str], Awaitable[bytes]]
"""The bytes of a blob, for the holder of a lease token."""

_SILENT = 10.0
"""Seconds after which it is said that nothing was heard of a program yet."""


class _Ended(CairnError):
    """The program has ended, or says nothing more."""


class CommandJudge:
    """Runs one program for as long as it goes well; when it has ended, or after a failure, it is started anew.

    A line for each item is the contract's JSON of the item, with its `key` as it was given at import and, where the
    item is a file, the `path` of a copy that exists until it is judged. A line for each verdict, in any order, is
    `{"key": ..., "answers": {question: value}}`, `{"key": ..., "skip": "why"}` or `{"key": ..., "release": true}`.
    When no program has written a line for a while, `tell` is told so, once.
    """

    def __init__(
        self, command: Sequence[str], download: Download, tell: Callable[[str], None] | None = None
    ) -> None:
        self._command = command
        self._download = download
        self._tell = tell
        """None, too, once a line was heard, or it was told that none was."""
        self._program: Program | None = None
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
                # Several audits may ask for a review of one item: it is judged once.
                said = await self._said_of({job.key: await self._line(job, files) for job in jobs})
            finally:
                for file in files:
                    file.unlink(missing_ok=True)
        return [said[job.key] for job in jobs]

    async def _said_of(self, lines: Mapping[str, bytes]) -> Mapping[str, Verdict]:
        older, program = self._program, await self._running()
        said: dict[str, Verdict] = {}
        silence = asyncio.get_running_loop().call_later(_SILENT, self._nothing_heard, len(lines))
        try:
            await asyncio.gather(program.write(lines.values()), self._read(program, set(lines), said))
        except BaseException as error:
            await self._end()  # what it would say next belongs to nobody
            if not isinstance(error, _Ended) or program is not older or said:
                raise
        else:
            return said
        finally:
            silence.cancel()
        return await self._said_of(lines)  # it may have ended before it was asked: not so one that is new

    def _nothing_heard(self, items: int) -> None:
        if self._tell is not None:
            self._tell(
                f"{self._command[0]} has had {counted(items, 'item')} for {_SILENT:g} s and has written no line yet."
                " It is waited for; does it flush what it writes?"
            )
            self._tell = None

    async def _running(self) -> Program:
        if self._program is None:
            try:
                self._program = await Program.started(self._command)
            except OSError as error:
                raise JudgeFailed(f"{self._command[0]} cannot be run: {error.strerror}.") from None
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

    async def _read(self, program: Program, wanted: set[str], said: dict[str, Verdict]) -> None:
        while wanted - said.keys():
            try:
                line = await program.line()
            except ValueError:
                raise InputError(f"{self._command[0]} wrote a line above {LONGEST_LINE} bytes.") from None
            if not line:
                raise await self._ended(program, len(wanted - said.keys()))
            self._tell = None
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

    async def _ended(self, program: Program, unjudged: int) -> _Ended:
        code, last = await program.ended(), await program.last_line()
        ended = "closed its stdout" if code is None else f"ended with {code}"
        left = f"{self._command[0]} {ended} and left {counted(unjudged, 'item')} unjudged"
        return _Ended(f"{left}; the last that it said: {quoted(last)}." if last else f"{left}.")

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
        if program is not None:
            await program.end()
