"""The process that trains: started at the first training, kept for the next, killed when one is called off."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType


class TrainingDied(Exception):
    """The process ended before it answered; the message has its code and its last words."""


class TrainingProcess:
    """One training after the other, in a process of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> TrainingProcess:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.kill()

    async def train(self, request_file: Path, folder: Path) -> int:
        """The process's answer (see `cairn_inference.training`). Raises TrainingDied."""
        if self._process is None or self._process.returncode is not None:
            self._process = await self._start()
        process, asked, answers = self._process, self._process.stdin, self._process.stdout
        if asked is None or answers is None:
            raise TrainingDied("it was started without pipes")
        try:
            asked.write(f"{request_file}\t{folder}\n".encode())
            await asked.drain()
            answer = await answers.readline()
        except (BrokenPipeError, ConnectionResetError):
            answer = b""
        if not answer:
            code = await process.wait()
            words = await asyncio.to_thread(self._stderr.read_bytes)
            raise TrainingDied(f"code {code}: {words[-2000:].decode(errors='replace').strip()}")
        return int(answer)

    async def kill(self) -> None:
        """End the process at once, whatever it is doing."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    @property
    def _stderr(self) -> Path:
        return self._folder / "stderr.txt"

    async def _start(self) -> asyncio.subprocess.Process:
        await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True)
        words = await asyncio.to_thread(self._stderr.open, "wb")
        with words:
            return await asyncio.create_subprocess_exec(
                sys.executable, "-m", "cairn_inference.training", "--serve",
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=words,
            )  # fmt: skip
