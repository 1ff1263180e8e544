"""Projects' states in memory: begun when first needed, held by the transaction whose turn it is (`turns`), dropped when one
that changed them fails, another replica has kept them meanwhile, or the items at hand take too much memory.

A state is what was learnt of labelers, and the items at hand. Whoever judges items brings them first (`bring`); the
others rest in the database, so that neither a start nor the memory depends on how large a project is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cairn.annotation.v1.annotation_store_pb2 import Project
from cairn_consensus.computing import Computing
from cairn_consensus.domain.ids import ItemKey, LabelerName
from cairn_consensus.domain.project_state import Counts, ProjectState
from cairn_consensus.hearing import recall, whole
from cairn_consensus.shares import Shares
from cairn_consensus.store import ConsensusStore, ProjectKey, RefitRow
from cairn_kit.database import Transaction

_COUNT_BYTES, _FIT_BYTES = 200, 3
"""What a count, and a byte of a fit, take in memory, about."""


@dataclass(slots=True)
class _Known:
    """A project's state, since which epoch it is kept here, and how many votes and annotations the database knows of."""

    epoch: int
    state: ProjectState
    written: tuple[int, int] | None


class States:
    """Who holds which project's state."""

    def __init__(self, store: ConsensusStore, computing: Computing, shares: Shares, room: int) -> None:
        self._store = store
        self._computing = computing
        self._shares = shares
        self._room = room
        self._known: dict[ProjectKey, _Known] = {}
        """Those that were not used for longest come first."""
        self._held: dict[ProjectKey, tuple[Transaction, _Known]] = {}
        self._changing: set[ProjectKey] = set()

    async def hold(self, tx: Transaction, key: ProjectKey, project: Project) -> ProjectState:
        """The project's state, to be changed by this transaction, whose turn it is, until it ends. Raises Elsewhere."""
        state = await self.read(tx, key, project)
        self._changing.add(key)
        return state

    async def read(self, tx: Transaction, key: ProjectKey, project: Project) -> ProjectState:
        """The project's state, to be looked at by this transaction, whose turn it is, until it ends.

        Raises Elsewhere when this replica does not keep the project's share.
        """
        epoch = await self._shares.epoch(tx, key)
        held = self._held.get(key)
        if held is not None:
            if held[0] is not tx:
                raise RuntimeError(f"{key} is held by another transaction: wait for the turn at it first")
            known: _Known | None = held[1]
        else:
            tx.before_commit(lambda tx: self._save_counts(tx, key))
            tx.after_commit(lambda: self._let_go(key))
            tx.on_rollback(lambda: self._undo(key))
            known = self._known.pop(key, None)
        if (
            known is None
            or known.epoch != epoch
            or known.state.project.schema_version < project.schema_version
        ):
            known = await self._begin(tx, key, project, epoch)
        self._held[key] = tx, known
        self._known[key] = known
        known.state.adopt(project)
        return known.state

    async def bring(
        self, tx: Transaction, key: ProjectKey, state: ProjectState, items: Iterable[ItemKey]
    ) -> None:
        """Have items at hand, those of which nothing is kept as well: before anything new is written of them, for what is
        kept was counted."""
        missing = [item for item in dict.fromkeys(items) if item not in state.items]
        if missing:
            kept = await self._store.kept(tx, key, missing)
            read_only = key not in self._changing
            self._changing.add(key)  # a state that got half of it is of no use to anybody
            await self._computing.result(tx, lambda: recall(state, missing, kept))
            if read_only:
                self._changing.discard(key)

    async def apart(
        self, tx: Transaction, key: ProjectKey, project: Project, items: Sequence[ItemKey] = ()
    ) -> ProjectState:
        """A state of the transaction's own, with these items at hand: to be looked at while others work on the project's."""
        state = (await self._begin(tx, key, project, epoch=-1)).state
        if items:
            kept = await self._store.kept(tx, key, items)
            await self._computing.result(tx, lambda: recall(state, items, kept))
        return state

    async def make_room(self, tx: Transaction, key: ProjectKey) -> ProjectState:
        """The state that this transaction holds, without the items at hand if those take all of the room."""
        _, known = self._held[key]
        if known.state.size > self._room:
            await self._save_counts(tx, key)
            known = self._known[key] = await self._begin(tx, key, known.state.project, known.epoch)
            self._held[key] = tx, known
        return known.state

    def forget(self, share: int) -> None:
        """Drop what is known of a share's projects: they are another replica's now."""
        self._known = {key: known for key, known in self._known.items() if key.share != share}

    @property
    def known(self) -> list[ProjectKey]:
        """The projects whose states are in memory."""
        return list(self._known)

    def drop(self, key: ProjectKey) -> None:
        """Drop what is known of one project: it is deleted."""
        self._known.pop(key, None)

    async def _begin(self, tx: Transaction, key: ProjectKey, project: Project, epoch: int) -> _Known:
        """A state with no item at hand."""
        counts, refit = await self._store.counted(tx, key), await self._store.newest_refit(tx, key)
        fewest = await self._store.fewest_answers(tx, key)
        if counts is None:
            everything = await whole(self._store, self._computing, tx, key, project)
            counts, written = everything.counts(await self._store.count_label_annotations(tx, key)), None
        else:
            written = counts.votes, counts.label_annotations
        state = await self._computing.result(tx, lambda: begun(project, counts, refit))
        state.asked_at_least(fewest)
        return _Known(epoch, state, written)

    async def _save_counts(self, tx: Transaction, key: ProjectKey) -> None:
        """Write how much was said, where more was said."""
        _, known = self._held[key]
        state = known.state
        now = state.votes, state.label_annotations
        answers = state.questions.newly_counted()
        if known.written is None:
            self._changing.add(key)  # for it is written
            answers = [
                (name, LabelerName(who), count)
                for name, given in state.questions.answers_given().items()
                for who, count in sorted(given.items())
            ]
        if answers or now != known.written:
            await self._store.save_counted(tx, key, *now, answers)
            known.written = now

    def _let_go(self, key: ProjectKey) -> None:
        self._changing.discard(key)
        self._held.pop(key, None)
        taken = sum(known.state.size for known in self._known.values())
        for idle in [one for one in self._known if one not in self._held]:
            if taken <= self._room:
                break
            taken -= self._known.pop(idle).state.size

    def _undo(self, key: ProjectKey) -> None:
        # What was only read is as good as before.
        if key in self._changing:
            self._known.pop(key, None)
        self._let_go(key)


def begun(project: Project, counts: Counts, refit: RefitRow | None) -> ProjectState:
    """A project's state with no item at hand."""
    state = ProjectState(project)
    state.count_as(counts)
    state.size += _COUNT_BYTES * sum(map(len, counts.answers.values()))
    if refit is not None:
        state.restore(refit.refit, refit.votes, refit.state)
        state.size += _FIT_BYTES * len(refit.state)
    return state
