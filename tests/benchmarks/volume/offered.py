"""Load that does not wait for answers: turns begin at random moments, so many a second, from processes of their own.

A process that offers load queues as well, and what waits in it looks like a slow server. So each call is noted with when
it was due, when it left and when its answer was taken up, and each process with how late its loop was all the time and
what it took of the processor.
"""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from time import perf_counter, process_time

import grpc
import numpy as np
import uvloop

from cairn_stack.private import PrivateStack
from tests.benchmarks.volume.targets import CairnProject, CairnStack

_LABELERS = 1_000
_LOOK = 0.01  # seconds from one look at how late the loop is to the next
_SHORTEST_SLEEP = 0.002  # seconds; a shorter one is not kept anyhow


@dataclass(frozen=True, slots=True)
class Call:
    """One call: its moments on the machine's clock, and how it ended: `OK` or the name of its code, with its words."""

    method: str
    due: float
    left: float
    ended: float
    code: str
    words: str = ""

    @property
    def seconds(self) -> float:
        """From when it was due until its answer was taken up."""
        return self.ended - self.due


@dataclass(frozen=True, slots=True)
class Offered:
    """What one process offered: its calls, how late its loop was at each look, and how much of a core it took."""

    calls: list[Call]
    late: list[float]
    cores: float


async def offer(folder: Path, project: str, rate: float, seconds: float, processes: int) -> list[Offered]:
    """Offer so many turns a second to the stack below a folder, by so many processes; return what each of them saw."""
    asked = (
        {
            "folder": str(folder),
            "project": project,
            "rate": rate / processes,
            "seconds": seconds,
            "seed": seed,
        }
        for seed in range(processes)
    )
    return await asyncio.gather(*(_elsewhere(json.dumps(settings)) for settings in asked))


async def _elsewhere(settings: str) -> Offered:
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", __name__, stdin=PIPE, stdout=PIPE)
    said, _ = await process.communicate(settings.encode())
    if process.returncode:
        raise RuntimeError(f"a process that offers load ended with {process.returncode}")
    calls, late, cores = json.loads(said)
    return Offered([Call(*call) for call in calls], late, cores)


async def _offer(folder: str, project: str, rate: float, seconds: float, seed: int) -> Offered:
    cairn = CairnStack(PrivateStack(Path(folder)))
    random = np.random.default_rng(seed)
    moments = np.cumsum(random.exponential(1.0 / rate, int(rate * seconds))).tolist()
    labelers = random.integers(_LABELERS, size=len(moments)).tolist()
    late: list[float] = []
    looking = asyncio.create_task(_look(late))
    began, used = perf_counter(), process_time()
    turns = []
    for moment, labeler in zip(moments, labelers, strict=True):
        early = began + moment - perf_counter()
        if early > _SHORTEST_SLEEP:
            await asyncio.sleep(early)
        turns.append(asyncio.create_task(turn(CairnProject(cairn, project), labeler, began + moment)))
    cores = (process_time() - used) / (perf_counter() - began)
    calls = [call for made in await asyncio.gather(*turns) for call in made]
    looking.cancel()
    await cairn.close()
    return Offered(calls, late, cores)


async def turn(project: CairnProject, labeler: int, due: float | None = None) -> list[Call]:
    """Lease a task, at once or when it was ``due``, and answer it; return both calls, or the one that ended it."""
    calls: list[Call] = []
    method = "LeaseTasks"
    left = perf_counter()
    due = left if due is None else due
    try:
        tokens = await project.lease(labeler, 1)
        calls.append(Call(method, due, left, perf_counter(), "OK"))
        if tokens:
            method, due, left = "SubmitAnnotation", perf_counter(), perf_counter()
            await project.submit(tokens)
            calls.append(Call(method, due, left, perf_counter(), "OK"))
    except grpc.aio.AioRpcError as error:
        calls.append(Call(method, due, left, perf_counter(), error.code().name, error.details() or ""))
    return calls


async def _look(late: list[float]) -> None:
    """Note how much later than asked this loop goes on, again and again."""
    while True:
        asked = perf_counter() + _LOOK
        await asyncio.sleep(_LOOK)
        late.append(perf_counter() - asked)


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which this share of the values lies; 0 of none."""
    return float(np.quantile(values, share)) if values else 0.0


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(astuple(runner.run(_offer(**json.loads(sys.stdin.read()))))))
