"""Label Studio as its package starts it: Django's threaded server on SQLite, in an environment of its own."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import urllib.error
import urllib.request
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from cairn_kit.embedded.ports import hold_any
from tests.benchmarks.rows import Absent
from tests.benchmarks.volume.targets import CLASSES, QUESTION, text_item

_VERSION = "1.23.2"
_OWNER = "bench@example.com"
_PATIENCE = 900.0  # its migrations take minutes on a busy machine
_DEADLINE = 3600.0
_GRACE = 10.0
_CHOICES = "".join(f'<Choice value="{name}"/>' for name in CLASSES)
_CONFIG = (
    '<View><Text name="text" value="$text"/>'
    f'<Choices name="{QUESTION}" toName="text">{_CHOICES}</Choices></View>'
)
_ANNOTATION = {
    "result": [
        {"from_name": QUESTION, "to_name": "text", "type": "choices", "value": {"choices": [CLASSES[1]]}}
    ]
}
_SETTINGS = {
    "DJANGO_DB": "sqlite",
    "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",  # tokens that need not be refreshed
    "COLLECT_ANALYTICS": "false",
    "LATEST_VERSION_CHECK": "false",
    "SENTRY_DSN": "",
    "FRONTEND_SENTRY_DSN": "",
}


def command() -> Path:
    """Return the `label-studio` executable; raises Absent."""
    named = os.environ.get("LABEL_STUDIO", "")
    if not os.access(named, os.X_OK):
        raise Absent(
            "set LABEL_STUDIO to the label-studio executable, of `python -m venv .venv-label-studio && "
            f".venv-label-studio/bin/pip install label-studio=={_VERSION}`"
        )
    return Path(named)


@dataclass(frozen=True, slots=True)
class LabelStudio:
    """A running Label Studio: its address, its owner's token, one more of each labeler, and threads to call it from."""

    url: str
    owner: str
    labelers: Sequence[str]
    threads: ThreadPoolExecutor

    async def call(self, method: str, path: str, body: object = None, token: str = "") -> Any:
        """Return the JSON that a call answers, as the owner by default. Raises HTTPError."""
        loop = asyncio.get_running_loop()
        answer = await loop.run_in_executor(self.threads, self._call, method, path, body, token)
        return json.loads(answer)

    def _call(self, method: str, path: str, body: object, token: str) -> bytes:
        request = urllib.request.Request(
            f"{self.url}/api/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Token {token or self.owner}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=_DEADLINE) as response:
            return bytes(response.read())

    async def empty_project(self) -> LabelStudioProject:
        """Make a project that asks the question that Cairn's project asks, of one labeler an item."""
        asked = {"title": "Next to Cairn", "label_config": _CONFIG, "maximum_annotations": 1}
        made = await self.call("POST", "projects/", asked)
        return LabelStudioProject(self, int(made["id"]))


class LabelStudioProject:
    """A project's tasks, taken and answered one at a time."""

    def __init__(self, studio: LabelStudio, number: int) -> None:
        self._studio = studio
        self._path = f"projects/{number}"
        self.failures = 0
        """How many turns it could not do, for its database was locked."""

    async def imported(self, items: int, *, annotated: bool = False) -> LabelStudioProject:
        """Import the texts that Cairn imports, each with its annotation if wanted, by one call; return the project."""
        one = {"annotations": [_ANNOTATION]} if annotated else {}
        tasks = [{"data": {"text": text_item(n).text}, **one} for n in range(items)]
        taken = await self._studio.call("POST", f"{self._path}/import", tasks)
        if taken["task_count"] != items:
            raise RuntimeError(f"Label Studio took {taken['task_count']} of {items} texts")
        return self

    async def cycle(self, caller: int, tasks: int) -> int:
        """Take the next task as this caller and answer it: 1 if that could be done. ``tasks`` is 1."""
        if tasks != 1:
            raise ValueError("Label Studio hands out one task at a time")
        token = self._studio.labelers[caller]
        try:
            task = await self._studio.call("GET", f"{self._path}/next", token=token)
            await self._studio.call("POST", f"tasks/{task['id']}/annotations/", _ANNOTATION, token)
        except urllib.error.HTTPError as error:
            if error.code != 500:
                raise
            self.failures += 1
            return 0
        return 1

    async def exported(self) -> int:
        """Export every annotated task as JSON, to the end; return how many there were."""
        return len(await self._studio.call("GET", f"{self._path}/export?exportType=JSON"))


@asynccontextmanager
async def label_studio_running(executable: Path, folder: Path, labelers: int) -> AsyncIterator[LabelStudio]:
    """Run Label Studio with its data in this folder, and so many labelers. Raises RuntimeError if it does not start."""
    port, owner = hold_any(), uuid4().hex
    log = folder / "label-studio.log"
    arguments = {
        "--port": str(port.number),
        "--internal-host": "127.0.0.1",
        "--data-dir": str(folder),
        "--username": _OWNER,
        "--password": uuid4().hex,
        "--user-token": owner,
    }
    with log.open("wb") as said, ThreadPoolExecutor(labelers) as threads:
        process = await asyncio.create_subprocess_exec(
            executable,
            "start",
            "--no-browser",
            *(word for pair in arguments.items() for word in pair),
            stdin=DEVNULL,
            stdout=said,
            stderr=STDOUT,
            env=os.environ | _SETTINGS,
        )
        try:
            alone = LabelStudio(f"http://127.0.0.1:{port.number}", owner, (), threads)
            await _answering(alone, process, log)
            tokens = [await _labeler(alone, folder, number) for number in range(labelers)]
            yield LabelStudio(alone.url, owner, tokens, threads)
        finally:
            await _ended(process)


async def _answering(studio: LabelStudio, process: Process, log: Path) -> None:
    async with asyncio.timeout(_PATIENCE):
        while True:
            if process.returncode is not None:
                said = await asyncio.to_thread(log.read_text)
                raise RuntimeError(f"Label Studio ended before it answered: {said[-2000:]}")
            try:
                await studio.call("GET", "version")
            except urllib.error.URLError:
                await asyncio.sleep(0.5)
            else:
                return


async def _labeler(studio: LabelStudio, folder: Path, number: int) -> str:
    """Make a labeler; return the token, which only the labeler could ask Label Studio for."""
    email = f"labeler-{number}@example.com"
    made = await studio.call("POST", "users/", {"email": email, "username": email})
    with sqlite3.connect(f"file:{folder / 'label_studio.sqlite3'}?mode=ro", uri=True) as database:
        [token] = database.execute(
            "SELECT key FROM authtoken_token WHERE user_id = ?", [made["id"]]
        ).fetchone()
    return str(token)


async def _ended(process: Process) -> None:
    if process.returncode is None:
        process.terminate()
        try:
            async with asyncio.timeout(_GRACE):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
