"""The supervisor's socket: JSON lines in and out. It works on a full disk, where no file can be written."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from cairn_stack.errors import StackError
from cairn_stack.home import Home

Answer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


async def listen(home: Home, answer: Answer) -> asyncio.Server:
    """Serve `answer` on the home's socket; a StackError it raises is carried to the caller."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await reader.readline()
            said: dict[str, Any]
            try:
                said = {"ok": await answer(json.loads(line))}
            except (StackError, ValueError, KeyError) as error:
                said = {"error": str(error)}
            writer.write(json.dumps(said).encode() + b"\n")
            await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    home.control.unlink(missing_ok=True)  # ours: the caller holds the home's lock
    server = await asyncio.start_unix_server(talk, home.control)
    home.control.chmod(0o600)
    return server


def ask(home: Home, timeout: float = 5.0, **question: Any) -> dict[str, Any] | None:
    """Ask the supervisor; None when nobody listens. Raises StackError with what it refused."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(timeout)
            line.connect(str(home.control))
            line.sendall(json.dumps(question).encode() + b"\n")
            with line.makefile("rb") as answers:
                said = json.loads(answers.readline() or b"null")
    except (OSError, ValueError):
        return None
    if said is None:
        return None
    if "error" in said:
        raise StackError(said["error"])
    answer: dict[str, Any] = said["ok"]
    return answer
