"""Watching labels: first those that stand, then each revision as it comes into view; nothing is ever missed.

Serial ids become visible out of order, so a cursor over them can pass a row that commits late. Here each revision
carries the id of its transaction, and a watcher reads only below the oldest transaction that still runs: what lies
there is all that ever will. A long transaction anywhere in the database delays watchers; it never makes them miss.

Of those who have seen all there is, one reads for all: a hundred open screens cost what one does.
"""

from __future__ import annotations

import asyncio
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn_annotation_store.domain.names import project_id
from cairn_annotation_store.handlers.found import found, hidden_source, parsed
from cairn_annotation_store.store import LabelRow, LabelStore, ProjectStore
from cairn_annotation_store.wire import label_message
from cairn_kit.auth import Caller
from cairn_kit.database import Database
from cairn_kit.errors import InvalidArgument, Violation
from cairn_kit.looks import Looks
from cairn_kit.rpc import page_of
from cairn_kit.wakes import Wakes, rung

_PAGE = 500
_GATHERED = 0.1
"""Seconds from the first commit that a watcher hears of to its look: what comes meanwhile is read with it."""

_AFTER_ALL_OF_BEFORE = ""
"""Sorts before every item key: `(transaction, "", "", 0)` comes before all that the transaction wrote."""


@dataclass(frozen=True, slots=True)
class _Place:
    """How far a watcher has come: through the labels that stood at the beginning, then through the log."""

    project: str
    in_log: bool
    transaction: str
    item: str = _AFTER_ALL_OF_BEFORE
    question: str = ""
    revision: int = 0

    def token(self) -> str:
        """Opaque to callers."""
        values = [self.project, self.in_log, self.transaction, self.item, self.question, self.revision]
        return urlsafe_b64encode(json.dumps(values, separators=(",", ":")).encode()).decode().rstrip("=")

    @classmethod
    def read(cls, token: str, project: str) -> _Place:
        """Raises InvalidArgument RESUME_TOKEN_INVALID."""
        try:
            raw = urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4))
            place = cls(*json.loads(raw))
            if place.project != project or not place.transaction.isascii() or not place.transaction.isdigit():
                raise ValueError
            kinds = (
                isinstance(place.item, str),
                isinstance(place.question, str),
                type(place.revision) is int,
            )
            if not all(kinds) or not isinstance(place.in_log, bool) or int(place.transaction) >= 1 << 64:
                raise ValueError
        except (ValueError, TypeError, AttributeError):
            raise InvalidArgument(
                "RESUME_TOKEN_INVALID",
                "The resume token is not one of this stream.",
                violations=[Violation("resume_token", "send the token of the last message, or none")],
            ) from None
        return place


@dataclass(frozen=True, slots=True)
class _Reading:
    """A read of the log: what comes after a place, for those from whom labels of the source `hidden` are kept."""

    tenant: str
    project: str
    after: tuple[str, str, str, int]
    hidden: int


class _LogReads:
    """Reads of the log, each shared by all who want the same at the same time. What was read is kept by nobody."""

    def __init__(self, read: Callable[[_Reading], Awaitable[Sequence[LabelRow]]]) -> None:
        self._read = read
        self._under_way: dict[_Reading, tuple[float, asyncio.Task[Sequence[LabelRow]]]] = {}

    async def rows(self, wanted: _Reading, since: float) -> Sequence[LabelRow]:
        """Rows, by a read that began at `since`, by the loop's clock, or later."""
        now = asyncio.get_running_loop().time()
        began, reading = self._under_way.get(wanted, (now, None))
        if reading is None or began < since:
            reading = asyncio.ensure_future(self._read(wanted))
            self._under_way[wanted] = now, reading
            reading.add_done_callback(lambda ended: self._ended(wanted, ended))
        return await asyncio.shield(reading)  # one who goes away does not take it from the others

    def _ended(self, wanted: _Reading, ended: asyncio.Task[Sequence[LabelRow]]) -> None:
        if self._under_way.get(wanted, (0.0, None))[1] is ended:
            del self._under_way[wanted]
        if not ended.cancelled():
            ended.exception()  # whoever waits hears of it; nobody may, when all have gone away


class WatchHandlers:
    """Streams labels."""

    def __init__(
        self,
        database: Database,
        projects: ProjectStore,
        labels: LabelStore,
        label_wakes: Wakes,
        poll_seconds: float,
    ) -> None:
        self._database = database
        self._projects = projects
        self._labels = labels
        self._label_wakes = label_wakes
        self._poll_seconds = poll_seconds
        self._there = Looks(self._is_there)
        self._log = _LogReads(self._read_log)

    async def labels(
        self, who: Caller, request: pb.WatchLabelsRequest
    ) -> AsyncIterator[pb.WatchLabelsResponse]:
        """The labels that stand, then each revision, until the caller stops. A token goes on after its message."""
        project = parsed(project_id, request.parent, "parent")
        found(await self._projects.get(self._database, who.tenant, project), "project", request.parent)
        if request.resume_token:
            place = _Place.read(request.resume_token, project)
        else:
            place = _Place(project, in_log=False, transaction=await self._labels.horizon(self._database))
        loop = asyncio.get_running_loop()
        bell, since = self._label_wakes.listen(who.tenant, project), loop.time()
        while True:
            rows = await self._next(who, place, since)
            left = rows
            while left:
                labels = page_of((label_message(row.label, row.created_at) for row in left), _PAGE)
                place = _after(place, left[len(labels) - 1])
                yield _message(labels, place)
                left = left[len(labels) :]
            if len(rows) == _PAGE:
                continue
            if not place.in_log:
                # All that stood was sent; what the log holds from the beginning on may repeat a little of it.
                place = replace(place, in_log=True, item=_AFTER_ALL_OF_BEFORE, question="", revision=0)
                yield _message((), place)
                continue
            await rung(bell, self._poll_seconds)
            # Listened to from before the next look, which may be another watcher's of this very moment.
            bell, since = self._label_wakes.listen(who.tenant, project), loop.time()
            await asyncio.sleep(_GATHERED)
            found(await self._there.get((who.tenant, project), _GATHERED) or None, "project", request.parent)

    async def _next(self, who: Caller, place: _Place, since: float) -> Sequence[LabelRow]:
        # What is hidden is not even passed over: a resume token names the last label read.
        hidden = hidden_source(who)
        if place.in_log:
            after = (place.transaction, place.item, place.question, place.revision)
            return await self._log.rows(_Reading(who.tenant, place.project, after, hidden), since)
        return await self._labels.list_after(
            self._database, who.tenant, place.project, (place.item, place.question), _PAGE, hidden=hidden
        )

    async def _read_log(self, wanted: _Reading) -> Sequence[LabelRow]:
        return await self._labels.log_after(
            self._database, wanted.tenant, wanted.project, wanted.after, _PAGE, hidden=wanted.hidden
        )

    async def _is_there(self, ref: tuple[str, str]) -> bool:
        return await self._projects.get(self._database, *ref) is not None


def _after(place: _Place, row: LabelRow) -> _Place:
    key = row.label.key
    if place.in_log:
        return _Place(place.project, True, row.written_in, key.item, key.question, row.label.revision)
    return replace(place, item=key.item, question=key.question)


def _message(labels: Sequence[pb.Label], place: _Place) -> pb.WatchLabelsResponse:
    return pb.WatchLabelsResponse(labels=labels, resume_token=place.token())
