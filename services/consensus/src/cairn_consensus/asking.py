"""Refits and conclusions that calls ask for: written down, made by `refits`, and waited for.

A call that breaks off, with its line, its deadline or its replica, takes nothing with it: whoever asks again waits for the
same, and is told what came of it even when that has ended.

Of each kind a project has one at most that is begun, and one that waits to be: those who ask meanwhile wait for that, and
when it is begun it takes over one that came to nothing, with all who wait for it. A conclusion that has ended takes over
refits before it as well. One that has come to nothing, and that nobody asks for again, or waits for, within an hour, is
given up: it would conclude what has come since.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, TypeVar

from cairn.consensus.v1.consensus_pb2 import (
    ConcludeProjectRequest,
    ConcludeProjectResponse,
    RefitProjectRequest,
    RefitProjectResponse,
)
from cairn_consensus.config import ConsensusSettings
from cairn_consensus.domain.ids import ItemKey
from cairn_consensus.domain.project_state import ProjectState
from cairn_consensus.refits import Refits
from cairn_consensus.shares import Shares
from cairn_consensus.states import States
from cairn_consensus.store import AskedRefit, ConsensusStore, ProjectKey, Refitting, WhichRefit
from cairn_consensus.turns import Turns
from cairn_consensus.waits import Waits
from cairn_kit.auth import caller
from cairn_kit.database import Database, Transaction
from cairn_kit.errors import Unavailable, project_not_found
from cairn_kit.rpc import once_many
from cairn_kit.shares import Elsewhere
from cairn_kit.wakes import Wakes, rung

Request = RefitProjectRequest | ConcludeProjectRequest
R = TypeVar("R", RefitProjectResponse, ConcludeProjectResponse)

_LOOK = 1.0
"""Seconds between two looks: nobody rings where a project is deleted, or another replica's from now on."""
_DAY = 24 * 3600
_DEATHS = 2
"""A step that was begun more often has taken its process down, again and again."""
_FORGOTTEN_AT_ONCE = 5_000
"""Rows."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a refit that calls asked for, and the items that it could not conclude, in order."""

    of: Refitting
    undecided: Sequence[ItemKey]


class Asking:
    """Asks for refits on behalf of calls, and waits for what comes of them."""

    def __init__(
        self,
        database: Database,
        store: ConsensusStore,
        turns: Turns,
        states: States,
        shares: Shares,
        refits: Refits,
        wakes: Wakes,
        settings: ConsensusSettings,
    ) -> None:
        self._database = database
        self._store = store
        self._turns = turns
        self._states = states
        self._shares = shares
        self._refits = refits
        self._wakes = wakes
        self._waits = Waits[WhichRefit, Any]()
        self._remembered = 2 * settings.event_retention_days * _DAY
        """Seconds for which whoever asks again is told what came of it: as long as the chassis remembers requests."""

    async def answer(
        self,
        key: ProjectKey,
        request: Request,
        response: type[R],
        told: Callable[[Outcome], R],
        check: Callable[[ProjectState], None] = lambda _: None,
    ) -> R:
        """The answer to a request, told of what comes of it.

        `check` raises where the project must not be worked on yet. Raises what it does, NotFound when there is no project
        any more, Elsewhere, and Unavailable while what was asked for comes to nothing; it is tried again all the
        same, a conclusion for an hour after it was asked or waited for last.
        """
        asked = await self._ask(key, request, response, check)
        if not isinstance(asked, WhichRefit):
            return asked
        answer: R = await self._waits.until(asked, lambda: self._answer(asked, response, told))
        return answer

    async def forget(self) -> None:
        """Forget what came of those that ended long ago, and of projects that are gone: a periodic job.

        A part at a time: a conclusion may have left a million items undecided.
        """
        while forgotten := await self._store.forgettable_refits(
            self._database, self._remembered, _FORGOTTEN_AT_ONCE
        ):
            for which in forgotten:
                while await self._store.forget_undecided(self._database, which, _FORGOTTEN_AT_ONCE):
                    pass
                await self._store.forget_asked_refit(self._database, which)

    async def _ask(
        self, key: ProjectKey, request: Request, response: type[R], check: Callable[[ProjectState], None]
    ) -> WhichRefit | R:
        """What the request asks for; the answer where a release before, which kept it with the request, has given it."""
        asked: list[WhichRefit] = []
        async with self._turns.transaction(key) as tx:

            async def effect(_: Sequence[int]) -> list[R]:
                asked.append(await self._asked(tx, key, request, check))
                return [response()]

            [answer] = await once_many(tx, [(key.tenant, request)], response, effect, repeatable=True)
        if isinstance(answer, Exception):
            raise answer
        return asked[0] if asked else answer

    async def _asked(
        self, tx: Transaction, key: ProjectKey, request: Request, check: Callable[[ProjectState], None]
    ) -> WhichRefit:
        """What the request has asked for before, what is under way and serves it as well, or else what it begins."""
        project = await self._store.project(tx, key)
        if project is None:
            raise project_not_found(key.project)
        state = await self._states.read(tx, key, project)
        concludes, requests = isinstance(request, ConcludeProjectRequest), _known_again(request)
        if (number := await self._store.asked_by(tx, key, concludes, requests)) is not None:
            await self._store.note_wanted(tx, WhichRefit(key, number), concludes)
            return WhichRefit(key, number)
        check(state)
        number = await self._store.join_asked_refit(
            tx, key, concludes, requests, state.votes, project.revision
        )
        if number is None:
            number = await self._store.begin_asked_refit(tx, key, concludes, requests)
        tx.after_commit(self._refits.wake)
        return WhichRefit(key, number)

    async def _answer(self, which: WhichRefit, response: type[R], told: Callable[[Outcome], R]) -> R:
        concludes = response is ConcludeProjectResponse
        outcome = await self._outcome(which, concludes)
        return await asyncio.to_thread(told, outcome)  # the items may be many

    async def _outcome(self, which: WhichRefit, concludes: bool) -> Outcome:
        while True:
            bell = self._wakes.listen(*which.key.columns)
            asked = await self._store.asked_refit(self._database, which, concludes)
            if asked is None:
                raise project_not_found(which.key.project)
            if asked.ended:
                made_by, refit = WhichRefit(which.key, asked.number), asked.refitting.refit
                return Outcome(asked.refitting, await self._store.undecided(self._database, made_by, refit))
            if which.key.share not in self._shares.kept:
                raise Elsewhere("another replica keeps the project")
            if _comes_to_nothing(asked):
                # It was, up to now: who comes back when it is tried again finds it.
                await self._store.note_wanted(self._database, which, concludes)
                raise Unavailable(
                    "REFIT_FAILED",
                    f"projects/{which.key.project} could not be fitted, or its items not judged: "
                    f"this is tried again in {ceil(asked.put_off)} seconds.",
                    retry_after=asked.put_off,
                )
            await rung(bell, _LOOK)


def _comes_to_nothing(asked: AskedRefit) -> bool:
    """Whether those who wait should be told that it is put off, rather than wait for longer."""
    failed = asked.failures > 0 and asked.tries == 0  # and is not tried again just now
    return asked.put_off > 0.0 and (failed or asked.tries > _DEATHS)


def _known_again(request: Request) -> list[str]:
    """By what the request is known when it comes again, if by anything: an id is its subject's own."""
    return [json.dumps([caller().subject, request.request_id])] if request.request_id else []
