"""Calls that came together, answered in one transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from google.protobuf.message import Message

from cairn_kit.database import Database, Transaction
from cairn_kit.rpc import Submitted, once_many


class Ask(Protocol):
    """A call, on its way."""

    @property
    def tenant(self) -> str:
        """Whose it is."""
        ...

    @property
    def request(self) -> Message:
        """What was sent."""
        ...


A = TypeVar("A", bound=Ask)
R = TypeVar("R", bound=Message)


async def answer_together(
    database: Database,
    batch: Sequence[Submitted[A]],
    response: type[R],
    effect: Callable[[Transaction, Sequence[A]], Awaitable[Sequence[R | Exception]]],
) -> Sequence[R | Exception]:
    """Answer each call once, all in one transaction: ``effect`` is given those that were not answered before."""
    asks = [submitted.request for submitted in batch]
    requests = [(s.caller or ask.tenant, ask.request) for s, ask in zip(batch, asks, strict=True)]

    async def work(tx: Transaction) -> list[R | Exception]:
        return await once_many(tx, requests, response, lambda fresh: effect(tx, [asks[i] for i in fresh]))

    return await database.retrying(work)
