"""Projects' states in memory: loaded when first needed, held by one transaction at a time, dropped when one that changed
them fails or another replica has kept them meanwhile."""

from __future__ import annotations

import asyncio

from cairn.annotation.v1.annotation_store_pb2 import Project
from cairn_consensus.computing import Computing
from cairn_consensus.domain.ids import ItemKey
from cairn_consensus.domain.project_state import ProjectState, unpack
from cairn_consensus.shares import Shares
from cairn_consensus.store import ConsensusStore, Everything, ProjectKey
from cairn_kit.database import Transaction


class States:
    """Who holds which project's state."""

    def __init__(self, store: ConsensusStore, computing: Computing, shares: Shares) -> None:
        self._store = store
        self._computing = computing
        self._shares = shares
        self._states: dict[ProjectKey, tuple[int, ProjectState]] = {}
        self._locks: dict[ProjectKey, asyncio.Lock] = {}
        self._holder: dict[ProjectKey, Transaction] = {}
        self._changing: set[ProjectKey] = set()

    async def hold(self, tx: Transaction, key: ProjectKey, project: Project) -> ProjectState:
        """The project's state, to be changed by this transaction alone until it ends. Raises Elsewhere."""
        state = await self.read(tx, key, project)
        self._changing.add(key)
        return state

    async def read(self, tx: Transaction, key: ProjectKey, project: Project) -> ProjectState:
        """The project's state, changed by nobody until this transaction ends.

        Raises Elsewhere when this replica does not keep the project's share.
        """
        epoch = await self._shares.epoch(tx, key)
        if self._holder.get(key) is not tx:
            await self._computing.turn(tx, self._locks.setdefault(key, asyncio.Lock()))
            self._holder[key] = tx
            tx.after_commit(lambda: self._let_go(key))
            tx.on_rollback(lambda: self._undo(key))
        of, state = self._states.get(key, (epoch, None))
        if state is None or of != epoch or state.project.schema_version < project.schema_version:
            kept = await self._store.everything(tx, key)
            state = await self._computing.result(tx, lambda: rebuild(project, kept))
            self._states[key] = epoch, state
        state.adopt(project)
        return state

    def forget(self, share: int) -> None:
        """Drop what is known of a share's projects: they are another replica's now."""
        self._states = {key: state for key, state in self._states.items() if key.share != share}

    @property
    def known(self) -> list[ProjectKey]:
        """The projects whose states are in memory."""
        return list(self._states)

    def drop(self, key: ProjectKey) -> None:
        """Drop what is known of one project: it is deleted."""
        self._states.pop(key, None)

    def _let_go(self, key: ProjectKey) -> None:
        self._changing.discard(key)
        del self._holder[key]
        self._locks[key].release()

    def _undo(self, key: ProjectKey) -> None:
        # What was only read is as good as before, and costs a look at every vote to have again.
        if key in self._changing:
            self._states.pop(key, None)
        self._let_go(key)


def rebuild(project: Project, kept: Everything) -> ProjectState:
    """A project's state from what is stored: the same whatever the order in which it came."""
    state = ProjectState(project)
    state.label_annotations = kept.label_annotations
    for row in kept.items:
        item = state.item(row.item)
        item.state, item.revision, item.auto, item.concluded = (
            row.state,
            row.revision,
            row.auto,
            row.concluded,
        )
        item.answers_wanted = max(item.answers_wanted, row.answers_wanted)
    for vote in kept.votes:
        state.vote(vote)
    for score in kept.scores:
        state.score(score.item, score.question, score.model, score.probabilities, score.class_ids)
    for truth in kept.truths:
        state.know(truth.item, truth.question, truth.answer)
    for decision in kept.decisions:
        state.item(ItemKey(decision.item)).announced[decision.question] = decision.answer.SerializeToString(
            deterministic=True
        )
    if kept.refit is not None:
        state.restore(kept.refit.refit, kept.refit.votes, unpack(kept.refit.state))
    return state
