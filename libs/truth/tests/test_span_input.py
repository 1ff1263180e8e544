"""Spans: what is one, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from cairn_truth import LiveNumbers
from cairn_truth.stretches.spans import LiveSpans, Span
from libs.truth.tests.test_spans import span_crowd

Answer = tuple[Span, ...]


@pytest.mark.parametrize(
    "wrong",
    [
        (Span(-1, 4),),
        (Span(3, 2),),
        (Span(0, 2), Span(0.5, 2)),  # type: ignore[arg-type]
        (Span(0, float("nan")),),  # type: ignore[arg-type]
        (Span(0, float("inf")),),  # type: ignore[arg-type]
        (Span(0, 2**60),),
        (Span(0, 2, -1),),
        (Span(0, 2, 1),),
    ],
)
def test_what_is_no_span_is_refused_by_its_number(wrong: Answer) -> None:
    with pytest.raises(ValueError, match=rf"{len(wrong) - 1} is .*expected"):
        LiveSpans(1).add("i", "a", wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ((Span(0, 2, "PER"),), r"span 0 is of class 'PER'; expected the class's number, 0"),
        ((Span(0, 2), Span(3, 5, True)), r"span 1 is of class True"),
        ((Span(0, "2"),), r"end of span 0 is '2'; expected a number"),
        ((Span(None, 2),), r"start of span 0 is None; expected a number"),
        ((Span(0, 10**400),), r"span 0 is \[0, 1000.*expected 0 <= start < end"),
        ((Span(0, 2, 0, None),), r"span 0 has attributes None; expected \(name, value\)"),
        ((Span(0, 2, 0, (("sure", 1), ("sure", "no"))),), r"span 0 has attributes .*both strings"),
        ((Span(0, 2, 0, "ab"),), r"span 0 has attributes 'ab'; expected"),
        ("ab", r"answer is 'ab'; expected a tuple of Span"),
        (Span(0, 2), r"answer is Span.*expected a tuple of Span"),
        (None, r"answer is None; expected a tuple of Span"),
        (((0, 2),), r"span 0 is \(0, 2\); expected a Span"),
    ],
)
def test_what_is_of_another_type_is_refused_by_its_number(wrong: Answer, message: str) -> None:
    live = LiveSpans(1)
    with pytest.raises(ValueError, match=message):
        live.add("i", "a", wrong)
    assert live.votes == 0


@pytest.mark.parametrize("classes", [0, 1.5, float("nan"), "2", None, [2], True])
def test_classes_are_counted_in_whole_numbers(classes: int) -> None:
    with pytest.raises(ValueError, match=r"^classes .*expected"):
        LiveSpans(classes)


def test_numbers_of_other_types_are_taken_for_what_they_are() -> None:
    live = LiveSpans(np.int64(2))  # type: ignore[arg-type]
    live.add("i", "a", [Span(np.int32(3), 9.0, np.uint8(1))])  # type: ignore[arg-type]
    [found] = live.posterior("i").value
    assert repr(found) == repr(Span(3, 9, 1))


def test_a_saved_state_of_other_classes_is_refused() -> None:
    other = LiveSpans(3)
    other.fit(span_crowd(items=5, classes=3)[0])
    with pytest.raises(ValueError, match=r"classes=3.*; expected one of.*classes=2"):
        LiveSpans(2).restore(other.save())
    numbers = LiveNumbers()
    numbers.update("i", "a", 1.0)
    numbers.refit()
    with pytest.raises(ValueError, match="of LiveNumbers"):
        LiveSpans(2).restore(numbers.save())
    with pytest.raises(ValueError, match="classes is 0"):
        LiveSpans(0)
