"""Gathers what a report shows, and writes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cairn.annotation.v1.annotation_store_pb2 import Label, Project, ProjectProgress
from cairn.audit.v1.audit_pb2 import Audit, AuditState
from cairn.consensus.v1.consensus_pb2 import Reliability
from cairn.label.v1.label_schema_pb2 import Question
from cairn_client.aio import AsyncCairn
from cairn_client.answers import value_of
from cairn_client.errors import CairnError, InputError
from cairn_client.frames import SOURCES
from cairn_client.names import labeler_id, last_part
from cairn_client.replay.outcome import Outcome, same
from cairn_client.replay.question import Kind
from cairn_client.report import figures
from cairn_client.report.history import Historian, History
from cairn_client.report.page import Card, Html, meter, page, percent, table

_MOST_LABELERS = 100
_KINDS = {kind.value: kind for kind in Kind}


@dataclass(frozen=True, slots=True)
class Material:
    """Everything that a report is made of."""

    project: Project
    question: Question
    progress: ProjectProgress
    history: History
    reliabilities: tuple[Reliability, ...]
    audits: tuple[Audit, ...]
    has_truth: bool
    outcome: Outcome | None
    price: float
    missing: tuple[str, ...]


async def write_report(
    client: AsyncCairn,
    project: str,
    file: Path,
    *,
    question: str = "",
    truth: Mapping[str, str] | None = None,
    outcome: Outcome | None = None,
    price: float = 0.0,
) -> None:
    """Write a project's report. `truth` ({item key: class id or value}) adds accuracies; `price` is of one answer.

    Raises NotFound for an unknown project, InputError for an unknown question.
    """
    material = await gather(client, project, question, truth or {}, outcome, price)
    _write(file, render(material))


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror}.") from None


async def gather(
    client: AsyncCairn,
    project: str,
    question: str,
    truth: Mapping[str, str],
    outcome: Outcome | None,
    price: float,
) -> Material:
    """Ask the services for everything that the report shows."""
    found = await client.projects.get(project)
    asked = _question(found, question)
    kind = _KINDS.get(asked.WhichOneof("kind") or "", Kind.TEXT)

    def is_right(key: str, label: Label) -> bool | None:
        if key not in truth:
            return None
        value = value_of(label.answer)
        return same(kind, None if value is None else str(value), truth[key])

    historian = Historian(last_part(found.name), asked.id, is_right)
    missing: list[str] = []
    history, reliabilities, audits = historian.history, [], []
    try:
        head = await client.ledger.checkpoint()
        history = await historian.read(client.ledger.entries(0, head.size))
    except CairnError as error:
        missing.append(f"The history is missing: {error}")
    try:
        reliabilities = [one async for one in client.labelers.reliabilities(project, asked.id)]
    except CairnError as error:
        missing.append(f"The labelers' reliabilities are missing: {error}")
    try:
        audits = [one async for one in client.audits.list(project)]
    except CairnError as error:
        missing.append(f"The audits are missing: {error}")
    return Material(
        found,
        asked,
        await client.projects.progress(project),
        history,
        tuple(reliabilities),
        tuple(audits),
        bool(truth),
        outcome,
        price,
        tuple(missing),
    )


def _question(project: Project, wanted: str) -> Question:
    questions = {one.id: one for one in project.schema.questions}
    if not wanted:
        return project.schema.questions[0]
    if wanted not in questions:
        raise InputError(f"The project has no question {wanted!r}; it has {', '.join(questions)}.")
    return questions[wanted]


def render(material: Material) -> str:
    """The page."""
    progress = material.progress
    title = material.project.display_name or last_part(material.project.name)
    subtitle = f"{material.question.title or material.question.id} · {progress.items:,} items"
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    footer = (
        f"Made {now} from {material.history.entries:,} entries of the ledger. {' '.join(material.missing)}"
    )
    return page(title, subtitle, _tiles(material), _cards(material), footer)


def _tiles(material: Material) -> list[tuple[str, str]]:
    progress, history = material.progress, material.history
    last = history.points[-1] if history.points else None
    tiles = [("of the items are labeled", percent(progress.labeled_items / max(1, progress.items)))]
    if material.outcome is not None and material.outcome.accuracy is not None:
        tiles.append(("of the labels are right", percent(material.outcome.accuracy)))
    elif material.has_truth and last is not None and last.judged:
        tiles.append(("of the labels with known truth are right", percent(last.right / last.judged)))
    elif last is not None:
        tiles.append(("mean confidence of the labels", percent(last.confidence)))
    tiles.append(("answers by people", f"{progress.annotations:,}"))
    if material.outcome is not None:
        outcome = material.outcome
        share = outcome.answers_used / max(1, outcome.answers_recorded)
        tiles.append(("of the recorded answers were needed", percent(share)))
        tiles.append(("majority vote on all answers", percent(outcome.majority_accuracy)))
    tiles.append(("labeled by a model alone", f"{progress.auto_items:,}"))
    if material.price:
        tiles.append(("spent on answers", f"{material.price * progress.annotations:,.2f}"))
    return tiles


def _cards(material: Material) -> list[Card]:
    history = material.history
    cards = []
    if history.points:
        plot = figures.progress_figure(history, material.progress.items, with_truth=material.has_truth)
        note = (
            "Against the recorded truth." if material.has_truth else "No truth was given: confidence instead."
        )
        quality = "Accuracy" if material.has_truth else "Confidence"
        cards.append(Card(f"{quality} and coverage", note, (Html(plot),)))
    cards.append(_sources(material))
    if history.answers_per_item:
        note = f"{history.answers / max(1, len(history.answers_per_item)):.2f} on average."
        cards.append(Card("Answers per item", note, (Html(figures.redundancy_figure(history)),)))
    cards.append(_cost(material))
    if history.versions:
        cards += _model_cards(history)
    if material.reliabilities:
        cards += _labeler_cards(material.reliabilities)
    cards.append(_audit_card(material.audits))
    return cards


def _sources(material: Material) -> Card:
    progress, outcome = material.progress, material.outcome
    counts = {
        "consensus": progress.consensus_items,
        "auto": progress.auto_items,
        "audit": progress.corrected_items,
        "gold": progress.gold_items,
    }
    rows = []
    for source, count in counts.items():
        accuracy = outcome.accuracy_by_source.get(source) if outcome is not None else None
        rows.append((source, count, meter(count / max(1, progress.items)), percent(accuracy)))
    note = "consensus: people's answers taken together; auto: a model alone; audit: a reviewer."
    return Card("Where the labels came from", note, (table(("source", "items", "share", "accuracy"), rows),))


def _cost(material: Material) -> Card:
    history, progress = material.history, material.progress
    labeled = max(1, progress.labeled_items)
    rows: list[tuple[str, int | float | str]] = [
        ("answers to find labels", history.answers - history.gold_answers),
        ("answers on gold", history.gold_answers),
        ("reviews", history.reviews),
        ("late answers (kept and used)", history.late),
        ("answers per labeled item", history.answers / labeled),
    ]
    if material.outcome is not None:
        saved = material.outcome.answers_recorded - material.outcome.answers_used
        rows.append(("recorded answers not needed", saved))
    if material.price:
        rows.append(
            (f"cost at {material.price:g} an answer", f"{material.price * progress.annotations:,.2f}")
        )
        rows.append(("cost per labeled item", f"{material.price * progress.annotations / labeled:,.4f}"))
    return Card("Cost", "What people were asked for.", (table(("", ""), rows),))


def _model_cards(history: History) -> list[Card]:
    rows = [
        (
            last_part(version.name),
            at,
            version.training_labels,
            percent(version.evaluation.accuracy),
            percent(version.evaluation.calibration_error),
            Html('<span class="good">put to work</span>')
            if version.name in history.promoted
            else "not promoted",
        )
        for at, version in history.versions
    ]
    header = ("version", "after answers", "trained on", "accuracy", "calibration error", "")
    cards = [
        Card(
            "Model versions",
            "Evaluated on labels that each had not seen.",
            (Html(figures.model_figure(history)), table(header, rows[-12:])),
        )
    ]
    if any(threshold.score <= 1 for _, threshold in history.thresholds):
        last = history.thresholds[-1][1]
        note = (
            f"With confidence {1 - last.delta:.0%}, error among items labeled by the model alone is at most"
            f" {last.alpha:g}."
        )
        cards.append(Card("How far the model is trusted", note, (Html(figures.threshold_figure(history)),)))
    else:
        note = "No threshold has passed the bound: the model answered nothing alone."
        cards.append(Card("How far the model is trusted", note))
    return cards


def _labeler_cards(reliabilities: tuple[Reliability, ...]) -> list[Card]:
    people = [one for one in reliabilities if one.labeler.startswith("labelers/")]
    measured = [one for one in people if one.accuracy > 0]
    rows = [
        (
            labeler_id(one.labeler),
            one.votes,
            meter(one.accuracy),
            f"{one.accuracy_low:.2f} to {one.accuracy_high:.2f}" if one.accuracy_high else "",
            f"{one.gold_correct} of {one.gold_votes}" if one.gold_votes else "–",
        )
        for one in sorted(people, key=lambda one: -one.votes)[:_MOST_LABELERS]
    ]
    listed = table(("labeler", "answers", "expected accuracy", "95% interval", "gold right"), rows)
    note = (
        f"The {len(rows)} busiest of {len(people):,}."
        if len(people) > len(rows)
        else f"{len(people):,} labelers."
    )
    cards = []
    if measured:
        plot = figures.reliability_figure([(o.accuracy, o.accuracy_low, o.accuracy_high) for o in measured])
        cards.append(
            Card("Reliability of labelers", "With 95% intervals, as consensus sees it.", (Html(plot),))
        )
    return [*cards, Card("Labelers", note, (listed,), wide=True)]


def _audit_card(audits: tuple[Audit, ...]) -> Card:
    if not audits:
        return Card(
            "Audits", "No audit has been made yet: cairn replay --audit, or audits.create in the SDK."
        )
    rows = []
    for one in audits:
        state = AuditState.Name(one.state).removeprefix("AUDIT_STATE_").lower()
        colour = {"passed": "good", "failed": "bad"}.get(state, "")
        rows.append(
            (
                Html(f'<span class="{colour}">{state}</span>'),
                SOURCES.get(one.plan.source) or "all",
                f"{one.reviewed:,} of {one.sampled:,}",
                one.wrong,
                percent(one.error_estimate, 2),
                f"{percent(one.error_low, 2)} to {percent(one.error_high, 2)}",
                one.verdict,
            )
        )
    header = ("", "labels", "judged", "wrong", "estimated error", "interval", "verdict")
    note = "A stratified sample, judged by reviewers; the interval is for all audited labels."
    return Card("Audits", note, (table(header, rows),), wide=True)
