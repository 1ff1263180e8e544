"""A report is one page that loads nothing, tells the project's history, and cannot be made to run anything."""

import re

import pytest

from cairn.annotation.v1 import annotation_store_pb2 as store
from cairn.audit.v1.audit_pb2 import Audit, LedgerRecord
from cairn.consensus.v1.consensus_pb2 import Reliability
from cairn.events.v1.annotation_store_events_pb2 import AnnotationSubmitted, LabelFinalized
from cairn.events.v1.inference_events_pb2 import ModelPromoted, ModelVersionCreated, ThresholdSet
from cairn.inference.v1.inference_pb2 import Evaluation, ModelVersion, Threshold
from cairn.label.v1.label_schema_pb2 import Question
from cairn.label.v1.label_value_pb2 import Answer
from cairn_client.replay.outcome import Grade
from cairn_client.report.build import Material, render
from cairn_client.report.history import Historian, History

EVIL = "<script>alert(1)</script>$\\frac{x}$\"'&"


def record(message: object, project: str = "p") -> LedgerRecord:
    kind = type(message)
    return LedgerRecord(
        project=project,
        event_type=kind.DESCRIPTOR.full_name,  # type: ignore[attr-defined]
        data=message.SerializeToString(),  # type: ignore[attr-defined]
    )


def answered(item: str) -> LedgerRecord:
    annotation = store.Annotation(kind=store.ANNOTATION_KIND_LABEL)
    return record(AnnotationSubmitted(annotation=annotation, item=f"projects/p/items/{item}"))


def labeled(item: str, choice: str, source: store.LabelSource.ValueType) -> LedgerRecord:
    label = store.Label(answer=Answer(question="q", choice=choice), source=source, confidence=0.9)
    return record(LabelFinalized(label=label, item=f"projects/p/items/{item}", question="q"))


def historian() -> Historian:
    return Historian(
        "p", "q", lambda key, label: label.answer.choice == "right" if key != "unknown" else None
    )


def test_history_counts_answers_labels_and_what_is_right_as_they_change() -> None:
    reader = historian()
    for event in (
        answered("a"),
        answered("a"),
        labeled("a", "wrong", store.LABEL_SOURCE_CONSENSUS),
        answered("b"),
        labeled("a", "right", store.LABEL_SOURCE_CORRECTION),
        labeled("b", "right", store.LABEL_SOURCE_AUTO),
        labeled("unknown", "x", store.LABEL_SOURCE_CONSENSUS),
        record(AnnotationSubmitted(item="projects/other/items/a"), project="other"),
    ):
        reader.add(event)
    reader._mark(force=True)

    last = reader._points[-1]
    assert (last.answers, last.labeled, last.auto, last.right, last.judged) == (3, 3, 1, 2, 2)
    assert reader.history.answers_per_item == {"a": 2, "b": 1}
    assert reader.history.entries == 7


def test_a_long_history_keeps_few_points() -> None:
    reader = historian()
    for number in range(5000):
        reader.add(answered(f"i{number}"))

    assert 400 <= len(reader._points) <= 801
    assert reader._points[-1].answers > 4900


def material(history: History, **changes: object) -> Material:
    told: dict[str, object] = {
        "project": store.Project(name="projects/p", display_name=EVIL),
        "question": Question(id="q", title=EVIL),
        "progress": store.ProjectProgress(
            items=3, labeled_items=3, consensus_items=2, auto_items=1, annotations=3
        ),
        "history": history,
        "reliabilities": (
            Reliability(
                labeler="labelers/" + "%3Cimg%20src%3Dx%3E",
                votes=3,
                accuracy=0.8,
                accuracy_low=0.5,
                accuracy_high=0.9,
            ),
        ),
        "audits": (Audit(state=2, verdict=EVIL, sampled=10, reviewed=10),),
        "has_truth": True,
        "standing": Grade(labels=3, judged=2, right=1),
        "by_source": {"consensus": Grade(2, 1, 1), "auto": Grade(1, 1, 0)},
        "outcome": None,
        "price": 0.05,
        "missing": (EVIL,),
    }
    return Material(**{**told, **changes})  # type: ignore[arg-type]


