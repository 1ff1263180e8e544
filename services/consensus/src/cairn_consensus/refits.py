"""Refits beside the votes that go on coming: what is learnt of labelers is fitted outside of any transaction, and the items
are judged by it, or concluded, a few hundred at a time.

A fit of millions of votes takes a minute, and whoever waits behind it is every project that this replica keeps. What was
asked for, by a call or by the growth of votes, and how far it has come is a row: after a crash, or a handover to another
replica, it goes on. Projects take their steps in turn, so that none waits for another's last item, nor for its fit.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from enum import Enum, auto
from functools import partial
from types import TracebackType
from typing import NamedTuple, Self

from cairn_consensus.announcing import announce_refit
from cairn_consensus.config import ConsensusSettings
from cairn_consensus.deciding import Deciding
from cairn_consensus.domain.ids import ItemKey
from cairn_consensus.domain.items import Announcement, Reached
from cairn_consensus.domain.project_state import Fit, ProjectState
from cairn_consensus.fitting import Fitting, Making
from cairn_consensus.shares import Shares
from cairn_consensus.states import States
from cairn_consensus.store import ConsensusStore, Fitted, ProjectKey, Refitting, WhichRefit, is_lost
from cairn_consensus.turns import Turns
from cairn_kit.database import Database, Transaction
from cairn_kit.database.pool import OUTAGES
from cairn_kit.shares import Elsewhere
from cairn_kit.wakes import Wakes

REST = 4.0
"""A project rests so many times as long as its last refit took before the next that no call asked for: where votes come so
fast that they grow by enough while all items are judged again, that would be all that is done."""

_LOSSES = 3
"""A step that has lost the server so often in a row may be what takes it down: the next time it is tried is put off."""

MOMENT = 1.0
"""Seconds that the other projects wait for a fit: most are made by then. A longer one is made beside their steps."""


class _Step(Enum):
    """What is left to do after a step."""

    ANOTHER = auto()
    FIT = auto()
    """Nothing until the fit is made, which wakes."""
    NOTHING = auto()


class _InMaking(NamedTuple):
    """A fit, and since when it is made, by the monotonic clock."""

    fit: asyncio.Task[Fit]
    since: float


class Refits:
    """Fits projects again whose votes have grown by enough, or that calls ask for."""

    def __init__(
        self,
        database: Database,
        store: ConsensusStore,
        turns: Turns,
        states: States,
        shares: Shares,
        deciding: Deciding,
        fitting: Fitting,
        wakes: Wakes,
        settings: ConsensusSettings,
    ) -> None:
        self._database = database
        self._store = store
        self._turns = turns
        self._states = states
        self._shares = shares
        self._deciding = deciding
        self._fitting = fitting
        self._wakes = wakes
        self._settings = settings
        self._resting: dict[ProjectKey, float] = {}
        """Until when, by the monotonic clock."""
        self._spent: dict[WhichRefit, float] = {}
        """Seconds that the refits have taken so far in which this process is."""
        self._lost: Counter[WhichRefit] = Counter()
        """How often the server was lost in the step that each is at."""
        self._making: dict[WhichRefit, _InMaking] = {}
        self.wake: Callable[[], None] = lambda: None
        """Has `work` look at once."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        fits = [making.fit for making in self._making.values()]
        self._give_up_fits_but_of(())
        await asyncio.gather(*fits, return_exceptions=True)
        with suppress(*OUTAGES):
            await self._let_go(self._spent)

    async def ask_if_due(self, tx: Transaction, key: ProjectKey, state: ProjectState) -> None:
        """Have a project fitted again, if its votes have grown by enough."""
        if self._is_due(state):
            await self._store.ask_for_refit(tx, key)
            tx.after_commit(self.wake)

    async def work(self) -> None:
        """Take a step with a refit of each project kept here, a periodic job: where another is left, the next turn comes at
        once.

        A project whose last one was a moment ago rests first, unless a call asks. Raises what failed when the others had
        their step: nothing that is amiss with one project keeps another waiting.
        """
        if not self._shares.settled.is_set():
            return  # what is begun here may be this replica's again in a moment
        asked = await self._store.refits_under_way(self._database)
        now = time.monotonic()
        self._resting = {key: until for key, until in self._resting.items() if until > now}
        self._spent = {which: spent for which, spent in self._spent.items() if which in asked}
        await self._let_go([which for which in self._spent if which.key.share not in self._shares.kept])
        chosen = self._chosen(asked)
        self._give_up_fits_but_of(chosen)
        failures: list[Exception] = []
        left = False
        for which in chosen:
            try:
                left |= await self._go_on(which)
            except Elsewhere:
                if not self._shares.settled.is_set():
                    break
                await self._let_go([which])
            except Exception as error:
                if is_lost(error):
                    self._note_lost(which)
                    raise  # the server is lost to all of them, and they go on when it is back
                self._rest(which)
                failures.append(error)
                await self._store.note_failure(self._database, which)
                self._wakes.ring(*which.key.columns)
                left = True  # something else of the project may be ready
        if left:
            self.wake()
        if failures:
            raise ExceptionGroup("refits failed", failures)

    def _chosen(self, asked: Mapping[WhichRefit, bool]) -> list[WhichRefit]:
        """Of each project that is kept here the first that may go on.

        One that calls wait for comes before the one that is due by votes, and what is begun here before what is not: the
        other's fit would undo it.
        """
        chosen: dict[ProjectKey, WhichRefit] = {}
        for which in sorted(asked, key=lambda which: (which.asked is None, which not in self._spent)):
            # One that is not due has come to nothing before, perhaps with the process.
            ready = asked[which] or which in self._spent
            rests = which.asked is None and which.key in self._resting
            if which.key.share in self._shares.kept and ready and not rests:
                chosen.setdefault(which.key, which)
        return list(chosen.values())

    async def _go_on(self, which: WhichRefit) -> bool:
        """Take a step; whether there is another to take."""
        making = self._making.get(which)
        began = time.monotonic() if making is None else making.since
        left = await self._step(which)
        spent = 0.0 if left is _Step.FIT else time.monotonic() - began
        self._spent[which] = self._spent.get(which, 0.0) + spent
        if left is not _Step.FIT:
            self._lost.pop(which, None)
        if left is _Step.NOTHING:
            self._rest(which)
        return left is _Step.ANOTHER

    def _note_lost(self, which: WhichRefit) -> None:
        self._lost[which] += 1
        if self._lost[which] >= _LOSSES:
            self._rest(which)

    def _rest(self, which: WhichRefit) -> None:
        self._give_up_fit(which)
        self._lost.pop(which, None)
        self._resting[which.key] = time.monotonic() + REST * self._spent.pop(which, 0.0)

    async def _let_go(self, of: Iterable[WhichRefit]) -> None:
        """Whoever keeps their projects now goes on."""
        for which in list(of):
            self._rest(which)
            await self._store.note_left(self._database, which)

    def _is_due(self, state: ProjectState) -> bool:
        return state.is_due(self._settings.refit_growth, self._settings.refit_min_votes)

    async def _step(self, which: WhichRefit) -> _Step:
        """Fit a project, or judge its next items by the fit.

        That it is tried is written down before, for good: either may take the process down.
        """
        begins = which not in self._spent
        if begins:
            await self._store.note_try(self._database, which)
            self._spent[which] = 0.0
        making = self._making.get(which)
        if making is None:
            async with self._turns.transaction(which.key) as tx:
                state = await self._state(tx, which.key)
                refitting = await self._store.refit_under_way(tx, which)
                if state is None or refitting is None:
                    return _Step.NOTHING
                if begins and refitting.forsaken:
                    await self._store.give_up_refit(tx, which)
                    return _Step.NOTHING
                if _is_fitted(which, refitting, state):
                    return await self._judge(tx, which, state, refitting)
                if which.asked is None and not self._is_due(state):
                    await self._store.end_refit(tx, which)
                    return _Step.NOTHING
                await self._store.note_fit_begun(tx, which, state.votes, state.project.revision)
                make = await self._fitting.begin(tx, which.key, state)
            making = self._begin_fit(which, make)
        return await self._take_up(which, making)

    def _begin_fit(self, which: WhichRefit, make: Making) -> _InMaking:
        fit = asyncio.create_task(make())
        fit.add_done_callback(lambda _: self.wake())
        making = self._making[which] = _InMaking(fit, time.monotonic())
        return making

    async def _take_up(self, which: WhichRefit, making: _InMaking) -> _Step:
        """Take a fit into use, once it is made and if nothing has overtaken it."""
        await asyncio.wait([making.fit], timeout=max(0.0, making.since + MOMENT - time.monotonic()))
        if not making.fit.done():
            return _Step.FIT
        if making.fit.exception() is not None:
            del self._making[which]  # the next is another
        fit = making.fit.result()
        async with self._turns.transaction(which.key) as tx:
            state = await self._state(tx, which.key)
            refitting = await self._store.refit_under_way(tx, which)
            if state is None or refitting is None:
                return _Step.NOTHING
            if state.takes(fit):
                await self._adopt(tx, which, state, fit, refitting)
            else:  # it is begun anew
                await self._store.note_step(tx, which, replace(refitting, judged_until=None, refit=0))
        del self._making[which]
        return _Step.ANOTHER

    async def _adopt(
        self, tx: Transaction, which: WhichRefit, state: ProjectState, fit: Fit, refitting: Refitting
    ) -> None:
        await self._deciding.adopt(tx, which.key, state, fit)
        fitted = replace(refitting, judged_until="", changed_items=0, refit=state.refits, votes=fit.votes)
        await self._store.note_step(tx, which, fitted)
        if which.asked is not None:
            await self._store.owe_judging(tx, which.key)

    async def _judge(
        self, tx: Transaction, which: WhichRefit, state: ProjectState, refitting: Refitting
    ) -> _Step:
        """Judge the next items that were not yet judged by the newest fit."""
        items, more = await self._deciding.next_items(tx, which.key, refitting.judged_until or "")
        await self._states.bring(tx, which.key, state, items)
        judge = ProjectState.conclude_each if refitting.concludes else ProjectState.judge_each_again
        said = await self._deciding.decide(tx, which.key, state, items, judge)
        labels = await self._note_concluded(tx, which, state, items, said) if refitting.concludes else 0
        fitted = await self._store.note_changed_items(tx, which.key, len(said))
        if fitted is None:
            return _Step.NOTHING
        judged = replace(
            refitting,
            judged_until=items[-1] if items else refitting.judged_until,
            changed_items=fitted.changed_items,
            announced_labels=refitting.announced_labels + labels,
        )
        await self._store.note_step(tx, which, judged)
        if not more:
            await self._end(tx, which, state, fitted)
        return _Step.ANOTHER if more else _Step.NOTHING

    async def _note_concluded(
        self,
        tx: Transaction,
        which: WhichRefit,
        state: ProjectState,
        items: Sequence[ItemKey],
        said: Sequence[Announcement],
    ) -> int:
        """Keep what a conclusion came to beside what it said; how many labels it announced that it had not before."""
        spoken_of = {one.item for one in said}  # and kept with that
        silent = [item for item in items if item not in spoken_of]
        await self._deciding.save_items(tx, which.key, state, silent)
        await self._store.add_undecided(tx, which, state.refits, state.undecided(items))
        reached = [one.item for one in said if isinstance(one, Reached)]
        return await self._store.note_announced(tx, which, reached)

    async def _end(self, tx: Transaction, which: WhichRefit, state: ProjectState, fitted: Fitted) -> None:
        await self._store.end_refit(tx, which)
        if which.asked is None or await self._store.pay_judging(tx, which.key):
            announce_refit(tx, which.key, fitted)
        await self.ask_if_due(tx, which.key, state)  # for the votes that came meanwhile
        tx.after_commit(partial(self._wakes.ring, *which.key.columns))

    async def _state(self, tx: Transaction, key: ProjectKey) -> ProjectState | None:
        """The project's state; None where the project is gone."""
        project = await self._store.project(tx, key)
        return None if project is None else await self._states.hold(tx, key, project)

    def _give_up_fits_but_of(self, chosen: Collection[WhichRefit]) -> None:
        """End the making of fits for which nobody waits: a call asks for another, or the project is not kept here."""
        for which in self._making.keys() - chosen:
            self._give_up_fit(which)

    def _give_up_fit(self, which: WhichRefit) -> None:
        making = self._making.pop(which, None)
        if making is not None and not making.fit.cancel() and not making.fit.cancelled():
            making.fit.exception()  # nobody needs to hear of it


def _is_fitted(which: WhichRefit, refitting: Refitting, state: ProjectState) -> bool:
    """Whether items are to be judged by what is in use: what calls ask for rests on one fit, from its first item to its
    last."""
    return refitting.judged_until is not None and (which.asked is None or state.stands_on(refitting.refit))
