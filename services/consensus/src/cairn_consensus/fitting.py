"""Fits: those of few votes made in a thread, those of many by a process of their own.

What many votes take in memory while they are looked at, and the interpreter's time, is not this process's then. That
process reads the votes itself, as of one moment; it ends with its work, or with the one who asked for it.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from threading import Thread
from typing import Any, NamedTuple

from cairn.annotation.v1.annotation_store_pb2 import Project
from cairn_consensus.computing import Computing
from cairn_consensus.config import ConsensusSettings
from cairn_consensus.domain.project_state import Fit, ProjectState
from cairn_consensus.hearing import whole
from cairn_consensus.store import ConsensusStore, ProjectKey, is_lost
from cairn_kit.database import Database, Transaction
from cairn_kit.database.pool import OUTAGES

LARGE = 100_000
"""Answers from which on a process of its own is worth its start: it takes about as long as to fit as many here."""
LARGE_BYTES = 8 << 20
"""Bytes of answers from which on it is, however few they are: of masks that is up to 100 MiB in memory."""

Making = Callable[[], Coroutine[Any, Any, Fit]]
"""What makes a fit when it is called."""


class FittingDied(Exception):
    """The process could not be started, or ended without a word; its last words are in this one's standard error."""


class Place(NamedTuple):
    """Where the votes are."""

    dsn: str
    schema: str
    statement_timeout: float


def place_of(settings: ConsensusSettings) -> Place:
    """Where this service's votes are."""
    dsn = settings.postgres_dsn.get_secret_value()
    return Place(dsn, settings.schema_name, settings.statement_timeout)


class _Asked(NamedTuple):
    """What the process is to fit."""

    place: Place
    key: ProjectKey
    project: bytes
    after: int


class Fitting:
    """Fits projects to all of their votes."""

    def __init__(self, store: ConsensusStore, computing: Computing, place: Place) -> None:
        self._store = store
        self._computing = computing
        self._place = place
        self._one_at_a_time = asyncio.Semaphore()
        """For each takes memory by the answers that it is made of."""

    async def begin(self, tx: Transaction, key: ProjectKey, state: ProjectState) -> Making:
        """What makes a fit to all that was said, as far as this transaction has it: it needs no transaction any more.

        A large one is made of what is committed when that is called.
        """
        if state.questions.answers < LARGE and await self._store.answer_bytes(tx, key) < LARGE_BYTES:
            everything = await whole(self._store, self._computing, tx, key, state.project)
            return partial(asyncio.to_thread, everything.fit, state.refits)
        asked = _Asked(self._place, key, state.project.SerializeToString(), state.refits)
        return partial(self._elsewhere, asked)

    async def _elsewhere(self, asked: _Asked) -> Fit:
        async with self._one_at_a_time:
            return await _elsewhere(asked)


async def _elsewhere(asked: _Asked) -> Fit:
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", __name__, stdin=PIPE, stdout=PIPE
        )
    except OSError as error:  # of this machine, and no outage of a server
        raise FittingDied(f"it could not be started: {error}") from error
    try:
        asking, answers = _pipes(process)
        asking.write(pickle.dumps(asked))  # and no end: that would be ours
        made = await answers.read()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    if not made:
        raise FittingDied(f"exit status {process.returncode}")
    told: Fit | ConnectionError = pickle.loads(made)  # noqa: S301 - the service's own, over its own pipe
    if isinstance(told, ConnectionError):
        raise told
    return told


def _pipes(process: Process) -> tuple[asyncio.StreamWriter, asyncio.StreamReader]:
    if process.stdin is None or process.stdout is None:
        raise FittingDied("it was started without pipes")
    return process.stdin, process.stdout


async def answer(asked: _Asked) -> Fit | ConnectionError:
    """What the process does; of a lost server it tells whoever asked."""
    try:
        return await _fitted(asked)
    except OUTAGES as error:
        if not is_lost(error):
            raise
        return ConnectionError(repr(error))


async def _fitted(asked: _Asked) -> Fit:
    store, (dsn, schema, statement_timeout) = ConsensusStore(), asked.place
    database = Database(dsn, schema, pool_min=1, pool_max=1, statement_timeout=statement_timeout)
    await database.open()
    try:
        async with database.transaction("repeatable_read") as tx:
            computing = Computing(store, statement_timeout)
            everything = await whole(store, computing, tx, asked.key, Project.FromString(asked.project))
    finally:
        await database.close()
    return everything.fit(asked.after)


def end_with_asker(asker: int) -> None:
    """End this process when whoever asked for the fit, at the other end of this descriptor, is no more."""
    os.read(asker, 1)
    os._exit(1)


if __name__ == "__main__":
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)  # whatever else is said must not pass for an answer
        asked = pickle.load(sys.stdin.buffer)  # noqa: S301 - the service's own, over its own pipe
        Thread(target=end_with_asker, args=[sys.stdin.fileno()], daemon=True).start()
        answers.write(pickle.dumps(asyncio.run(answer(asked))))
