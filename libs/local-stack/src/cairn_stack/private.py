"""A stack for one test, one replay, one demo: made on entering, gone on leaving."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cairn_stack import api
from cairn_stack.catalog import SERVICES, ServiceSpec
from cairn_stack.state import StackStatus


class PrivateStack:
    """`with PrivateStack(folder) as stack:` or `async with`; the arguments are those of `api.up`.

    On leaving everything is stopped and, unless `keep`, `folder/cairn` is deleted. It ends with this process,
    too, however that ends. Inside, methods block; call them through `asyncio.to_thread` from asyncio.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep: bool = False,
        ports: Mapping[str, int] | None = None,
        durable: bool = True,
        trace_ratio: float = 1.0,
        environment: Mapping[str, str] | None = None,
        services: Sequence[ServiceSpec] = SERVICES,
        replicas: int = 1,
        timeout: float = 120.0,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        self.home = folder.absolute() / "cairn"
        self._keep = keep
        self._asked: dict[str, Any] = {
            "ports": ports,
            "durable": durable,
            "trace_ratio": trace_ratio,
            "environment": environment,
            "services": services,
            "replicas": replicas,
            "timeout": timeout,
            "progress": progress,
        }

    def start(self) -> StackStatus:
        """Start it; on failure nothing is left running."""
        try:
            return api.up(self.home, owner=os.getpid(), **self._asked)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop it, and delete its data unless asked to keep them."""
        if self._keep:
            api.down(self.home)
        else:
            api.remove(self.home)

    @property
    def status(self) -> StackStatus:
        """The stack as it is now."""
        return api.status(self.home)

    @property
    def profile(self) -> dict[str, Any]:
        """What a client needs to reach it; the file is `stack.home / "profile.json"`."""
        return api.profile(self.home)

    def pid(self, name: str) -> int | None:
        """The pid of a process by its name."""
        return self.status.pid(name)

    def kill(self, name: str) -> int:
        """See `api.kill`."""
        return api.kill(name, self.home)

    def restart(self, *names: str, timeout: float = 120.0) -> None:
        """See `api.restart`."""
        api.restart(*names, home=self.home, timeout=timeout)

    def restart_in_turn(self, timeout: float = 120.0) -> None:
        """See `api.restart_in_turn`."""
        api.restart_in_turn(self.home, timeout=timeout)

    def restart_postgres(self) -> None:
        """See `api.restart_postgres`."""
        api.restart_postgres(self.home)

    def restart_nats(self) -> None:
        """See `api.restart_nats`."""
        api.restart_nats(self.home)

    def wipe_jetstream(self) -> None:
        """See `api.wipe_jetstream`."""
        api.wipe_jetstream(self.home)

    def republish(self) -> None:
        """See `api.republish`."""
        api.republish(self.home)

    def wait_until_ready(self, timeout: float = 60.0) -> StackStatus:
        """See `api.wait_until_ready`."""
        return api.wait_until_ready(self.home, timeout=timeout)

    def spans(self, service: str) -> Path:
        """The file of a service's finished spans, one JSON object a line."""
        return self.home / "spans" / f"{service}.jsonl"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)
