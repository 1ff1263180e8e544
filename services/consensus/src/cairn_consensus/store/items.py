"""Where items stand, and what was announced of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cairn.label.v1.label_value_pb2 import Answer
from cairn_consensus.domain.ids import ItemKey, QuestionId
from cairn_consensus.domain.items import State
from cairn_consensus.store.rows import ProjectKey, answer_of
from cairn_kit.database import Queries, Transaction

SQL = Queries.load("cairn_consensus", "sql/items.sql")


@dataclass(frozen=True, slots=True)
class ItemRow:
    """Where one item stands; `auto` when a model labeled it alone, `concluded` when it was decided with what there was."""

    item: ItemKey
    state: State
    revision: int
    answers_wanted: int
    auto: bool
    concluded: bool


@dataclass(frozen=True, slots=True)
class DecisionRow:
    """What was last announced of one question of one item."""

    item: ItemKey
    question: QuestionId
    answer: Answer
    confidence: float


class ItemStore:
    """Items and decisions."""

    async def route_items(
        self, tx: Transaction, key: ProjectKey, routes: Sequence[tuple[ItemKey, bool, int]]
    ) -> dict[ItemKey, bool]:
        """Keep whether a model labeled each item alone, by (item, auto, revision); returns what is newer now."""
        rows = await tx.fetch(
            SQL.route_items,
            *key.columns,
            [item for item, _, _ in routes],
            [auto for _, auto, _ in routes],
            [revision for _, _, revision in routes],
        )
        return {row["item"]: row["auto"] for row in rows}

    async def save_items(self, tx: Transaction, key: ProjectKey, items: Sequence[ItemRow]) -> None:
        """Write where items stand; whether they are automatic is left as it is."""
        await tx.execute(
            SQL.save_items,
            *key.columns,
            [item.item for item in items],
            [int(item.state) for item in items],
            [item.revision for item in items],
            [item.answers_wanted for item in items],
            [item.concluded for item in items],
        )

    async def item_rows(self, tx: Transaction, key: ProjectKey, items: Sequence[ItemKey]) -> list[ItemRow]:
        """Where those of the items stand of which that is kept."""
        found = await tx.fetch(SQL.items, *key.columns, items)
        return [ItemRow(item, State(state), *rest) for item, state, *rest in found]

    async def save_decisions(
        self, tx: Transaction, key: ProjectKey, decisions: Sequence[DecisionRow]
    ) -> None:
        """Write what is announced."""
        await tx.execute(
            SQL.save_decisions,
            *key.columns,
            [decision.item for decision in decisions],
            [decision.question for decision in decisions],
            [decision.answer.SerializeToString(deterministic=True) for decision in decisions],
            [decision.confidence for decision in decisions],
        )

    async def decisions(
        self, tx: Transaction, key: ProjectKey, items: Sequence[ItemKey]
    ) -> list[DecisionRow]:
        """What was last announced of the items."""
        found = await tx.fetch(SQL.decisions_of, *key.columns, items)
        return [
            DecisionRow(item, question, answer_of(written), confidence)
            for item, question, written, confidence in found
        ]
