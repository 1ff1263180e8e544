"""A crowd at work while processes are killed at random, one every few seconds: nothing lost, doubled or over-asked."""

from __future__ import annotations

import asyncio
import random
import tempfile
import uuid
from contextlib import suppress
from pathlib import Path
from time import perf_counter

from cairn_client import AsyncCairn
from cairn_client.transport import Patience
from cairn_stack import PrivateStack
from tests.benchmarks.rows import Row, Rows
from tests.benchmarks.volume.crowd import begin, export, work_through
from tests.benchmarks.volume.history import broken_promises, exported
from tests.benchmarks.volume.targets import SERVICES

_SECONDS, _MORE_SECONDS = 60.0, 1800.0
_ITEMS_A_ROUND = 600
_LABELERS, _TASKS, _ANSWERS = 16, 10, 3
_LEASE_SECONDS = 20.0
_KILL_EVERY = (4.0, 12.0)
_PATIENCE = 900.0
_VICTIMS = (*SERVICES, "nats", "postgres")
_PERSISTENT = Patience(call=300.0)


def rows(full: bool) -> Rows:
    """Yield kills survived and promises broken. ``full``: half an hour instead of a minute."""
    yield from asyncio.run(_measure(_MORE_SECONDS if full else _SECONDS))


async def _measure(seconds: float) -> list[Row]:
    """Projects are begun, labeled and exported one after the other until time is out."""
    kills: list[str] = []
    broken: list[str] = []
    kept = rounds = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with (
            PrivateStack(folder, trace_ratio=0.0) as stack,
            AsyncCairn(home=stack.home, patience=_PERSISTENT) as client,
        ):
            killing = asyncio.create_task(_kill(stack, kills, random.Random(1)))
            began = perf_counter()
            while perf_counter() - began < seconds:
                run = await begin(
                    client, f"soak-{uuid.uuid4().hex[:8]}", _ITEMS_A_ROUND, _ANSWERS, _LEASE_SECONDS
                )
                await work_through(client, run, _LABELERS, _TASKS, _LEASE_SECONDS, _PATIENCE)
                with (await export(client, run, folder)).open("rb") as lines:
                    broken += broken_promises(run.history, exported(lines), _ANSWERS)
                kept, rounds = kept + len(run.history.kept), rounds + 1
            took = perf_counter() - began
            killing.cancel()
            with suppress(asyncio.CancelledError):
                await killing
    for told in broken[:20]:
        print(f"        {told}")
    what = f"soak of {took / 60:.1f} minutes, {rounds} projects, {len(kills)} kills of {len(set(kills))} processes"
    return [
        Row(f"{what}: answers kept", "", kept, least=float(rounds * _ITEMS_A_ROUND * _ANSWERS)),
        Row(f"{what}: broken promises", "", len(broken), most=0.0),
    ]


async def _kill(stack: PrivateStack, kills: list[str], chance: random.Random) -> None:
    while True:
        await asyncio.sleep(chance.uniform(*_KILL_EVERY))
        victim = chance.choice(_VICTIMS)
        if stack.pid(victim) is not None:
            await asyncio.to_thread(stack.kill, victim)
            kills.append(victim)
