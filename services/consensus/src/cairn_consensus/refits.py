"""Refits beside the votes that go on coming: what is learnt of labelers is fitted outside of any transaction, and the items
are judged by it a few hundred at a time.

A fit of millions of votes takes a minute, and whoever waits behind it is every project that this replica keeps. What was
asked for and how far it has come is a row of the project: after a crash, or a handover to another replica, it goes on.
Projects take their steps in turn, so that none waits for another's last item.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from cairn.annotation.v1.annotation_store_pb2 import Project
from cairn_consensus.config import ConsensusSettings
from cairn_consensus.deciding import Deciding
from cairn_consensus.domain.project_state import ProjectState
from cairn_consensus.fitting import Fitting
from cairn_consensus.shares import Shares
from cairn_consensus.states import States
from cairn_consensus.store import ConsensusStore, ProjectKey, Refitting
from cairn_consensus.turns import Busy, Turns
from cairn_kit.database import Database, Transaction
from cairn_kit.database.pool import OUTAGES
from cairn_kit.shares import Elsewhere

Take = Callable[[Transaction, ProjectKey, Project], Awaitable[ProjectState]]
"""One of the ways to have a state: to read it, or to change it."""

REST = 4.0
"""A project rests so many times as long as its last refit took before the next: where votes come so fast that they grow by
enough while all items are judged again, that would be all that is done."""

_NOT_FITTED = Refitting(judged_until=None, changed_items=0)
_JUDGED_NONE = Refitting(judged_until="", changed_items=0)


class Refits:
    """Fits projects again whose votes have grown by enough."""

    def __init__(
        self,
        database: Database,
        store: ConsensusStore,
        turns: Turns,
        states: States,
        shares: Shares,
        deciding: Deciding,
        fitting: Fitting,
        settings: ConsensusSettings,
    ) -> None:
        self._database = database
        self._store = store
        self._turns = turns
        self._states = states
        self._shares = shares
        self._deciding = deciding
        self._fitting = fitting
        self._settings = settings
        self._resting: dict[ProjectKey, float] = {}
        """Until when, by the monotonic clock."""
        self._spent: dict[ProjectKey, float] = {}
        """Seconds that the refits have taken so far in which this process is."""
        self.wake: Callable[[], None] = lambda: None
        """Has `work` look at once."""

    async def ask_if_due(self, tx: Transaction, key: ProjectKey, state: ProjectState) -> None:
        """Have a project fitted again, if its votes have grown by enough."""
        if self._is_due(state):
            await self._store.ask_for_refit(tx, key)
            tx.after_commit(self.wake)

    async def work(self) -> None:
        """Take a step with each refit that was asked for in the projects kept here, a periodic job: where one is left, the
        next turn comes at once.

        A project whose last one was a moment ago rests first. Raises what failed when the others had their step: one
        project's defect keeps none waiting.
        """
        failures: list[Exception] = []
        now, left = time.monotonic(), False
        self._resting = {key: until for key, until in self._resting.items() if until > now}
        asked = {
            key: due
            for key, due in (await self._store.refits_under_way(self._database)).items()
            if key.share in self._shares.kept and key not in self._resting
        }
        self._spent = {key: spent for key, spent in self._spent.items() if key in asked}
        for key, due in asked.items():
            if not due and key not in self._spent:
                continue  # it has come to nothing before, perhaps with the process
            began, more = time.monotonic(), False
            try:
                more = await self._step(key)
            except Busy:
                self._spent.setdefault(key, 0.0)
                continue  # it is being concluded, and what is left then goes on
            except Elsewhere:
                pass  # whoever keeps it now goes on
            except OUTAGES:
                raise
            except Exception as error:
                failures.append(error)
            spent = self._spent.pop(key, 0.0) + time.monotonic() - began
            if more:
                self._spent[key] = spent
                left = True
            else:
                self._resting[key] = time.monotonic() + REST * spent
        if left:
            self.wake()
        if failures:
            raise ExceptionGroup("refits failed", failures)

    def _is_due(self, state: ProjectState) -> bool:
        return state.is_due(self._settings.refit_growth, self._settings.refit_min_votes)

    async def _step(self, key: ProjectKey) -> bool:
        """Fit a project, or judge its next items by the fit; whether it has another step to take.

        That it is tried is written down before, for good: either may take the process down.
        """
        if key not in self._spent:
            await self._store.note_try(self._database, key)
        return await self._fit(key) or await self._judge_again(key)

    async def _fit(self, key: ProjectKey) -> bool:
        """Fit a project and take that into use, unless this was done; whether it was fitted."""
        async with self._turn(key) as tx:
            state = await self._state(tx, key, self._states.read)
            under_way = await self._store.refit_under_way(tx, key)
            if state is None or under_way is None or under_way.judged_until is not None:
                return False
            if not self._is_due(state):
                await self._store.end_refit(tx, key)
                return False
            making = await self._fitting.begin(tx, key, state)
        fit = await making()
        async with self._turn(key) as tx:
            now = await self._state(tx, key, self._states.hold)
            if now is not None and now.takes(fit):
                await self._deciding.adopt(tx, key, now, fit)
                await self._store.note_step(tx, key, _JUDGED_NONE)
            else:
                await self._store.note_step(tx, key, _NOT_FITTED)  # it is begun anew
        return True

    async def _judge_again(self, key: ProjectKey) -> bool:
        """Judge the next items that were not yet judged by the newest fit; whether there are more."""
        async with self._turn(key) as tx:
            state = await self._state(tx, key, self._states.hold)
            under_way = await self._store.refit_under_way(tx, key)
            if state is None or under_way is None or under_way.judged_until is None:
                return False
            items, more = await self._deciding.next_items(tx, key, under_way.judged_until)
            await self._states.bring(tx, key, state, items)
            said = await self._deciding.decide(tx, key, state, items, ProjectState.judge_each_again)
            changed = under_way.changed_items + len(said)
            if more:
                await self._store.note_step(tx, key, Refitting(items[-1], changed))
            else:
                await self._end(tx, key, state, changed)
        return more

    async def _end(self, tx: Transaction, key: ProjectKey, state: ProjectState, changed: int) -> None:
        await self._store.end_refit(tx, key)
        await self._deciding.tell(tx, key, changed)
        await self.ask_if_due(tx, key, state)  # for the votes that came meanwhile

    def _turn(self, key: ProjectKey) -> AbstractAsyncContextManager[Transaction]:
        return self._turns.transaction(key, soon=True)

    async def _state(self, tx: Transaction, key: ProjectKey, take: Take) -> ProjectState | None:
        """The project's state; None where the project is gone."""
        project = await self._store.project(tx, key)
        return None if project is None else await take(tx, key, project)
