"""Watching labels: first those that stand, then each revision as it comes into view; nothing is ever missed.

Serial ids become visible out of order, so a cursor over them can pass a row that commits late. Here each revision
carries the id of its transaction, and a watcher reads only below the oldest transaction that still runs: what lies
there is all that ever will. A long transaction anywhere in the database delays watchers; it never makes them miss.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn_annotation_store.domain.names import project_id
from cairn_annotation_store.handlers.found import found, hidden_source, parsed
from cairn_annotation_store.handlers.pages import page_of
from cairn_annotation_store.store import LabelRow, LabelStore, ProjectStore
from cairn_annotation_store.wire import label_message
from cairn_kit.auth import Caller
from cairn_kit.database import Database
from cairn_kit.errors import InvalidArgument, Violation
from cairn_kit.wakes import Wakes, rung

_PAGE = 500
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


class WatchHandlers:
    """Streams labels."""

    def __init__(
        self,
        database: Database,
        projects: ProjectStore,
        labels: LabelStore,
        wakes: Wakes,
        poll_seconds: float,
    ) -> None:
        self._database = database
        self._projects = projects
        self._labels = labels
        self._wakes = wakes
        self._poll_seconds = poll_seconds

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
        while True:
            bell = self._wakes.listen(who.tenant, project)
            rows = await self._next(who, place)
            if rows:
                while rows:
                    labels = page_of((label_message(row.label, row.created_at) for row in rows), _PAGE)
                    place = _after(place, rows[len(labels) - 1])
                    yield _message(labels, place)
                    del rows[: len(labels)]
            elif not place.in_log:
                # All that stood was sent; what the log holds from the beginning on may repeat a little of it.
                place = replace(place, in_log=True, item=_AFTER_ALL_OF_BEFORE, question="", revision=0)
                yield _message((), place)
            else:
                await rung(bell, self._poll_seconds)
                found(
                    await self._projects.get(self._database, who.tenant, project), "project", request.parent
                )

    async def _next(self, who: Caller, place: _Place) -> list[LabelRow]:
        # What is hidden is not even passed over: a resume token names the last label read.
        hidden = hidden_source(who)
        if place.in_log:
            log = (place.transaction, place.item, place.question, place.revision)
            return await self._labels.log_after(
                self._database, who.tenant, place.project, log, _PAGE, hidden=hidden
            )
        after = (place.item, place.question)
        return await self._labels.list_after(
            self._database, who.tenant, place.project, after, _PAGE, hidden=hidden
        )


def _after(place: _Place, row: LabelRow) -> _Place:
    key = row.label.key
    if place.in_log:
        return _Place(place.project, True, row.written_in, key.item, key.question, row.label.revision)
    return replace(place, item=key.item, question=key.question)


def _message(labels: Sequence[pb.Label], place: _Place) -> pb.WatchLabelsResponse:
    return pb.WatchLabelsResponse(labels=labels, resume_token=place.token())
