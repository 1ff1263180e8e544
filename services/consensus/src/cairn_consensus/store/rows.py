"""What the parts of the store share: who may run statements, keys, answers as they are kept, and when the server is lost."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import asyncpg

from cairn.label.v1.label_value_pb2 import Answer
from cairn_kit.database import Database, Transaction
from cairn_kit.database.pool import is_outage
from cairn_kit.shares import share_of

_SHORT = 100
"""Bytes."""

_TOO_LONG = (
    TimeoutError,
    asyncpg.QueryCanceledError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TransactionTimeoutError,
)
"""Of what a lost server looks like, what one statement or transaction brings on itself."""

Rows = Database | Transaction
"""Whatever a single reading statement can be run on."""


@dataclass(frozen=True, slots=True)
class ProjectKey:
    """Which project."""

    tenant: str
    project: str

    @property
    def columns(self) -> tuple[str, str]:
        """The key as every statement takes it."""
        return self.tenant, self.project

    @property
    def share(self) -> int:
        """The share that the project falls into."""
        return share_of(self.tenant, self.project)


def is_lost(error: BaseException) -> bool:
    """Whether the server is lost: nobody's fault, and worth another try when it is back."""
    return is_outage(error) and not isinstance(error, _TOO_LONG)


def answer_of(written: bytes) -> Answer:
    """An answer as it is kept. It is never written to: short ones may be shared."""
    return _short_answer(written) if len(written) <= _SHORT else Answer.FromString(written)


@lru_cache(maxsize=4096)
def _short_answer(written: bytes) -> Answer:
    """An answer, read once: most short ones are one of few classes."""
    return Answer.FromString(written)
