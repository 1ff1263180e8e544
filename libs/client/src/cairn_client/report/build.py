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
from cairn_client.names import item_key, labeler_id, last_part, question_of
from cairn_client.replay.outcome import FinalLabel, Grade, Outcome, grade, grade_by_source, same
from cairn_client.replay.question import Kind
from cairn_client.report import figures
from cairn_client.report.history import Historian, History
from cairn_client.report.page import Card, Html, meter, page, percent, table
from cairn_client.words import counted

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
    standing: Grade
    """The labels that stand for the question, the corrections by audits among them."""
    by_source: Mapping[str, Grade]
    """The same labels by their source."""
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
) -> Material:
    """Write a project's report. `truth` ({item key: class id or value}) adds accuracies; `price` is of one answer.

    Returns what it was made of, for whoever shows the same figures elsewhere.
    Raises NotFound for an unknown project, InputError for an unknown question.
    """
    material = await gather(client, project, question, truth or {}, outcome, price)
    _write(file, render(material))
    return material


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
        return same(kind, _value(label), truth[key])

    labels = {
        item_key(label.name): FinalLabel(_value(label), SOURCES[label.source], label.confidence)
        async for label in client.labels(project)
        if question_of(label.name) == asked.id
    }
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
        grade(kind, labels, truth),
        grade_by_source(kind, labels, truth),
        outcome,
        price,
        tuple(missing),
    )


def _value(label: Label) -> str | None:
    value = value_of(label.answer)
    return None if value is None else str(value)


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
        tiles.append(("of the items with known truth have a right label", percent(material.outcome.accuracy)))
    elif material.standing.judged:
        tiles.append(
            (
                f"of the {material.standing.judged:,} labels with known truth are right",
                percent(material.standing.accuracy, 2),
            )
        )
    elif last is not None:
        tiles.append(("mean confidence of the labels", percent(last.confidence)))
    tiles.append(("answers by people, reviews included", f"{progress.annotations:,}"))
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
            "Against the truth given to this report."
            if material.has_truth
            else "No truth was given: confidence instead."
        )
        quality = "Accuracy" if material.has_truth else "Confidence"
        cards.append(Card(f"{quality} and coverage", note, (Html(plot),)))
    cards.append(_sources(material))
    if history.answers_per_item:
        asked = len(history.answers_per_item)
        note = (
            f"{history.answers / asked:.2f} on average over the {asked:,} items that people answered;"
            " reviews are not counted, and on some of these a model's label may stand."
        )
        cards.append(Card("Answers per item", note, (Html(figures.redundancy_figure(history)),)))
    cards.append(_cost(material))
    if history.versions:
        cards += _model_cards(history)
    if material.reliabilities:
        cards += _labeler_cards(material.reliabilities)
    cards.append(_audit_card(material.audits))
    return cards


def _sources(material: Material) -> Card:
    items, standing = max(1, material.progress.items), material.standing
    rows = [
        (source, one.labels, meter(one.labels / items), percent(one.accuracy, 2))
        for source, one in material.by_source.items()
    ]
    note = (
        "The labels that stand now, by their latest source. consensus: people's answers taken together;"
        " auto: a model alone; audit: a reviewer's correction, in place of a label that was wrong."
    )
    if material.has_truth:
        note += (
            f" Accuracy is against the truth given to this report, which covers {standing.judged:,} of the"
            f" {standing.labels:,} labels; what audits corrected counts as corrected."
        )
    return Card("Where the labels came from", note, (table(("source", "labels", "share", "accuracy"), rows),))


def _cost(material: Material) -> Card:
    history, progress = material.history, material.progress
    labeled = max(1, progress.labeled_items)
    rows: list[tuple[str, int | float | str]] = [
        ("answers to find labels", history.answers - history.gold_answers),
        ("answers on gold items", history.gold_answers),
        ("reviews of labels", history.reviews),
        ("all answers by people", history.answers + history.reviews),
        ("  of these late (kept and used)", history.late),
        ("answers without reviews, per labeled item, a model's included", history.answers / labeled),
    ]
    if material.outcome is not None:
        saved = material.outcome.answers_recorded - material.outcome.answers_used
        rows.append(("recorded answers not needed", saved))
    if material.price:
        rows.append(
            (
                f"cost at {material.price:g} an answer, reviews included",
                f"{material.price * progress.annotations:,.2f}",
            )
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
    listed = table(("labeler", "answers", "expected accuracy", "95% interval", "right of known"), rows)
    note = (
        f"The {len(rows)} busiest of {len(people):,}."
        if len(people) > len(rows)
        else f"{counted(len(people), 'labeler')}."
    )
    note += " Right of known: answers to items whose truth gold or a reviewer's correction has told."
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
