"""LeaseTasks: the most urgent tasks to whoever asks, calls that come together in one transaction."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from cairn.dispatch.v1 import task_dispatch_pb2 as pb
from cairn_kit.database import Database, Transaction
from cairn_kit.errors import CairnError, project_not_found
from cairn_kit.rpc import Coalescer, Submitted, rest
from cairn_task_dispatch.domain.gold import GoldDraw, draw_gold
from cairn_task_dispatch.domain.handing_out import FEW, Want, hand_out, pause
from cairn_task_dispatch.domain.leases import Claim, Grant, Lease, suspended
from cairn_task_dispatch.domain.names import parse_project
from cairn_task_dispatch.domain.states import TaskKind
from cairn_task_dispatch.domain.wishes import ProjectPolicy
from cairn_task_dispatch.handlers.announcing import announce_granted
from cairn_task_dispatch.handlers.answers_heard import AnswersHeard
from cairn_task_dispatch.handlers.lease_terms import LeaseTerms, must_be_open, wished_duration
from cairn_task_dispatch.handlers.projects import Projects
from cairn_task_dispatch.handlers.together import answer_together
from cairn_task_dispatch.store import (
    Asker,
    DispatchStore,
    Granting,
    LabelerRow,
    ProjectRef,
    ScanStart,
)

_AT_ONCE = 2_000
"""Leases of one transaction, some tenths of a millisecond each."""

_SPARE = 8
"""Slots looked at beyond those that were asked for: some have been seen by whoever asks."""


class _Scan(NamedTuple):
    """A labeler's last long search."""

    reached: ScanStart
    until: float
    """When it is forgotten."""
    in_vain: bool
    """Whether it found nothing from the front to the end."""


class ScanMemory:
    """How far a labeler's last long search for work went.

    Whoever has answered much of what is still open has all of it before them, each time anew. A search that was long
    is therefore not repeated from the beginning for some time: a few seconds, or twenty times as long as it took, so
    that whoever has answered a million items does not have the database search all the time. Meanwhile more urgent new
    work waits, for this labeler alone, and all but what comes at the end of the queue when there was nothing to find.
    Only a hint: a search that finds too little begins anew at the front, unless one from there did not either.
    """

    _LONG = 0.02  # seconds; a lease that steps over nothing takes a tenth of it
    _LONG_IN_VAIN = 0.1  # seconds; it makes even who has nothing else to do wait for what comes back
    _REMEMBERED = 5.0  # seconds for which urgent new work may wait, at least
    _RESTS = 20.0  # times the search itself
    _LONGEST = (
        120.0  # seconds; a search that takes more than 5 % of it is rather repeated than new work forgotten
    )
    _MOST = 10_000  # labelers

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._scans: OrderedDict[Asker, _Scan] = OrderedDict()

    def start(self, key: Asker) -> ScanStart:
        """Where to begin."""
        scan = self._scans.get(key)
        return scan.reached if scan and self._clock() < scan.until else ScanStart()

    def in_vain(self, key: Asker) -> bool:
        """Whether there was nothing to find before where to begin, a moment ago."""
        scan = self._scans.get(key)
        return scan is not None and scan.in_vain and self._clock() < scan.until

    def took(
        self, key: Asker, seconds: float, start: ScanStart, reached: ScanStart, *, in_vain: bool = False
    ) -> None:
        """Remember how far a search went, if it was long and began at the front; or move on from there."""
        last = self._scans.pop(key, _Scan(start, 0.0, in_vain))
        now = self._clock()
        if start == ScanStart():
            long, least = (self._LONG_IN_VAIN, 0.0) if in_vain else (self._LONG, self._REMEMBERED)
            rest = min(max(least, self._RESTS * seconds), self._LONGEST)
            last = _Scan(reached, now + rest if seconds >= long else 0.0, in_vain)
        if last.until > now:
            self._scans[key] = last._replace(reached=reached)
            if len(self._scans) > self._MOST:
                self._scans.popitem(last=False)


