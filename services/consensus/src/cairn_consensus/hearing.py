"""What is kept of items, told to whoever works on it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from cairn.annotation.v1.annotation_store_pb2 import Project
from cairn_consensus.computing import Computing
from cairn_consensus.domain.ids import ItemKey
from cairn_consensus.domain.project_state import ProjectState
from cairn_consensus.domain.whole import Whole
from cairn_consensus.store import ConsensusStore, KeptItems, ProjectKey, Said
from cairn_kit.database import Transaction


async def whole(
    store: ConsensusStore, computing: Computing, tx: Transaction, key: ProjectKey, project: Project
) -> Whole:
    """All that was said in a project."""
    everything = Whole(project)
    async for said in store.all_said(tx, key):
        await computing.result(tx, partial(hear, everything, said))
    return everything


def recall(state: ProjectState, items: Sequence[ItemKey], kept: KeptItems) -> None:
    """Have items at hand, with all that is kept of them."""
    with state.uncounted():
        hear(state, kept.said)
    for key in items:
        state.item(key)
    for row in kept.items:
        item = state.item(row.item)
        item.state, item.revision, item.auto, item.concluded = (
            row.state,
            row.revision,
            row.auto,
            row.concluded,
        )
        item.answers_wanted = max(item.answers_wanted, row.answers_wanted)
    for one in kept.decisions:
        written = one.answer.SerializeToString(deterministic=True)
        state.item(one.item).announced[one.question] = written
        state.size += len(written)


def hear(hearer: ProjectState | Whole, said: Said) -> None:
    """Tell what was said."""
    for vote in said.votes:
        hearer.vote(vote)
    for score in said.scores:
        hearer.score(score)
    for truth in said.truths:
        hearer.know(truth)
