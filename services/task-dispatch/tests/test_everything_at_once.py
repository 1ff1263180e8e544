"""Labelers, deciders, auditors and the clock, all at the same tasks at the same moment: no promise breaks, nothing hangs."""

from __future__ import annotations

import asyncio
import random

from cairn_kit.errors import FailedPrecondition
from cairn_task_dispatch.domain.states import TaskKind
from cairn_task_dispatch.handlers.tasks import TaskWish

KEYS = [f"item-{n}" for n in range(12)]


async def test_no_promise_breaks_when_everything_happens_at_once(desk):
    await desk.open(*KEYS, min_answers=2)
    revisions = dict.fromkeys(KEYS, 0)

    async def hear(*messages):
        async def work(tx):
            for message in messages:
                await desk._handlers[type(message)](tx, [desk.received(message)])

        await desk.database.retrying(work)

    async def labeler(name):
        chance = random.Random(name)
        for _ in range(12):
            if chance.random() < 0.5:
                leases = await desk.lease(name, chance.randint(1, 4))
            else:
                results = await desk.claim(*((key, name) for key in chance.sample(KEYS, 4)))
                leases = [result.lease for result in results if result.lease.name]
            for lease in leases:
                try:
                    match chance.randrange(4):
                        case 0:
                            await desk.release(lease)
                        case 1:
                            await desk.release(lease)
                            await hear(desk.words.submitted(lease))
                        case 2:
                            await hear(desk.words.submitted(lease, late=chance.random() < 0.3))
                        case _:
                            await desk.extend(lease, 900)
                except FailedPrecondition as refused:
                    if refused.reason != "LEASE_NOT_LIVE":
                        raise

    async def decider(seed):
        chance = random.Random(seed)
        for _ in range(25):
            said = []
            for key in chance.sample(KEYS, 5):
                revisions[key] += 1
                revision = revisions[key]
                said.append(
                    chance.choice(
                        [
                            desk.words.wanted(key, chance.randint(2, 5), revision),
                            desk.words.reached(key, revision),
                            desk.words.disputed(key, revision),
                            desk.words.routed(key, auto=chance.random() < 0.3, revision=revision + 1),
                        ]
                    )
                )
            await hear(*said)

    async def auditor():
        for n in range(15):
            audit = f"{desk.words.name}/audits/audit-{n % 3}"
            await desk.wish(*(TaskWish(key, TaskKind.REVIEW, 1 + n % 2, 0.4, audit) for key in KEYS[::-1]))
            await desk.lease("reviewer", 5, reviews=True)

    async def clock():
        for n in range(10):
            await desk.pass_time(611 if n % 3 == 2 else 60)
            await desk.expiry.expire()

    async with asyncio.timeout(60):
        await asyncio.gather(
            *(labeler(f"labeler-{n}") for n in range(6)), decider(1), decider(2), auditor(), clock()
        )
    assert await desk.broken_promises() == []