def full_history() -> History:
    reader = historian()
    version = ModelVersion(
        name="projects/p/models/m/versions/" + EVIL.replace("/", ""),
        evaluation=Evaluation(accuracy=0.8, labels=50),
    )
    for event in (
        answered("a"),
        labeled("a", "right", store.LABEL_SOURCE_CONSENSUS),
        record(ModelVersionCreated(model_version=version)),
        record(ModelPromoted(model_version=version)),
        record(
            ThresholdSet(
                threshold=Threshold(version=1, score=0.9, alpha=0.05, error_upper_bound=0.04, coverage=0.3)
            )
        ),
        labeled("b", "right", store.LABEL_SOURCE_AUTO),
    ):
        reader.add(event)
    reader._mark(force=True)
    reader.history.points = reader._points
    return reader.history


@pytest.fixture(scope="module")
def full_page() -> str:
    return render(material(full_history()))


def test_nothing_that_a_user_chose_becomes_markup(full_page: str) -> None:
    assert "<script" not in full_page
    assert "<img" not in full_page
    assert "&lt;script&gt;alert(1)" in full_page
    assert "&lt;img src=x&gt;" in full_page


def test_the_page_loads_nothing_from_anywhere(full_page: str) -> None:
    assert "default-src 'none'" in full_page
    assert not re.search(r"""(src|href)\s*=\s*["'](?!#)""", full_page)
    assert not re.search(r"url\((?!#)", full_page)
    assert "@import" not in full_page


def test_the_page_has_every_plot_and_follows_light_and_dark(full_page: str) -> None:
    for title in (
        "Accuracy and coverage",
        "Model versions",
        "Threshold",
        "Reliability of labelers",
        "Answers per item",
    ):
        assert f'aria-label="{title}"' in full_page
    assert "prefers-color-scheme: dark" in full_page
    assert "var(--blue)" in full_page
    assert "#030303" not in full_page


def test_without_truth_or_history_there_is_still_a_page() -> None:
    html = render(material(History(), has_truth=False, reliabilities=(), audits=()))

    assert "No audit has been made yet" in html
    assert "<svg" not in html


def test_without_truth_confidence_is_shown_instead() -> None:
    assert "Confidence and coverage" in render(material(full_history(), has_truth=False))


def words(html: str) -> str:
    return re.sub(r"\s*(<[^>]+>\s*)+", "|", html)


def test_accuracies_are_of_the_labels_that_stand_and_say_against_what(full_page: str) -> None:
    page = words(full_page)

    assert "|50.00%|of the 2 labels with known truth are right|" in page
    assert "|consensus|2|66.7%|100.00%|" in page
    assert "|auto|1|33.3%|0.00%|" in page
    assert "against the truth given to this report, which covers 2 of the 3 labels" in page


def test_every_count_of_answers_says_what_it_counts() -> None:
    reader = historian()
    review = store.Annotation(kind=store.ANNOTATION_KIND_REVIEW)
    for event in (
        answered("a"),
        answered("a"),
        answered("b"),
        record(AnnotationSubmitted(annotation=review, item="projects/p/items/c")),
    ):
        reader.add(event)

    progress = store.ProjectProgress(items=3, labeled_items=3, annotations=4)
    page = words(render(material(reader.history, progress=progress)))

    assert "|4|answers by people, reviews included|" in page
    assert "1.50 on average over the 2 items that people answered; reviews are not counted" in page
    assert "|answers to find labels|3|" in page
    assert "|reviews of labels|1|" in page
    assert "|all answers by people|4|" in page
    assert "|answers without reviews, per labeled item, a model&#x27;s included|1.000|" in page
    assert "|right of known|" in page
