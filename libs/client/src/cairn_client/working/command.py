"""A judge that is any program: it reads items as JSON lines from stdin and writes verdicts as JSON lines to stdout."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Awaitable, Callable, Sequence
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


class CommandJudge:
    """Runs one program for as long as it goes well; after a failure it is started anew.

    A line for each item is the contract's JSON of the item, with its `key` as it was given at import and, where the
    item is a file, the `path` of a copy that exists until it is judged. A line for each verdict, in any order, is
    `{"key": ..., "answers": {question: value}}`, `{"key": ..., "skip": "why"}` or `{"key": ..., "release": true}`.
    """

    def __init__(self, command: Sequence[str], download: Download) -> None:
        self._command = command
        self._download = download
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
                program = await self._running()
                # Several audits may ask for a review of one item: it is judged once.
                lines = {job.key: await self._line(job, files) for job in jobs}
                _, said = await asyncio.gather(program.write(lines.values()), self._read(program, set(lines)))
            except BaseException:
                await self._end()  # what it would say next belongs to nobody
                raise
            finally:
                for file in files:
                    file.unlink(missing_ok=True)
        return [said[job.key] for job in jobs]

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

    async def _read(self, program: Program, wanted: set[str]) -> dict[str, Verdict]:
        said: dict[str, Verdict] = {}
        while wanted - said.keys():
            try:
                line = await program.line()
            except ValueError:
                raise InputError(f"{self._command[0]} wrote a line above {LONGEST_LINE} bytes.") from None
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

    async def _ended(self, program: Program, unjudged: int) -> CairnError:
        code, last = await program.ended(), await program.last_line()
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
        if program is not None:
            await program.end()
