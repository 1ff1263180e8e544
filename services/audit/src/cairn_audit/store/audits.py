"""What is kept of projects and labels as heard, and of audits, samples and findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cairn.annotation.v1.annotation_store_pb2 import LabelSource, Project
from cairn.label.v1.label_value_pb2 import Answer
from cairn_audit.domain import names
from cairn_audit.domain.judging import Judgement
from cairn_audit.domain.names import AuditId, ItemKey, Tenant
from cairn_audit.domain.sampling import EVERY_HASH, Cell, CellCount, Design, hash_bound
from cairn_audit.domain.verdict import AuditPhase, StratumCount
from cairn_audit.store.ledger import Rows
from cairn_audit.store.rows import (
    AuditKey,
    AuditRow,
    FindingRow,
    OpenSample,
    ReviewTask,
    ReviewWish,
    StandingLabel,
    UnreadLabel,
)
from cairn_kit.database import Queries, Transaction
from cairn_kit.database.transaction import Record

SQL = Queries.load("cairn_audit", "sql/queries.sql")


class AuditStore:
    """Projects and labels as heard; audits, samples and findings."""

    async def upsert_projects(self, tx: Transaction, heard: Sequence[tuple[str, int, Project]]) -> None:
        """Keep the newest revision of each (tenant, revision, project)."""
        await tx.execute(
            SQL.upsert_projects,
            [tenant for tenant, _, _ in heard],
            [names.project_of(project.name) for _, _, project in heard],
            [revision for _, revision, _ in heard],
            [project.SerializeToString() for _, _, project in heard],
        )

    async def project(self, rows: Rows, tenant: str, project: str) -> Project | None:
        """A project, whole."""
        body = await rows.fetchval(SQL.project, tenant, project)
        return None if body is None else Project.FromString(body)

    async def upsert_labels(self, tx: Transaction, labels: Sequence[StandingLabel]) -> None:
        """Keep the newest revision of each label."""
        await tx.execute(
            SQL.upsert_labels,
            [label.tenant for label in labels],
            [label.project for label in labels],
            [label.question for label in labels],
            [label.item for label in labels],
            [label.revision for label in labels],
            [label.source for label in labels],
            [label.class_id for label in labels],
            [label.band for label in labels],
            [label.confidence for label in labels],
            [label.answer.SerializeToString() for label in labels],
        )

    async def label(
        self, tx: Transaction, tenant: Tenant, project: names.Project, question: str, item: ItemKey
    ) -> StandingLabel | None:
        """The label that stands, as far as heard."""
        row = await tx.fetchrow(SQL.label, tenant, project, question, item)
        if row is None:
            return None
        return StandingLabel(
            tenant, project, question, item, row["revision"], row["source"], row["class_id"], row["band"],
            row["confidence"], Answer.FromString(row["answer"]),
        )  # fmt: skip

    async def count_cells(
        self, tx: Transaction, tenant: str, project: str, question: str, source: LabelSource.ValueType
    ) -> list[CellCount]:
        """The population, counted; source 0 is every source."""
        rows = await tx.fetch(SQL.count_cells, tenant, project, question, source)
        return [
            CellCount(Cell(row["source"], row["class_id"], row["band"]), row["labels"], row["confidence_sum"])
            for row in rows
        ]

    async def create_audit(
        self,
        tx: Transaction,
        key: AuditKey,
        *,
        question: str,
        source: LabelSource.ValueType,
        max_error: float,
        confidence: float,
        seed: int,
        design: Design,
    ) -> None:
        """Write an audit with its strata, and draw its sample."""
        await tx.execute(SQL.insert_audit, *key.columns, question, source, max_error, confidence, seed)
        strata = list(enumerate(design.strata))
        await tx.execute(
            SQL.insert_strata,
            *key.columns,
            [place for place, _ in strata],
            [stratum.source for _, stratum in strata],
            [stratum.class_id for _, stratum in strata],
            [stratum.confidence_low for _, stratum in strata],
            [stratum.confidence_high for _, stratum in strata],
            [stratum.population for _, stratum in strata],
        )
        bounds = {place: hash_bound(design.drawn[place], stratum.population) for place, stratum in strata}
        drawn = await self._draw(tx, key, question, seed, design, bounds)
        short = [
            place
            for place, bound in bounds.items()
            if drawn.get(place, 0) < design.drawn[place] and bound != EVERY_HASH
        ]
        if short:  # it happens once in a million million draws
            await self._draw(tx, key, question, seed, design, dict.fromkeys(short, EVERY_HASH))

    async def _draw(
        self,
        tx: Transaction,
        key: AuditKey,
        question: str,
        seed: int,
        design: Design,
        bounds: Mapping[int, bytes],
    ) -> dict[int, int]:
        """Draw from strata those labels of the sample that have a hash below the stratum's bound; returns how many."""
        cells = [(cell, place) for place in bounds for cell in design.strata[place].cells]
        rows = await tx.fetch(
            SQL.draw_sample,
            *key.columns,
            question,
            str(seed),
            [cell.source for cell, _ in cells],
            [cell.class_id for cell, _ in cells],
            [cell.band for cell, _ in cells],
            [place for _, place in cells],
            [design.drawn[place] for _, place in cells],
            [bounds[place] for _, place in cells],
        )
        return {row["stratum"]: row["labels"] for row in rows}

    async def audit(self, rows: Rows, key: AuditKey) -> AuditRow | None:
        """An audit."""
        row = await rows.fetchrow(SQL.audit, *key.columns)
        return _audit(row) if row else None

    async def lock_audit(self, tx: Transaction, key: AuditKey) -> AuditRow | None:
        """An audit, held against other changes until the end of the transaction."""
        row = await tx.fetchrow(SQL.lock_audit, *key.columns)
        return _audit(row) if row else None

    async def audits_before(
        self, rows: Rows, tenant: str, project: str, before: str, most: int
    ) -> list[AuditRow]:
        """A project's audits, newest first, from after `before` (empty: from the newest)."""
        return [_audit(row) for row in await rows.fetch(SQL.audits_before, tenant, project, before, most)]

    async def end_audit(self, tx: Transaction, key: AuditKey, phase: AuditPhase) -> None:
        """Write down how it ended."""
        await tx.execute(SQL.end_audit, *key.columns, phase.value)

    async def strata(self, rows: Rows, audits: Sequence[AuditKey]) -> Mapping[AuditId, list[StratumCount]]:
        """The strata of audits of one project, counted from their samples."""
        strata: dict[AuditId, list[StratumCount]] = {key.audit: [] for key in audits}
        if audits:
            first = audits[0]
            for row in await rows.fetch(SQL.strata, first.tenant, first.project, list(strata)):
                strata[row["audit"]].append(_stratum(row))
        return strata

    async def any_open(self, rows: Rows, key: AuditKey) -> bool:
        """Whether anything that was drawn still waits for its review."""
        return bool(await rows.fetchval(SQL.any_open, *key.columns))

    async def open_sample(self, tx: Transaction, key: AuditKey, item: ItemKey) -> OpenSample | None:
        """A drawn label that is not judged yet; None for any other item."""
        row = await tx.fetchrow(SQL.open_sample, *key.columns, item)
        if row is None:
            return None
        return OpenSample(
            row["label_revision"], Answer.FromString(row["label_answer"]), row["reviews_wanted"]
        )

    async def settle_sample(
        self, tx: Transaction, key: AuditKey, item: ItemKey, outcome: str, note: str = ""
    ) -> None:
        """Close a drawn label as `right`, `wrong` or `excluded`."""
        await tx.execute(SQL.settle_sample, *key.columns, item, outcome, note)

    async def leave_out(self, tx: Transaction, key: AuditKey, items: Sequence[ItemKey], note: str) -> None:
        """Close those of these drawn labels that are open: they will not be judged."""
        await tx.execute(SQL.leave_out, *key.columns, items, note)

    async def want_another_review(self, tx: Transaction, key: AuditKey, item: ItemKey, reviews: int) -> None:
        """Have so many reviews in all asked for."""
        await tx.execute(SQL.want_another_review, *key.columns, item, reviews)

    async def insert_finding(
        self,
        tx: Transaction,
        key: AuditKey,
        item: ItemKey,
        *,
        judgement: Judgement,
        review_answer: Answer | None,
        reviewer: str,
        annotation: str,
    ) -> bool:
        """Write a finding; False when this review was counted before."""
        answer = review_answer.SerializeToString() if review_answer is not None else b""
        inserted = await tx.fetchval(
            SQL.insert_finding,
            *key.columns,
            names.last_part(annotation),
            item,
            judgement.value,
            answer,
            reviewer,
            annotation,
        )
        return bool(inserted)

    async def findings_after(
        self, rows: Rows, key: AuditKey, after: str, wrong_only: bool, most: int, most_bytes: int
    ) -> list[FindingRow]:
        """An audit's findings by id, from after `after`: `most` at most, up to the first that goes beyond `most_bytes`."""
        found = await rows.fetch(SQL.findings_after, *key.columns, after, wrong_only, most, most_bytes)
        return [_finding(row) for row in found]

    async def labels_to_read(self, rows: Rows, most: int) -> list[UnreadLabel]:
        """The drawn labels, of every tenant, whose answers must be read now."""
        return [
            UnreadLabel(_key(row), row["item"], row["question"], row["label_revision"])
            for row in await rows.fetch(SQL.labels_to_read, most)
        ]

    async def label_read(self, rows: Rows, label: UnreadLabel, answer: Answer) -> None:
        """What a drawn label said is known now."""
        await rows.execute(SQL.label_read, *label.key.columns, label.item, answer.SerializeToString())

    async def audits_to_ask_for(self, rows: Rows) -> list[AuditKey]:
        """The audits, of every tenant, with reviews that must be asked for now."""
        return [_key(row) for row in await rows.fetch(SQL.audits_to_ask_for)]

    async def samples_to_ask_for(self, rows: Rows, key: AuditKey, most: int) -> list[ReviewWish]:
        """The reviews of an audit that must be asked for now, those first that have waited for longest."""
        found = await rows.fetch(SQL.samples_to_ask_for, *key.columns, most)
        return [ReviewWish(row["item"], row["reviews_wanted"]) for row in found]

    async def reviews_agreed(
        self, tx: Transaction, key: AuditKey, agreed: Sequence[tuple[ReviewWish, str]]
    ) -> None:
        """Task-dispatch has opened these tasks for these wishes."""
        await tx.execute(
            SQL.reviews_agreed,
            *key.columns,
            [wish.item for wish, _ in agreed],
            [wish.reviews for wish, _ in agreed],
            [task for _, task in agreed],
        )

    async def reviews_refused(
        self, tx: Transaction, key: AuditKey, refused: Sequence[tuple[ItemKey, str]], most_refusals: int
    ) -> None:
        """A neighbour refused what the reviews of these need: ask later, or leave it out after so many times."""
        await tx.execute(
            SQL.reviews_refused,
            *key.columns,
            [item for item, _ in refused],
            [why for _, why in refused],
            most_refusals,
        )

    async def audits_to_call_off(self, rows: Rows) -> list[AuditKey]:
        """The cancelled audits, of every tenant, that have open review tasks."""
        return [_key(row) for row in await rows.fetch(SQL.audits_to_call_off)]

    async def tasks_to_call_off(self, rows: Rows, key: AuditKey, after: str, most: int) -> list[ReviewTask]:
        """Open review tasks of an audit, in the order of their names, from behind one of these (empty: from the first)."""
        found = await rows.fetch(SQL.tasks_to_call_off, *key.columns, after, most)
        return [ReviewTask(key, row["item"], row["task"]) for row in found]

    async def called_off(self, rows: Rows, task: ReviewTask) -> None:
        """A task was cancelled, or needs no cancelling any more."""
        await rows.execute(SQL.called_off, *task.key.columns, task.item, task.name)


def _key(row: Record) -> AuditKey:
    return AuditKey(row["tenant"], row["project"], row["audit"])


def _audit(row: Record) -> AuditRow:
    return AuditRow(
        key=_key(row),
        phase=AuditPhase(row["phase"]),
        question=row["question"],
        source=row["source"],
        max_error=row["max_error"],
        confidence=row["confidence"],
        seed=row["seed"],
        create_time=row["create_time"],
        end_time=row["end_time"],
    )


def _stratum(row: Record) -> StratumCount:
    return StratumCount(
        source=row["source"],
        class_id=row["class_id"],
        confidence_low=row["confidence_low"],
        confidence_high=row["confidence_high"],
        population=row["population"],
        sampled=row["sampled"],
        reviewed=row["reviewed"],
        wrong=row["wrong"],
        excluded=row["excluded"],
    )


def _finding(row: Record) -> FindingRow:
    return FindingRow(
        finding=row["finding"],
        item=row["item"],
        judgement=Judgement(row["judgement"]),
        review_answer=Answer.FromString(row["review_answer"]),
        reviewer=row["reviewer"],
        annotation=row["annotation"],
        create_time=row["create_time"],
        label_revision=row["label_revision"],
        label_answer=Answer.FromString(row["label_answer"]),
    )
