"""The only caller of SQL."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from functools import lru_cache

import asyncpg

from cairn.annotation.v1.annotation_store_pb2 import ANNOTATION_KIND_LABEL, Annotation, Project
from cairn.label.v1.label_value_pb2 import Answer
from cairn_consensus.domain.ids import ItemKey, LabelerName, QuestionId
from cairn_consensus.domain.items import Score, Sized, State, Truth, Vote
from cairn_consensus.domain.project_state import Counts
from cairn_kit.database import Database, Queries, Transaction
from cairn_kit.database.transaction import Record
from cairn_kit.shares import share_of

SQL = Queries.load("cairn_consensus", "sql/queries.sql")

_SHORT = 100
"""Bytes."""

TOO_LONG = (
    TimeoutError,
    asyncpg.QueryCanceledError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TransactionTimeoutError,
)
"""Of what a lost server looks like, what one statement or transaction brings on itself."""

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
class WhichRefit:
    """A refit of a project: the one that calls asked for under this number; None: the one that was due by the votes."""

    key: ProjectKey
    asked: int | None = None

    @property
    def columns(self) -> tuple[str, str, int | None]:
        """One that was asked for, as every statement about it takes it."""
        return *self.key.columns, self.asked


@dataclass(frozen=True, slots=True)
class Refitting:
    """How far a refit is: up to which item all were judged by it (None: it is not fitted yet), and what that changed.

    Of one that calls asked for also whether it concludes, the labels that it announced (an item's twice, where it began
    anew by another fit and came to another), its fit's number and the votes of that: those heard of when it was begun, and
    then those that it was made of; ``forsaken``: a conclusion that has come to nothing, and for an hour nobody has asked
    for it.
    """

    judged_until: str | None
    changed_items: int = 0
    announced_labels: int = 0
    concludes: bool = False
    refit: int = 0
    votes: int = 0
    forsaken: bool = False


@dataclass(frozen=True, slots=True)
class AskedRefit:
    """What calls asked for, under which number: how far it is, whether it has ended, and how its next step goes.

    ``failures``: how often it ended with an error; ``tries``: how often it was begun since, by processes that were killed
    or are at it; ``put_off``: seconds until it may be begun again.
    """

    number: int
    ended: bool
    failures: int
    tries: int
    put_off: float
    refitting: Refitting


@dataclass(frozen=True, slots=True)
class Fitted:
    """What is told of a refit."""

    refit: int
    votes: int
    labelers: int
    changed_items: int
    state_sha256: bytes


@dataclass(frozen=True, slots=True)
class Said:
    """What was said of items, by people, models, and who knows the truth."""

    votes: list[Vote] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)
    truths: list[Truth] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class KeptItems:
    """All that is kept of some items."""

    said: Said
    items: list[ItemRow]
    decisions: list[DecisionRow]


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
        self, tx: Transaction, projects: Sequence[tuple[ProjectKey, Project, int]]
    ) -> None:
        """Keep each project as it is at its newest revision, and the fewest answers that any asked for at first."""
        await tx.execute(
            SQL.upsert_projects,
            [key.tenant for key, _, _ in projects],
            [key.project for key, _, _ in projects],
            [project.revision for _, project, _ in projects],
            [project.SerializeToString() for _, project, _ in projects],
            [fewest for _, _, fewest in projects],
        )

    async def fewest_answers(self, tx: Transaction, key: ProjectKey) -> int | None:
        """The fewest answers that the project ever asked for at first, as far as that was noted."""
        fewest: int | None = await tx.fetchval(SQL.fewest_answers, *key.columns)
        return fewest

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
        self, tx: Transaction, key: ProjectKey, revision: int, scores: Sequence[Score]
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
        self, tx: Transaction, key: ProjectKey, truths: Sequence[tuple[Truth, TruthRank, datetime]]
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

    async def asked_by(
        self, tx: Transaction, key: ProjectKey, concludes: bool, requests: Sequence[str]
    ) -> int | None:
        """The number of what any of these requests has asked for before, and asks for again now."""
        number: int | None = await tx.fetchval(SQL.asked_by, *key.columns, concludes, requests)
        if number is not None:
            await tx.execute(SQL.note_asked_again, *key.columns, number, concludes)
        return number

    async def join_asked_refit(
        self,
        tx: Transaction,
        key: ProjectKey,
        concludes: bool,
        requests: Sequence[str],
        votes: int,
        project_revision: int,
    ) -> int | None:
        """The number of what is under way and made of no fewer votes, which these requests ask for, too."""
        number: int | None = await tx.fetchval(
            SQL.join_asked_refit, *key.columns, concludes, requests, votes, project_revision
        )
        return number

    async def begin_asked_refit(
        self, tx: Transaction, key: ProjectKey, concludes: bool, requests: Sequence[str]
    ) -> int:
        """Write down that these requests ask for a refit; its number."""
        number: int = await tx.fetchval(SQL.begin_asked_refit, *key.columns, concludes, requests)
        return number

    async def forgettable_refits(self, rows: Rows, age: float, most: int) -> list[WhichRefit]:
        """So many of those that ended ``age`` seconds ago, or whose project is gone."""
        found = await rows.fetch(SQL.forgettable_refits, age, most)
        return [WhichRefit(ProjectKey(row["tenant"], row["project"]), row["number"]) for row in found]

    async def forget_undecided(self, rows: Rows, which: WhichRefit, most: int) -> bool:
        """Forget so many of the items that a conclusion could not decide; whether there were any."""
        return await rows.execute(SQL.forget_undecided, *which.columns, most) != "DELETE 0"

    async def forget_asked_refit(self, rows: Rows, which: WhichRefit) -> None:
        """Forget what came of one."""
        await rows.execute(SQL.forget_asked_refit, *which.columns)

    async def asked_refit(self, rows: Rows, which: WhichRefit, concludes: bool) -> AskedRefit | None:
        """What calls asked for, or what has taken that over; None where the project is gone."""
        row = await rows.fetchrow(SQL.asked_refit, *which.columns, concludes)
        if row is None:
            return None
        number, ended, failures, tries, put_off, *how_far = row
        return AskedRefit(number, ended, failures, tries, put_off, Refitting(*how_far))

    async def refits_under_way(self, rows: Rows) -> dict[WhichRefit, bool]:
        """The refits that were asked for, in that order, those by calls before the others: whether whoever has not begun
        may begin now."""
        found = await rows.fetch(SQL.refits_under_way)
        return {
            WhichRefit(ProjectKey(row["tenant"], row["project"]), row["number"]): row["due"] for row in found
        }

    async def refit_under_way(self, tx: Transaction, which: WhichRefit) -> Refitting | None:
        """How far a refit is, if it is under way."""
        if which.asked is None:
            row = await tx.fetchrow(SQL.refit_under_way, *which.key.columns)
        else:
            row = await tx.fetchrow(SQL.asked_refit_under_way, *which.columns)
        return None if row is None else Refitting(*row)

    async def note_try(self, rows: Rows, which: WhichRefit) -> None:
        """Write down that somebody goes on with a refit: nobody tries at once again, should that take the process down."""
        if which.asked is None:
            await rows.execute(SQL.note_try, *which.key.columns)
        else:
            await rows.execute(SQL.note_asked_try, *which.columns)

    async def note_left(self, rows: Rows, which: WhichRefit) -> None:
        """Write down that whoever went on with a refit lets go of it, unharmed: another may go on at once."""
        if which.asked is None:
            await rows.execute(SQL.note_left, *which.key.columns)
        else:
            await rows.execute(SQL.note_asked_left, *which.columns)

    async def note_failure(self, rows: Rows, which: WhichRefit) -> None:
        """Write down, for the calls that asked for it, that a step ended with an error."""
        if which.asked is not None:
            await rows.execute(SQL.note_failure, *which.columns)

    async def note_fit_begun(
        self, tx: Transaction, which: WhichRefit, votes: int, project_revision: int
    ) -> None:
        """Write down of what a fit that calls asked for is made: who asks later for no more can have the same.

        Those of its kind before it are taken over: it does what they were asked for.
        """
        if which.asked is not None:
            await tx.execute(SQL.note_fit_begun, *which.columns, votes, project_revision)

    async def note_step(self, tx: Transaction, which: WhichRefit, now: Refitting) -> None:
        """Write down how far a refit is, and that somebody goes on with it."""
        if which.asked is None:
            await tx.execute(SQL.note_step, *which.key.columns, now.judged_until, now.changed_items)
        else:
            await tx.execute(
                SQL.note_asked_step,
                *which.columns,
                now.judged_until,
                now.changed_items,
                now.announced_labels,
                now.refit,
                now.votes,
            )

    async def end_refit(self, tx: Transaction, which: WhichRefit) -> None:
        """A refit is not under way any more; what came of one that calls asked for is kept.

        A conclusion takes over the refits before it: it has done what they were asked for.
        """
        if which.asked is None:
            await tx.execute(SQL.end_refit, *which.key.columns)
        else:
            await tx.execute(SQL.end_asked_refit, *which.columns)

    async def give_up_refit(self, tx: Transaction, which: WhichRefit) -> None:
        """A conclusion has ended without an outcome: whoever asks for it again begins another."""
        await tx.execute(SQL.give_up_asked_refit, *which.columns)

    async def owe_judging(self, tx: Transaction, key: ProjectKey) -> None:
        """Write down that all items are to be judged by a fit that calls asked for, should their refit not do it."""
        await tx.execute(SQL.owe_judging, *key.columns)

    async def pay_judging(self, tx: Transaction, key: ProjectKey) -> int | None:
        """They are; how many items that had changed already before it came to that, None where all has been told."""
        changed: int | None = await tx.fetchval(SQL.pay_judging, *key.columns)
        return changed

    async def add_undecided(
        self, tx: Transaction, which: WhichRefit, refit: int, items: Sequence[ItemKey]
    ) -> None:
        """Keep items that a conclusion could not decide by a fit."""
        await tx.execute(SQL.add_undecided, *which.columns, refit, items)

    async def undecided(self, rows: Rows, which: WhichRefit, refit: int) -> list[ItemKey]:
        """The items that a conclusion could not decide by a fit, in order."""
        return [row["item"] for row in await rows.fetch(SQL.undecided, *which.columns, refit)]

    async def note_changed_items(self, tx: Transaction, key: ProjectKey, changed: int) -> Fitted | None:
        """Write down what the newest refit changed; returns what is to be told of it."""
        row = await tx.fetchrow(SQL.note_changed_items, *key.columns, changed)
        return None if row is None else Fitted(*row)

    async def newest_refit(self, tx: Transaction, key: ProjectKey) -> RefitRow | None:
        """The newest fit to all votes, if there was one."""
        row = await tx.fetchrow(SQL.newest_refit, *key.columns)
        return None if row is None else RefitRow(*row)

    async def counted(self, tx: Transaction, key: ProjectKey) -> Counts | None:
        """How much was said in a project; None where it has not been counted yet."""
        row = await tx.fetchrow(SQL.counted, *key.columns)
        if row is None:
            return None
        answers: dict[QuestionId, dict[str, int]] = {}
        for question, labeler, count in await tx.fetch(SQL.answers_given, *key.columns):
            answers.setdefault(question, {})[labeler] = count
        return Counts(row["votes"], row["label_annotations"], answers)

    async def save_counted(
        self,
        tx: Transaction,
        key: ProjectKey,
        votes: int,
        label_annotations: int,
        answers: Sequence[tuple[QuestionId, LabelerName, int]],
    ) -> None:
        """Write how much was said; of the answers, those of labelers who said more."""
        await tx.execute(SQL.save_counted, *key.columns, votes, label_annotations)
        if answers:
            await tx.execute(SQL.save_answers_given, *key.columns, *map(list, zip(*answers, strict=True)))

    async def count_label_annotations(self, tx: Transaction, key: ProjectKey) -> int:
        """How many annotations of kind LABEL were heard of."""
        count: int = await tx.fetchval(SQL.count_label_annotations, *key.columns, ANNOTATION_KIND_LABEL)
        return count

    async def answer_bytes(self, tx: Transaction, key: ProjectKey) -> int:
        """How many bytes all answers in a project have."""
        size: int = await tx.fetchval(SQL.answer_bytes, *key.columns)
        return size

    async def answered_items(self, tx: Transaction, key: ProjectKey, after: str, limit: int) -> list[Sized]:
        """The items that somebody has answered, in order, from the one after `after` on."""
        return [Sized(*row) for row in await tx.fetch(SQL.answered_items, *key.columns, after, limit)]

    async def answered_among(self, tx: Transaction, key: ProjectKey, items: Sequence[ItemKey]) -> list[Sized]:
        """Those of the items that somebody has answered, in order."""
        return [Sized(*row) for row in await tx.fetch(SQL.answered_among, *key.columns, items)]

    async def items_with_truth(self, tx: Transaction, key: ProjectKey, after: str, limit: int) -> list[Sized]:
        """The items of which something is known to be true, in order, from the one after `after` on."""
        return [Sized(*row) for row in await tx.fetch(SQL.items_with_truth, *key.columns, after, limit)]

    async def kept(self, tx: Transaction, key: ProjectKey, items: Sequence[ItemKey]) -> KeptItems:
        """All that is kept of some items, in an order that does not depend on when it came."""
        of = (*key.columns, items)
        said = Said(
            [_vote(row) for row in await tx.fetch(SQL.votes_on, *of)],
            [_score(row) for row in await tx.fetch(SQL.scores_of, *of)],
            [_truth(row) for row in await tx.fetch(SQL.truths_of, *of)],
        )
        rows = [ItemRow(item, State(state), *rest) for item, state, *rest in await tx.fetch(SQL.items, *of)]
        decisions = [
            DecisionRow(item, question, _answer(answer), confidence)
            for item, question, answer, confidence in await tx.fetch(SQL.decisions_of, *of)
        ]
        return KeptItems(said, rows, decisions)

    async def all_said(self, tx: Transaction, key: ProjectKey) -> AsyncIterator[Said]:
        """All that was said in a project, part by part, item by item.

        It is read a thousand rows at a time: none is a long statement, and between two others have their turn.
        """
        async for rows in _parts(tx.cursor(SQL.all_votes, *key.columns)):
            yield Said(votes=list(map(_vote, rows)))
        async for rows in _parts(tx.cursor(SQL.all_scores, *key.columns)):
            yield Said(scores=list(map(_score, rows)))
        async for rows in _parts(tx.cursor(SQL.all_truths, *key.columns)):
            yield Said(truths=list(map(_truth, rows)))


async def _parts(rows: AsyncIterator[Record], size: int = 1000) -> AsyncIterator[list[Record]]:
    part: list[Record] = []
    async for row in rows:
        part.append(row)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part


def _vote(row: Record) -> Vote:
    item, question, labeler, annotation, answer = row
    return Vote(item, question, LabelerName(sys.intern(labeler)), annotation, _answer(answer))


def _score(row: Record) -> Score:
    item, question, model, probabilities, class_ids = row
    return Score(item, question, model, tuple(probabilities), tuple(class_ids))


def _truth(row: Record) -> Truth:
    item, question, answer = row
    return Truth(item, question, _answer(answer))


def _answer(written: bytes) -> Answer:
    return _short_answer(written) if len(written) <= _SHORT else Answer.FromString(written)


@lru_cache(maxsize=4096)
def _short_answer(written: bytes) -> Answer:
    """An answer, read once: most short ones are one of few classes. It is never written to."""
    return Answer.FromString(written)
