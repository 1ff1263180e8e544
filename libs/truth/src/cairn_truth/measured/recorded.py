"""Recorded crowds: a folder's answers and truths, as its kind of answer needs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from ..classes.votes import Votes
from . import score_boxes, score_masks, score_numbers, score_pairs, score_spans, score_texts
from .kinds import CLASSES, kind_of, number
from .replay import Recorded
from .tables import OUTLINES, TRUTH, Cell, parsed, read_answers, read_truth

Crowd = Mapping[str, Mapping[str, Any]]
"""Item to labeler to answer."""


class Scoring(Protocol):
    """What a module that scores one kind of answer offers."""

    KIND: str
    DEFAULT: str
    METHODS: Mapping[str, Callable[[Any], Mapping[str, Any]]]

    def read(self, label: str, /) -> Any:
        """Return the answer that a cell holds; ValueError says what was expected."""

    def judge(self, values: Any, truths: Any, /) -> dict[str, float]:
        """Return named measures, the main one first."""


SCORINGS: Mapping[str, Scoring] = MappingProxyType({
    module.KIND: module
    for module in (score_numbers, score_texts, score_spans, score_boxes, score_masks, score_pairs)
})  # fmt: skip
"""Every kind that is scored, but for classes."""


class NoClassesError(ValueError):
    """A folder whose answers are of another kind than classes."""


@dataclass(frozen=True, slots=True)
class Played:
    """What methods are given, and what they are judged by."""

    crowd: Crowd
    truths: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RecordedAnswers:
    """Answers of another kind than classes; several plays where each labeler is left out in turn."""

    kind: str
    plays: tuple[Played, ...]


def read_folder(folder: Path) -> Recorded:
    """Read a folder's ``answers.csv`` and ``truth.csv`` of classes.

    Raises ValueError naming a missing file or column, and NoClassesError saying what the answers are instead.
    """
    recorded = read_any(folder)
    if isinstance(recorded, RecordedAnswers):
        raise NoClassesError(f"holds no classes but {recorded.kind}")
    return recorded


def read_any(folder: Path) -> Recorded | RecordedAnswers:
    """Read a folder of any kind of answer that is scored, or of outlines in ``polygons.csv`` without a truth.

    Raises FileNotFoundError, ValueError with file, line and column of what is wrong, and `UnknownKindError`.
    """
    if _holds_outlines(folder):
        return _left_out(folder)
    answers, truths = read_answers(folder), read_truth(folder)
    kind = kind_of(answers, truths)
    if kind == CLASSES:
        return classes_of(answers, truths)
    scoring = SCORINGS[kind]
    crowd = parsed(answers, scoring.read)
    # An empty cell is a truth of those kinds for which nothing is an answer.
    known = truths if kind != score_numbers.KIND else [cell for cell in truths if cell.label.strip()]
    right = {item: list(votes.values())[-1] for item, votes in parsed(known, scoring.read).items()}
    _check_common(crowd, right)
    return RecordedAnswers(kind, (Played(crowd, {item: right[item] for item in right if item in crowd}),))


def read_cells(folder: Path) -> Sequence[Cell]:
    """Return the answers of a folder, or its outlines; the truth may be absent. Errors as for `read_answers`."""
    return _outlines(folder) if _holds_outlines(folder) else read_answers(folder)


def classes_of(answers: Sequence[Cell], truths: Sequence[Cell]) -> Recorded:
    """Return votes and truth; classes by number where all are numbers, else by name. Raises ValueError.

    Of several truths of an item the last counts, an empty one is none; a labeler's second answer is one more vote.
    """
    for cell in answers:
        if not cell.label.strip():
            raise cell.wrong("is empty; expected a class")
    known = [cell for cell in truths if cell.label.strip()]
    name = _class_names([*answers, *known])
    classes = {key: i for i, key in enumerate(sorted(set(name.values())))}
    items = {key: i for i, key in enumerate(sorted({cell.item for cell in answers}))}
    labelers = {key: i for i, key in enumerate(sorted({cell.labeler for cell in answers}))}
    _check_common(items, {cell.item for cell in known})
    truth = np.full(len(items), -1, dtype=np.int64)
    for cell in known:
        if cell.item in items:
            truth[items[cell.item]] = classes[name[cell.label]]
    votes = Votes.of(
        [items[cell.item] for cell in answers],
        [labelers[cell.labeler] for cell in answers],
        [classes[name[cell.label]] for cell in answers],
        classes=len(classes),
        items=len(items),
        labelers=len(labelers),
    )
    return Recorded(votes, truth)


def _class_names(cells: Sequence[Cell]) -> Mapping[str, tuple[float, str]]:
    """Return what each label is called and sorted by: "1" and "1.0" are one class, and 2 comes before 10."""
    labels = {cell.label for cell in cells}
    if all(number(label) is not None for label in labels):
        return {label: (float(label), "") for label in labels}
    return {label: (0.0, label.strip()) for label in labels}


def _check_common(items: Mapping[str, Any], known: Any) -> None:
    if not any(item in items for item in known):
        raise ValueError(f"no item of {TRUTH} has an answer in answers.csv; expected one or more")


def _holds_outlines(folder: Path) -> bool:
    return (folder / OUTLINES).exists() and not (folder / TRUTH).exists()


def _outlines(folder: Path) -> Sequence[Cell]:
    return read_answers(folder, OUTLINES, "polygon")


def _left_out(folder: Path) -> RecordedAnswers:
    """Return outlines, each labeler of an item once its truth: only items that all but the fewest outlined."""
    outlines = parsed(_outlines(folder), score_masks.read)
    most = max(len(votes) for votes in outlines.values())
    if most < 3:
        raise ValueError(
            f"{OUTLINES} has at most {most} outlines of an item; expected three, one to be the truth"
        )
    full = {item: list(votes.items()) for item, votes in outlines.items() if len(votes) == most}
    plays = tuple(
        Played(
            {item: dict(votes[:last] + votes[last + 1 :]) for item, votes in full.items()},
            {item: votes[last][1] for item, votes in full.items()},
        )
        for last in range(most)
    )
    return RecordedAnswers(score_masks.KIND, plays)
