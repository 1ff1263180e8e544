"""Items judged, and what follows: what was decided is kept and announced, in the transaction of the caller."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from cairn_consensus.announcing import announce_all
from cairn_consensus.computing import Computing
from cairn_consensus.domain.ids import ItemKey, QuestionId
from cairn_consensus.domain.items import Announcement, Sized, in_one_go
from cairn_consensus.domain.project_state import Fit, ProjectState
from cairn_consensus.states import States
from cairn_consensus.store import ConsensusStore, DecisionRow, Fitted, ItemRow, ProjectKey
from cairn_kit.database import Transaction
from cairn_kit.events import Received

T = TypeVar("T")
Judge = Callable[[ProjectState, Sequence[ItemKey]], list[Announcement]]
"""One of the ways in which a project's state judges items at hand."""

AT_ONCE = 300
"""Items judged, announced and written in one go: between two of them others have their turn."""
_BYTES_AT_ONCE = 4 << 20
"""Bytes of their answers: of masks that is up to 50 MiB in memory, while they are read."""


class Part(NamedTuple):
    """The next items in order, not more than are worked on in one go, and whether others come after them."""

    items: list[ItemKey]
    more: bool


def part_of(found: Sequence[Sized], most: int | None = None) -> Part:
    """What is worked on in one go, of the next so many items (`AT_ONCE`) and one more."""
    items = in_one_go(found[: most or AT_ONCE], _BYTES_AT_ONCE)
    return Part(items, more=len(items) < len(found))


class Deciding:
    """Judges items of a state that the transaction holds, and takes fits into use."""

    def __init__(self, store: ConsensusStore, computing: Computing, states: States) -> None:
        self._store = store
        self._computing = computing
        self._states = states

    async def decide(
        self,
        tx: Transaction,
        key: ProjectKey,
        state: ProjectState,
        items: Sequence[ItemKey],
        judge: Judge,
        causes: Mapping[ItemKey, Received[Any]] | None = None,
    ) -> list[Announcement]:
        """Judge items at hand, keep what was decided, and announce it."""

        def judged() -> list[Announcement]:
            return [said for part in _parts(items) for said in judge(state, part)]

        said = await self._computing.result(tx, judged)
        for part in _parts(said):
            announce_all(tx, key, state, part, causes or {})
            await self.save_items(tx, key, state, [one.item for one in part])
            decided = [
                DecisionRow(one.item, QuestionId(d.answer.question), d.answer, d.confidence)
                for one in part
                for d in getattr(one, "decisions", ())
            ]
            if decided:
                await self._store.save_decisions(tx, key, decided)
        return said

    async def save_items(
        self, tx: Transaction, key: ProjectKey, state: ProjectState, items: Sequence[ItemKey]
    ) -> None:
        """Keep where these items stand."""
        for part in _parts(items):
            rows = [
                ItemRow(name, item.state, item.revision, item.answers_wanted, item.auto, item.concluded)
                for name in part
                for item in (state.items[name],)
            ]
            await self._store.save_items(tx, key, rows)

    async def in_parts(
        self,
        tx: Transaction,
        key: ProjectKey,
        state: ProjectState,
        items: Sequence[Sized],
        most: int | None = None,
    ) -> AsyncIterator[tuple[ProjectState, list[ItemKey]]]:
        """Have items at hand, as many at a time as are worked on in one go (`part_of`), and the state in which they are."""
        while items:
            part = part_of(items, most).items
            items = items[len(part) :]
            await self._states.bring(tx, key, state, part)
            yield state, part
            if items:
                state = await self._states.make_room(tx, key)

    async def next_items(self, tx: Transaction, key: ProjectKey, after: str) -> Part:
        """The answered items from the one after `after` on that are judged in one go."""
        return part_of(await self._store.answered_items(tx, key, after, AT_ONCE + 1))

    async def adopt(self, tx: Transaction, key: ProjectKey, state: ProjectState, fit: Fit) -> None:
        """Take a fit into use, and keep it."""

        def adopted() -> tuple[bytes, bytes]:
            state.adopt_fit(fit)
            return state.questions.save(), state.questions.digest()

        packed, digest = await self._computing.result(tx, adopted)
        told = Fitted(state.refits, fit.votes, fit.labelers, changed_items=0, state_sha256=digest)
        await self._store.save_refit(tx, key, told, packed)


def _parts(many: Sequence[T]) -> Iterator[Sequence[T]]:
    """All of them, in order, so many at once."""
    return (many[start : start + AT_ONCE] for start in range(0, len(many), AT_ONCE))
