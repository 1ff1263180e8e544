"""The only caller of SQL. Statements are in sql/queries.sql; each method runs one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg

from cairn_inference.domain.features import Content
from cairn_inference.domain.routing import Route, Stop
from cairn_inference.records import (
    Featured,
    HeardLabel,
    ItemCounts,
    ItemRef,
    NewItem,
    NewThreshold,
    NewVersion,
    Overdue,
    Policy,
    Project,
    Routable,
    Routed,
    Run,
    RunState,
    Score,
    Threshold,
    TrainingRows,
    Unfeatured,
    Unscored,
    ValidationScore,
    Version,
)
from cairn_inference.rows import project_of, run_of, threshold_of, version_of
from cairn_kit.database import Database, Queries, Transaction

SQL = Queries.load("cairn_inference", "sql/queries.sql")

Reader = Database | Transaction
"""Reads alone may go outside a transaction."""

_NEW_COLUMNS = (
    "tenant", "project", "item", "validation", "gold", "hint", "content", "body", "blob", "feature_state", "feature_error",
    "route", "route_revision", "priority", "open", "label", "label_source", "label_confidence",
)  # fmt: skip

_FAR = datetime(9999, 1, 1, tzinfo=UTC)


class InferenceStore:
    """Projects, items, features, versions, runs and thresholds of all tenants."""

    # --- projects

    async def keep_project(
        self, tx: Transaction, tenant: str, project: str, revision: int, policy: Policy
    ) -> bool:
        """Write a project's policy unless a newer one is known; whether it was written."""
        tag = await tx.execute(
            SQL.upsert_project,
            tenant,
            project,
            revision,
            policy.question,
            policy.unroutable,
            list(policy.class_ids),
            policy.alpha,
            policy.delta,
            policy.validation_share,
            policy.min_answers,
            policy.max_answers,
            policy.automatic,
        )
        return tag.endswith(" 1")

    async def projects(self, tx: Reader, refs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Project]:
        """The known ones among projects (tenant, project)."""
        wanted = sorted(set(refs))
        rows = await tx.fetch(
            SQL.projects, [tenant for tenant, _ in wanted], [project for _, project in wanted]
        )
        return {(row["tenant"], row["project"]): project_of(row) for row in rows}

    async def project_for_update(self, tx: Transaction, tenant: str, project: str) -> Project | None:
        """A project, locked until the transaction ends."""
        row = await tx.fetchrow(SQL.project_for_update, tenant, project)
        return None if row is None else project_of(row)

    async def close_project(self, tx: Transaction, tenant: str, project: str) -> None:
        """End all work in a project that is to be deleted."""
        await tx.execute(SQL.close_project, tenant, project)

    async def withdraw_threshold(self, tx: Transaction, tenant: str, project: str) -> None:
        """No threshold is in force until a round passes."""
        await tx.execute(SQL.withdraw_threshold, tenant, project)

    async def lock_projects(self, tx: Transaction, refs: Iterable[tuple[str, str]]) -> None:
        """Let nobody else change these projects (tenant, project) until the transaction ends."""
        wanted = sorted(set(refs))
        await tx.execute(
            SQL.lock_projects, [tenant for tenant, _ in wanted], [project for _, project in wanted]
        )

    async def route_question(self, tx: Transaction, project: Project, question: str) -> None:
        """Take up the labels of another question; drop scores, and retire the serving version."""
        await tx.execute(SQL.route_question, project.tenant, project.id, project.routed_question, question)

    async def answers(self, reader: Reader) -> None:
        """Raise one of OUTAGES unless the database answers."""
        await reader.fetchval("SELECT 1")

    async def projects_with_work(self, reader: Reader) -> list[Project]:
        """Every project with a serving version."""
        return [project_of(row) for row in await reader.fetch(SQL.projects_with_work)]

    # --- items

    async def insert_items(self, tx: Transaction, items: Collection[NewItem]) -> Collection[ItemRef]:
        """Write items; those that were known before, which stay as they are.

        Nearly always everything is new: so it is copied, and only if that meets an item inserted row by row.
        """
        ordered = sorted(
            items, key=lambda item: item.ref
        )  # who writes the same items waits, and never deadlocks
        rows = [_new_row(item) for item in ordered]
        try:
            async with tx.savepoint():
                await tx.copy_records_to_table("item", records=rows, columns=_NEW_COLUMNS)
            return ()
        except asyncpg.UniqueViolationError:
            written = await tx.fetch(SQL.insert_items, *zip(*rows, strict=True))
            return {item.ref for item in ordered} - {_ref(row) for row in written}

    async def known_items(self, tx: Transaction, refs: Sequence[ItemRef]) -> set[ItemRef]:
        """Those of these items that are known."""
        return {_ref(row) for row in await tx.fetch(SQL.known_items, *_columns(refs))}

    async def keep_labels(self, tx: Transaction, labels: Sequence[HeardLabel]) -> None:
        """Write the newest of these labels of routed questions, where they are newer than what is known."""
        await tx.execute(
            SQL.keep_labels,
            [label.tenant for label in labels],
            [label.project for label in labels],
            [label.key for label in labels],
            [label.class_id for label in labels],
            [label.source for label in labels],
            [label.confidence for label in labels],
            [label.revision for label in labels],
        )

    async def keep_other_labels(self, tx: Transaction, labels: Sequence[HeardLabel]) -> None:
        """The same for labels of questions that are not routed."""
        if not labels:
            return
        await tx.execute(
            SQL.keep_other_labels,
            [label.tenant for label in labels],
            [label.project for label in labels],
            [label.question for label in labels],
            [label.key for label in labels],
            [label.class_id for label in labels],
            [label.source for label in labels],
            [label.confidence for label in labels],
            [label.revision for label in labels],
        )

    async def item_counts(self, reader: Reader, tenant: str, project: str) -> ItemCounts:
        """How many items went automatically, and how many are of the validation sample."""
        row = await reader.fetchrow(SQL.item_counts, tenant, project)
        return ItemCounts(row["auto"], row["validation"]) if row else ItemCounts(0, 0)

    # --- features

    async def items_to_featurise(self, reader: Reader, limit: int) -> list[Unfeatured]:
        """Items whose features are wanted now, longest waiting first."""
        return [
            Unfeatured(_ref(row), Content(row["content"]), row["body"], row["blob"], row["feature_tries"])
            for row in await reader.fetch(SQL.items_to_featurise, limit)
        ]

    async def keep_features(self, tx: Transaction, made: Sequence[tuple[ItemRef, str, bytes]]) -> None:
        """Write features: item, extraction, packed vector."""
        if made:
            await tx.execute(
                SQL.keep_features,
                *_columns([ref for ref, _, _ in made]),
                [spec for _, spec, _ in made],
                [vector for _, _, vector in made],
            )

    async def give_up_features(self, tx: Transaction, why: Sequence[tuple[ItemRef, str]]) -> None:
        """Note that there will be no features, and why."""
        if why:
            await tx.execute(
                SQL.give_up_features, *_columns([ref for ref, _ in why]), [reason for _, reason in why]
            )

    async def postpone_features(self, tx: Transaction, refs: Sequence[ItemRef]) -> None:
        """Try these again later, with growing pauses up to a minute."""
        if refs:
            await tx.execute(SQL.postpone_features, *_columns(refs))

    async def features_of(
        self, reader: Reader, tenant: str, project: str, keys: Sequence[str]
    ) -> dict[str, Featured]:
        """Features of the known ones among a project's items."""
        rows = await reader.fetch(SQL.features_of, tenant, project, list(keys))
        return {
            row["item"]: Featured(row["item"], row["spec"], row["vector"], row["feature_error"])
            for row in rows
        }

    # --- scores

    async def pass_over_other_features(self, tx: Transaction, project: Project, features: str) -> None:
        """Items with features that the serving version does not read count as looked at."""
        await tx.execute(
            SQL.pass_over_other_features, project.tenant, project.id, project.score_round, features
        )

    async def items_to_score(
        self, reader: Reader, project: Project, version: Version, limit: int
    ) -> list[Unscored]:
        """Items that the serving version has not looked at in this round."""
        rows = await reader.fetch(
            SQL.items_to_score,
            project.tenant,
            project.id,
            project.score_round,
            version.made.features,
            version.made.model,
            version.number,
            limit,
        )
        return [Unscored(row["item"], row["validation"], row["vector"], row["out_of_fold"]) for row in rows]

    async def keep_scores(self, tx: Transaction, project: Project, scores: Sequence[Score]) -> None:
        """Write what the serving version says."""
        await tx.execute(
            SQL.keep_scores,
            project.tenant,
            project.id,
            project.score_round,
            [score.key for score in scores],
            [score.predicted for score in scores],
            [score.score for score in scores],
            [score.margin for score in scores],
        )

    async def validation_scores(self, reader: Reader, project: Project) -> list[ValidationScore]:
        """The validation sample, as far as it is scored in this round, by item."""
        rows = await reader.fetch(
            SQL.validation_scores, project.tenant, project.id, project.score_round, project.policy.question
        )
        return [
            ValidationScore(
                row["item"],
                row["predicted"],
                row["score"],
                row["labeled"],
                row["through"],
                row["created_at"],
            )
            for row in rows
        ]

    async def doubtful_validation(
        self, reader: Reader, project: Project, confidence: float, limit: int
    ) -> list[str]:
        """Validation items that people settled with less confidence, and were not asked about again."""
        rows = await reader.fetch(SQL.doubtful_validation, project.tenant, project.id, confidence, limit)
        return [row["item"] for row in rows]

    async def answers_wished(self, tx: Transaction, project: Project, keys: Sequence[str]) -> None:
        """Note that people were asked for all the answers that these items may get."""
        await tx.execute(SQL.answers_wished, project.tenant, project.id, list(keys))

    async def let_through(self, tx: Transaction, project: Project) -> None:
        """Note which validation items the threshold in force lets through, if there is one."""
        await tx.execute(SQL.let_through, project.tenant, project.id)

    async def answers_let_through(self, reader: Reader, project: Project) -> dict[str, str]:
        """The validation items that thresholds have let through so far, with the answer each went with."""
        rows = await reader.fetch(
            SQL.answers_let_through, project.tenant, project.id, project.policy.question
        )
        return {row["item"]: row["answer"] for row in rows}

    async def pool_items(self, reader: Reader, project: Project) -> int:
        """How many items there are from which the validation sample was drawn, without it."""
        count: int = await reader.fetchval(SQL.pool_items, project.tenant, project.id)
        return count

    async def scores_since(self, reader: Reader, project: Project, since: datetime) -> list[float]:
        """Scores of items that came later, outside the validation sample."""
        rows = await reader.fetch(SQL.scores_since, project.tenant, project.id, project.score_round, since)
        return [row["score"] for row in rows]

    async def validation_features(
        self, reader: Reader, project: Project, until: datetime, limit: int
    ) -> list[bytes]:
        """Packed features of at most `limit` validation items that were there by then, a fixed choice."""
        rows = await reader.fetch(
            SQL.validation_features, project.tenant, project.id, project.score_round, until, limit
        )
        return [row["vector"] for row in rows]

    async def features_since(
        self, reader: Reader, project: Project, since: datetime, limit: int
    ) -> list[bytes]:
        """Packed features of at most `limit` items that came later, outside the validation sample, a fixed choice."""
        rows = await reader.fetch(
            SQL.features_since, project.tenant, project.id, project.score_round, since, limit
        )
        return [row["vector"] for row in rows]

    async def open_coverage(self, tx: Transaction, project: Project, threshold: float) -> float:
        """Share of the open items that reach a threshold."""
        share: float = await tx.fetchval(
            SQL.open_coverage, project.tenant, project.id, project.score_round, threshold
        )
        return share

    # --- thresholds and routes

    async def end_round(
        self, tx: Transaction, project: Project, found: NewThreshold, *, in_force: bool
    ) -> Threshold:
        """Write a round's threshold, put it in force or leave none, and begin a routing round."""
        number = project.thresholds + 1
        row = await tx.fetchrow(
            SQL.insert_threshold,
            project.tenant,
            project.id,
            number,
            found.score,
            found.alpha,
            found.delta,
            found.round,
            found.round_delta,
            found.validation_items,
            found.validation_errors,
            found.error_upper_bound,
            found.coverage,
            found.model,
            found.model_version,
        )
        await tx.execute(
            SQL.end_round, project.tenant, project.id, number if in_force else None, found.validation_items
        )
        await self.let_through(tx, project)
        return threshold_of(row)

    async def threshold(self, reader: Reader, project: Project) -> Threshold | None:
        """The threshold in force."""
        if project.threshold is None:
            return None
        row = await reader.fetchrow(SQL.threshold, project.tenant, project.id, project.threshold)
        return None if row is None else threshold_of(row)

    async def begin_routing_round(self, tx: Transaction, project: Project) -> None:
        """Every open item is to be routed again, by the scores of this round."""
        await tx.execute(SQL.begin_routing_round, project.tenant, project.id)

    async def items_to_route(self, tx: Transaction, project: Project, limit: int) -> list[Routable]:
        """Open items behind the routing round, locked."""
        rows = await tx.fetch(
            SQL.items_to_route, project.tenant, project.id, project.route_round, project.score_round, limit
        )
        return [
            Routable(
                row["item"],
                row["score"],
                row["margin"],
                row["predicted"],
                row["gold"],
                Route(row["route"]),
                row["priority"],
                row["route_revision"],
            )
            for row in rows
        ]

    async def keep_routes(self, tx: Transaction, project: Project, routes: Sequence[Routed]) -> None:
        """Write where items go."""
        await tx.execute(
            SQL.keep_routes,
            project.tenant,
            project.id,
            project.route_round,
            [routed.key for routed in routes],
            [int(routed.route) for routed in routes],
            [routed.priority for routed in routes],
            [routed.revision for routed in routes],
        )

    async def overdue_items(self, tx: Transaction, patience: float, limit: int) -> list[Overdue]:
        """Items that have waited for their score longer than `patience` seconds, or will get none."""
        rows = await tx.fetch(SQL.overdue_items, patience, limit)
        return [Overdue(_ref(row), row["hint"], row["route_revision"]) for row in rows]

    async def send_to_people(self, tx: Transaction, items: Sequence[tuple[ItemRef, float, int]]) -> None:
        """Route items to people: item, priority, revision."""
        await tx.execute(
            SQL.send_to_people,
            *_columns([ref for ref, _, _ in items]),
            [priority for _, priority, _ in items],
            [revision for _, _, revision in items],
        )

    async def set_stop(self, tx: Transaction, tenant: str, project: str, stop: Stop, reason: str) -> None:
        """Stop automatic labeling."""
        await tx.execute(SQL.set_stop, tenant, project, int(stop), reason)

    async def clear_stop(self, tx: Transaction, tenant: str, project: str) -> None:
        """Let a round decide again."""
        await tx.execute(SQL.clear_stop, tenant, project)

    async def set_drift_items(self, tx: Transaction, project: Project, items: int) -> None:
        """Note on how many new items drift was last tested."""
        await tx.execute(SQL.set_drift_items, project.tenant, project.id, items)

    # --- training

    async def projects_to_train(self, reader: Reader, min_interval: float) -> list[tuple[str, str]]:
        """Projects with new labels, no run under way, and none asked for within so many seconds."""
        return [
            (row["tenant"], row["project"]) for row in await reader.fetch(SQL.projects_to_train, min_interval)
        ]

    async def label_counts(self, reader: Reader, project: Project) -> dict[str, Counter[str]]:
        """Labels of each class that may be trained on, by feature extraction."""
        counts: dict[str, Counter[str]] = {}
        rows = await reader.fetch(
            SQL.label_counts, project.tenant, project.id, list(project.policy.class_ids)
        )
        for row in rows:
            counts.setdefault(row["spec"], Counter())[row["label"]] = row["labels"]
        return counts

    async def labels_counted(self, tx: Transaction, project: Project) -> None:
        """Note that nothing has changed since the labels were counted."""
        await tx.execute(SQL.labels_counted, project.tenant, project.id)

    async def insert_run(self, tx: Transaction, project: Project, run: str, labels: int) -> Run | None:
        """Ask for a training; None when one is under way."""
        row = await tx.fetchrow(SQL.insert_run, project.tenant, project.id, run, labels)
        if row is None:
            return None
        await tx.execute(SQL.note_run, project.tenant, project.id, labels)
        return run_of(row)

    async def next_run(self, tx: Transaction) -> Run | None:
        """The oldest run that has not ended, now RUNNING. Only for the holder of the trainer's lock."""
        row = await tx.fetchrow(SQL.next_run)
        return None if row is None else run_of(row)

    async def run(self, reader: Reader, tenant: str, project: str, run: str) -> Run | None:
        """A training run."""
        row = await reader.fetchrow(SQL.run, tenant, project, run)
        return None if row is None else run_of(row)

    async def run_for_update(self, tx: Transaction, tenant: str, project: str, run: str) -> Run | None:
        """A training run, locked."""
        row = await tx.fetchrow(SQL.run_for_update, tenant, project, run)
        return None if row is None else run_of(row)

    async def active_run(self, tx: Transaction, tenant: str, project: str) -> Run | None:
        """A project's run that has not ended, locked."""
        row = await tx.fetchrow(SQL.active_run, tenant, project)
        return None if row is None else run_of(row)

    async def runs(
        self, reader: Reader, tenant: str, project: str, before: str | None, limit: int
    ) -> list[Run]:
        """A project's runs, newest first; ids are ordered by time."""
        rows = await reader.fetch(SQL.runs, tenant, project, before or "\uffff", limit)
        return [run_of(row) for row in rows]

    async def end_run(
        self,
        tx: Transaction,
        run: Run,
        state: RunState,
        *,
        version: Version | None = None,
        error: tuple[int, str, str] = (0, "", ""),
    ) -> Run:
        """End a run, with the version it made or with why it made none (code, reason, message).

        A finished one tells the labels that it learned from: more may have come in since it was asked for.
        """
        row = await tx.fetchrow(
            SQL.end_run,
            run.tenant,
            run.project,
            run.id,
            int(state),
            version.made.model if version else None,
            version.number if version else None,
            *error,
            version.made.training_labels if version else None,
        )
        return run_of(row)

    async def training_rows(self, reader: Reader, project: Project, spec: str, limit: int) -> TrainingRows:
        """Finished labels by people with features, never of the validation sample; a fixed choice when too many."""
        rows = await reader.fetch(
            SQL.training_rows, project.tenant, project.id, spec, list(project.policy.class_ids), limit
        )
        return TrainingRows(
            [row["item"] for row in rows],
            [row["label"] for row in rows],
            [row["label_confidence"] for row in rows],
            [row["vector"] for row in rows],
        )

    # --- versions

    async def insert_version(self, tx: Transaction, tenant: str, project: str, made: NewVersion) -> Version:
        """Add a version; the caller holds the project's lock, which numbers versions one after the other."""
        number = await tx.fetchval(SQL.next_version, tenant, project, made.model)
        judged = made.evaluation
        row = await tx.fetchrow(
            SQL.insert_version,
            tenant,
            project,
            made.model,
            number,
            made.sha256,
            made.features,
            list(made.class_ids),
            made.training_labels,
            judged.accuracy if judged else None,
            judged.log_loss if judged else None,
            judged.calibration_error if judged else None,
            judged.labels if judged else None,
            judged.temperature if judged else None,
            made.training_run,
        )
        return version_of(row)

    async def insert_out_of_fold(
        self, tx: Transaction, version: Version, keys: Sequence[str], probabilities: Sequence[bytes]
    ) -> None:
        """Keep what a version says of the items it was trained on."""
        await tx.execute(
            SQL.insert_out_of_fold,
            version.tenant,
            version.project,
            version.made.model,
            version.number,
            list(keys),
            list(probabilities),
        )

    async def out_of_fold(self, reader: Reader, version: Version, keys: Sequence[str]) -> dict[str, bytes]:
        """What a version says of those of these items that it was trained on."""
        rows = await reader.fetch(
            SQL.out_of_fold, version.tenant, version.project, version.made.model, version.number, list(keys)
        )
        return {row["item"]: row["probabilities"] for row in rows}

    async def version(
        self, reader: Reader, tenant: str, project: str, model: str, number: int
    ) -> Version | None:
        """A model version."""
        row = await reader.fetchrow(SQL.version, tenant, project, model, number)
        return None if row is None else version_of(row)

    async def serving(self, reader: Reader, project: Project) -> Version | None:
        """The version that serves."""
        if project.serving_model is None or project.serving_version is None:
            return None
        return await self.version(
            reader, project.tenant, project.id, project.serving_model, project.serving_version
        )

    async def versions(
        self,
        reader: Reader,
        tenant: str,
        project: str,
        model: str,
        before: tuple[datetime, str, int] | None,
        limit: int,
    ) -> list[Version]:
        """Versions of a model, or of all (`-`), newest first."""
        moment, last_model, number = before or (_FAR, "", 0)
        rows = await reader.fetch(SQL.versions, tenant, project, model, moment, last_model, number, limit)
        return [version_of(row) for row in rows]

    async def promote(self, tx: Transaction, version: Version) -> Version:
        """Make a version the one that serves, withdraw the threshold, and begin a scoring round."""
        await tx.fetch(SQL.retire_serving, version.tenant, version.project)
        row = await tx.fetchrow(
            SQL.make_serving, version.tenant, version.project, version.made.model, version.number
        )
        await tx.execute(
            SQL.begin_scoring_round, version.tenant, version.project, version.made.model, version.number
        )
        return version_of(row)


def _new_row(item: NewItem) -> tuple[Any, ...]:
    """The columns _NEW_COLUMNS of an item."""
    known = item.gold_class is not None
    return (
        *item.ref, item.validation, item.gold, item.hint, int(item.content), item.body, item.blob,
        2 if item.feature_error else 0, item.feature_error, int(item.route), 0 if item.route is Route.PENDING else 1,
        item.priority, not known, item.gold_class, 3 if known else 0, 1.0 if known else 0.0,
    )  # fmt: skip


def _ref(row: Any) -> ItemRef:
    return ItemRef(row["tenant"], row["project"], row["item"])


def _columns(refs: Sequence[ItemRef]) -> tuple[list[str], list[str], list[str]]:
    return [ref.tenant for ref in refs], [ref.project for ref in refs], [ref.key for ref in refs]
