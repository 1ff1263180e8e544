"""The only caller of SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from cairn.annotation.v1.annotation_store_pb2 import ANNOTATION_KIND_LABEL, Annotation, Project
from cairn.label.v1.label_value_pb2 import Answer
from cairn_consensus.domain.ids import ItemKey, LabelerName, QuestionId
from cairn_consensus.domain.items import State, Vote
from cairn_kit.database import Database, Queries, Transaction
from cairn_kit.database.transaction import Record
from cairn_kit.shares import share_of

SQL = Queries.load("cairn_consensus", "sql/queries.sql")

Rows = Database | Transaction
"""Whatever a single reading statement can be run on."""


class TruthRank(IntEnum):
    """Whose word a known truth is; a higher one replaces a lower."""

    GOLD = 1
    REVIEWED = 2


@dataclass(frozen=True, slots=True)
class ProjectKey:
    """Which project."""

    tenant: str
    project: str

    @property
    def columns(self) -> tuple[str, str]:
        """The key as every statement takes it."""
        return self.tenant, self.project

    @property
    def share(self) -> int:
        """The share that the project falls into."""
        return share_of(self.tenant, self.project)


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """What a model says of one item: `probabilities` (classes,) in the order of `class_ids`."""

    item: ItemKey
    question: QuestionId
    model: str
    probabilities: tuple[float, ...]
    class_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TruthRow:
    """What is known to be true of one question of one item."""

    item: ItemKey
    question: QuestionId
    answer: Answer


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


@dataclass(frozen=True, slots=True)
class RefitRow:
    """The newest fit to all votes, and the state it left."""

    refit: int
    votes: int
    state: bytes
    time: datetime


@dataclass(frozen=True, slots=True)
class Refitting:
    """How far a refit is: up to which item all were judged by it (None: it is not fitted yet), and what that changed."""

    judged_until: str | None
    changed_items: int


@dataclass(frozen=True, slots=True)
class Fitted:
    """What is told of a refit."""

    refit: int
    votes: int
    labelers: int
    changed_items: int
    state_sha256: bytes


@dataclass(frozen=True, slots=True)
class Everything:
    """All that is kept of a project: what its state in memory is made of after a start."""

    votes: list[Vote]
    scores: list[ScoreRow]
    truths: list[TruthRow]
    items: list[ItemRow]
    decisions: list[DecisionRow]
    label_annotations: int
    refit: RefitRow | None


class ConsensusStore:
    """Rows in, rows out; it decides nothing."""

    async def stay(self, tx: Transaction) -> None:
        """Show that the transaction is in use."""
        await tx.execute(SQL.stay)

    async def begin_share(self, rows: Rows, share: int) -> int | None:
        """Begin to keep a share; its new epoch, or None while the keeper before still works on it."""
        epoch: int | None = await rows.fetchval(SQL.begin_share, share)
        return epoch

    async def hold_shares(self, tx: Transaction, epochs: Mapping[int, int]) -> set[int]:
        """Those of the shares whose epoch is still this one; nobody else begins to keep them before the end."""
        rows = await tx.fetch(SQL.hold_shares, list(epochs), list(epochs.values()))
        return {row["share"] for row in rows}

    async def upsert_projects(
        self, tx: Transaction, projects: Sequence[tuple[ProjectKey, int, Project]]
    ) -> None:
        """Keep each project as it is at its newest revision."""
        await tx.execute(
            SQL.upsert_projects,
            [key.tenant for key, _, _ in projects],
            [key.project for key, _, _ in projects],
            [revision for _, revision, _ in projects],
            [project.SerializeToString() for _, _, project in projects],
        )

    async def project(self, rows: Rows, key: ProjectKey) -> Project | None:
        """The project as last heard of."""
        body = await rows.fetchval(SQL.project, *key.columns)
        return None if body is None else Project.FromString(body)

    async def known_projects(self, rows: Rows, keys: Sequence[ProjectKey]) -> dict[ProjectKey, Project]:
        """Those of the projects that have been heard of."""
        found = await rows.fetch(SQL.known_projects, [k.tenant for k in keys], [k.project for k in keys])
        return {ProjectKey(row["tenant"], row["project"]): Project.FromString(row["body"]) for row in found}

    async def deleted_among(self, rows: Rows, keys: Sequence[ProjectKey]) -> list[ProjectKey]:
        """Those of the projects that are deleted."""
        if not keys:
            return []
        found = await rows.fetch(SQL.deleted_projects, [k.tenant for k in keys], [k.project for k in keys])
        return [ProjectKey(row["tenant"], row["project"]) for row in found]

    async def insert_annotations(
        self, tx: Transaction, key: ProjectKey, annotations: Sequence[Annotation]
    ) -> int:
        """Keep that these were heard of; returns how many of kind LABEL had not been."""
        rows = await tx.fetch(
            SQL.insert_annotations,
            *key.columns,
            [annotation.name for annotation in annotations],
            [annotation.kind for annotation in annotations],
        )
        return sum(row["kind"] == ANNOTATION_KIND_LABEL for row in rows)

    async def insert_votes(
        self, tx: Transaction, key: ProjectKey, votes: Sequence[Vote]
    ) -> set[tuple[ItemKey, QuestionId, LabelerName]]:
        """Keep votes; returns those that were not there yet."""
        rows = await tx.fetch(
            SQL.insert_votes,
            *key.columns,
            [vote.item for vote in votes],
            [vote.question for vote in votes],
            [vote.labeler for vote in votes],
            [vote.annotation for vote in votes],
            [vote.answer.SerializeToString(deterministic=True) for vote in votes],
        )
        return {(row["item"], row["question"], row["labeler"]) for row in rows}

    async def upsert_scores(
        self, tx: Transaction, key: ProjectKey, revision: int, scores: Sequence[ScoreRow]
    ) -> set[ItemKey]:
        """Keep scores of one question by one model in one round; returns the items whose score is newer now."""
        first = scores[0]
        rows = await tx.fetch(
            SQL.upsert_scores,
            *key.columns,
            first.question,
            first.model,
            revision,
            [score.item for score in scores],
            [p for score in scores for p in score.probabilities],
            len(first.class_ids),
            list(first.class_ids),
        )
        return {row["item"] for row in rows}

    async def upsert_truths(
        self, tx: Transaction, key: ProjectKey, truths: Sequence[tuple[TruthRow, TruthRank, datetime]]
    ) -> set[tuple[ItemKey, QuestionId]]:
        """Keep what is known to be true; returns what changed."""
        rows = await tx.fetch(
            SQL.upsert_truths,
            *key.columns,
            [truth.item for truth, _, _ in truths],
            [truth.question for truth, _, _ in truths],
            [truth.answer.SerializeToString(deterministic=True) for truth, _, _ in truths],
            [int(rank) for _, rank, _ in truths],
            [time for _, _, time in truths],
        )
        return {(row["item"], row["question"]) for row in rows}

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

    async def save_refit(self, tx: Transaction, key: ProjectKey, fitted: Fitted, state: bytes) -> None:
        """Write the newest fit, with the state it left, over the one before."""
        await tx.execute(
            SQL.save_refit,
            *key.columns,
            fitted.refit,
            fitted.votes,
            fitted.labelers,
            fitted.changed_items,
            state,
            fitted.state_sha256,
        )

    async def ask_for_refit(self, tx: Transaction, key: ProjectKey) -> None:
        """Write down that a project is to be fitted again, unless that is under way."""
        await tx.execute(SQL.ask_for_refit, *key.columns)

    async def refits_under_way(self, rows: Rows) -> list[ProjectKey]:
        """The projects that are to be fitted or judged again, in the order in which that was asked for."""
        found = await rows.fetch(SQL.refits_under_way)
        return [ProjectKey(row["tenant"], row["project"]) for row in found]

    async def refit_under_way(self, tx: Transaction, key: ProjectKey) -> Refitting | None:
        """How far a project's refit is, if one is under way."""
        row = await tx.fetchrow(SQL.refit_under_way, *key.columns)
        return None if row is None else Refitting(row["judged_until"], row["changed_items"])

    async def note_judging(self, tx: Transaction, key: ProjectKey, refitting: Refitting) -> None:
        """Write down how far a refit is."""
        await tx.execute(SQL.note_judging, *key.columns, refitting.judged_until, refitting.changed_items)

    async def end_refit(self, tx: Transaction, key: ProjectKey) -> None:
        """No refit is under way any more."""
        await tx.execute(SQL.end_refit, *key.columns)

    async def note_changed_items(self, tx: Transaction, key: ProjectKey, changed: int) -> Fitted | None:
        """Write down what the newest refit changed; returns what is to be told of it."""
        row = await tx.fetchrow(SQL.note_changed_items, *key.columns, changed)
        return None if row is None else Fitted(*row)

    async def everything(self, tx: Transaction, key: ProjectKey) -> Everything:
        """All that is kept of a project, in an order that does not depend on when it came.

        It is read a thousand rows at a time: none is a long statement, and between two others have their turn.
        """
        newest = await tx.fetchrow(SQL.newest_refit, *key.columns)
        return Everything(
            votes=[_vote(row) async for row in tx.cursor(SQL.all_votes, *key.columns)],
            scores=[
                ScoreRow(
                    row["item"],
                    row["question"],
                    row["model"],
                    tuple(row["probabilities"]),
                    tuple(row["class_ids"]),
                )
                async for row in tx.cursor(SQL.all_scores, *key.columns)
            ],
            truths=[
                TruthRow(row["item"], row["question"], Answer.FromString(row["answer"]))
                async for row in tx.cursor(SQL.all_truths, *key.columns)
            ],
            items=[
                ItemRow(
                    row["item"],
                    State(row["state"]),
                    row["revision"],
                    row["answers_wanted"],
                    row["auto"],
                    row["concluded"],
                )
                async for row in tx.cursor(SQL.all_items, *key.columns)
            ],
            decisions=[
                DecisionRow(row["item"], row["question"], Answer.FromString(row["answer"]), row["confidence"])
                async for row in tx.cursor(SQL.all_decisions, *key.columns)
            ],
            label_annotations=await tx.fetchval(
                SQL.count_label_annotations, *key.columns, ANNOTATION_KIND_LABEL
            ),
            refit=None
            if newest is None
            else RefitRow(newest["refit"], newest["votes"], newest["state"], newest["create_time"]),
        )


def _vote(row: Record) -> Vote:
    return Vote(
        row["item"], row["question"], row["labeler"], row["annotation"], Answer.FromString(row["answer"])
    )