@dataclass(frozen=True, slots=True)
class _Ask:
    """A call: who asks, and for what."""

    asker: Asker
    request: pb.LeaseTasksRequest

    @property
    def tenant(self) -> str:
        return self.asker.tenant

    @property
    def project(self) -> ProjectRef:
        return ProjectRef(self.asker.tenant, self.asker.project)

    @property
    def count(self) -> int:
        return self.request.max_tasks or 1


@dataclass(slots=True, eq=False)
class _Search:
    """An ask that may be served, on its way: what it has been given so far."""

    ask: _Ask
    me: LabelerRow
    skills: list[str]
    gold_share: float
    draw: GoldDraw
    granting: Granting
    leases: list[Lease] = field(default_factory=list)
    rests: bool = False
    """Whether all there is was searched in vain a moment ago."""

    @property
    def left(self) -> int:
        return self.ask.count - len(self.leases)


class HandingOut:
    """Leases the most urgent tasks that a labeler may do and has not done."""

    def __init__(
        self,
        database: Database,
        store: DispatchStore,
        projects: Projects,
        terms: LeaseTerms,
        answers: AnswersHeard,
    ) -> None:
        self._database = database
        self._store = store
        self._projects = projects
        self._terms = terms
        self._answers = answers
        self._scans = ScanMemory()
        self._few: Coalescer[_Ask, pb.LeaseTasksResponse] = Coalescer(self._flush, parallel=3)
        # By themselves: a person should not wait behind a machine's thousands.
        self._many: Coalescer[_Ask, pb.LeaseTasksResponse] = Coalescer(
            self._flush, max_batch=_AT_ONCE, parallel=3, weigh=lambda ask: ask.count
        )

    async def lease_tasks(
        self, tenant: str, labeler: str, request: pb.LeaseTasksRequest
    ) -> pb.LeaseTasksResponse:
        """Answer one call, if it is for many tasks a little later when answers are heard of late."""
        if seconds := self.pause(request.max_tasks):
            await rest(seconds)
        return await self.lease_now(tenant, labeler, request)

    def pause(self, tasks: int) -> float:
        """Seconds that whoever asks for so many tasks is to wait now."""
        return pause(self._answers.late, tasks)

    async def lease_now(
        self, tenant: str, labeler: str, request: pb.LeaseTasksRequest
    ) -> pb.LeaseTasksResponse:
        """Lease at once, together with all who ask at this moment."""
        project = parse_project(request.parent)
        ask = _Ask(Asker(tenant, project, labeler), request)
        together = self._few if ask.count <= FEW else self._many
        return await self._projects.knowing(tenant, project, lambda: together.submit(ask))

    async def _flush(self, batch: Sequence[Submitted[_Ask]]) -> Sequence[pb.LeaseTasksResponse | Exception]:
        return await answer_together(self._database, batch, pb.LeaseTasksResponse, self._lease)

    async def _lease(self, tx: Transaction, asks: Sequence[_Ask]) -> list[pb.LeaseTasksResponse | Exception]:
        await self._store.lock_labelers(tx, {ask.asker for ask in asks})
        terms = await self._store.lease_terms(tx, {ask.asker for ask in asks})
        outcomes: list[_Search | CairnError] = []
        for ask in asks:
            try:
                outcomes.append(self._admitted(ask, *terms[ask.asker]))
            except CairnError as error:
                outcomes.append(error)
        searches = [outcome for outcome in outcomes if isinstance(outcome, _Search)]
        for ref in sorted({search.ask.project for search in searches}):
            await self._search(tx, ref, [search for search in searches if search.ask.project == ref])
        granted = [lease for search in searches for lease in search.leases]
        announce_granted(tx, granted)
        shown = iter(self._terms.with_tokens(granted))
        return [
            outcome
            if isinstance(outcome, CairnError)
            else pb.LeaseTasksResponse(leases=islice(shown, len(outcome.leases)))
            for outcome in outcomes
        ]

    def _admitted(self, ask: _Ask, policy: ProjectPolicy | None, me: LabelerRow) -> _Search:
        """Raises NotFound, or FailedPrecondition for a project or a labeler that is out of work."""
        _, project, labeler = ask.asker
        if policy is None:
            raise project_not_found(project)
        must_be_open(project, policy)
        if me.suspended:
            raise suspended(labeler)
        skills = _servable(policy.required_skill, me.skills)
        draw = draw_gold(policy.gold_share, ask.count, _entropy())
        return _Search(
            ask,
            me,
            skills,
            policy.gold_share,
            draw,
            self._terms.granting(policy, wished_duration(ask.request)),
        )

    # --- searching

    async def _search(self, tx: Transaction, ref: ProjectRef, searches: Sequence[_Search]) -> None:
        labels = [search for search in searches if not search.ask.request.reviews and search.skills]
        # Gold is for one labeler alone, and who has a long way to the first task they may do goes it alone.
        together = [search for search in labels if not any(search.draw.nth) and self._begins_at_front(search)]
        rest = [search for search in labels if search not in together]
        if together and not await self._hand_out(tx, ref, together):
            rest += [search for search in together if search.left]
        for search in rest:
            await self._search_alone(tx, ref, search)
        for search in labels:
            if search.left and not search.rests:
                search.leases += await self._store.lease_given_back(
                    tx, *ref, search.me.labeler, search.skills, search.left, search.granting
                )
        for search in searches:
            if search.ask.request.reviews:
                search.leases += await self._store.lease_reviews(
                    tx, *ref, search.me.labeler, search.left, search.granting
                )

    def _begins_at_front(self, search: _Search) -> bool:
        return self._scans.start(search.ask.asker) == ScanStart()

    async def _hand_out(self, tx: Transaction, ref: ProjectRef, searches: Sequence[_Search]) -> bool:
        """Share the front of the queue among those who ask; returns whether there was nothing behind it."""
        wants = [Want(search.me.labeler, frozenset(search.skills), search.left) for search in searches]
        wanted = sum(want.tasks for want in wants) + _SPARE
        skills = sorted(set().union(*(want.skills for want in wants)))
        front, seen = await self._store.lock_front(tx, *ref, skills, wanted, {w.labeler for w in wants})
        handed = hand_out(front, wants, seen)
        grants = [
            Grant(
                Claim(slot.item, search.me.labeler, review=False), slot.task, slot.number, TaskKind.LABEL, ""
            )
            for search, slots in zip(searches, handed, strict=True)
            for slot in slots
        ]
        terms = [search.granting for search, slots in zip(searches, handed, strict=True) for _ in slots]
        leases = iter(await self._store.grant(tx, *ref, grants, terms) if grants else ())
        for search, slots in zip(searches, handed, strict=True):
            search.leases += islice(leases, len(slots))
        return len(front) < wanted

    async def _search_alone(self, tx: Transaction, ref: ProjectRef, search: _Search) -> None:
        """Look for what is still left to find, on from where this labeler's last long search ended."""
        start = self._scans.start(search.ask.asker)
        search.rests = self._scans.in_vain(search.ask.asker)
        began = time.monotonic()
        draw = GoldDraw(search.draw.nth[len(search.leases) :], search.draw.start)
        reached = await self._look(tx, ref, search, draw, start)
        if search.left and start != ScanStart() and not search.rests:
            start = ScanStart()
            draw = draw_gold(search.gold_share, search.left, _entropy())
            reached = await self._look(tx, ref, search, draw, start)
        seconds, in_vain = time.monotonic() - began, not search.leases
        if in_vain and start == ScanStart():
            reached = await self._store.queue_end(tx, *ref, search.skills)
        self._scans.took(search.ask.asker, seconds, start, reached, in_vain=in_vain)

    async def _look(
        self, tx: Transaction, ref: ProjectRef, search: _Search, draw: GoldDraw, start: ScanStart
    ) -> ScanStart:
        leases, reached = await self._store.lease_labels(
            tx, *ref, search.me.labeler, search.skills, draw, search.granting, start
        )
        search.leases += leases
        return reached


def _entropy() -> bytes:
    """What nobody else knows. A call that is repeated draws no second time: `once` remembers its answer."""
    return secrets.token_bytes(32)


def _servable(required: str, skills: Sequence[str]) -> list[str]:
    """The skills of slots that a labeler can serve; '' stands for the project's own."""
    own = [""] if not required or required in skills else []
    return own + list(skills)
