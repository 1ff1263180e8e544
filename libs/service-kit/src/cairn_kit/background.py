"""Work beside the calls: periodic jobs and endless tasks that outlive their failures."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

from cairn_kit.database.pool import OUTAGES
from cairn_kit.telemetry.logs import get_logger
from cairn_kit.telemetry.metrics import Metrics

_log = get_logger(__name__)
_SLOWEST_RETRY = 30.0


class Job:
    """A periodic job. `wake()` runs it at once, or once more if it is running."""

    def __init__(
        self, name: str, work: Callable[[], Awaitable[object]], every: float, metrics: Metrics
    ) -> None:
        self.name = name
        self._work = work
        self._every = every
        self._metrics = metrics
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Do not wait for the next turn."""
        self._wake.set()

    async def run(self) -> None:
        """Run for ever; a failure is logged and counted, and the next turn comes as usual."""
        failures = 0
        while True:
            self._wake.clear()
            try:
                await self._work()
                failures = 0
            except OUTAGES as error:
                failures += 1
                _log.warning("job.waiting", job=self.name, error=repr(error))
            except Exception as error:
                failures += 1
                self._metrics.background_failures.labels(self.name).inc()
                _log.error("job.failed", job=self.name, failures=failures, exc_info=error)
            # Replicas that started together must not work in step; failing jobs step back.
            pause = max(self._every, min(0.1 * 2**failures, _SLOWEST_RETRY) if failures else 0.0)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause * random.uniform(0.9, 1.1)):
                    await self._wake.wait()


async def keep_running(name: str, work: Callable[[], Awaitable[object]], metrics: Metrics) -> None:
    """Run an endless task, again when it ends or fails, with growing pauses."""
    loop, delay = asyncio.get_running_loop(), 0.1
    while True:
        began = loop.time()
        try:
            await work()
            _log.warning("task.ended", task=name)
        except Exception as error:
            metrics.background_failures.labels(name).inc()
            _log.error("task.failed", task=name, exc_info=error)
        if loop.time() - began > _SLOWEST_RETRY:
            delay = 0.1
        await asyncio.sleep(delay * random.uniform(0.9, 1.1))
        delay = min(delay * 2, _SLOWEST_RETRY)
