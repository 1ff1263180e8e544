"""Recorded crowds: a folder's answers and truths, as its kind of answer needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..classes.votes import Votes
from . import score_boxes, score_masks, score_numbers, score_pairs, score_spans, score_texts
from .kinds import CLASSES, Told, UnknownKindError, number, told_kind
from .replay import Recorded
from .tables import ANSWERS, OUTLINES, TRUTH, Cell, oddities, parsed, read_answers, read_truth

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


@dataclass(frozen=True, slots=True)
class Table:
    """A folder's answers and truths as they are written, of which ``kind`` they are and ``why`` they are taken for that,
    and what is no error but may be a slip.
    """

    kind: str
    why: str
    answers: Sequence[Cell]
    truths: Sequence[Cell]
    notes: tuple[str, ...]


def read_table(folder: Path, kind: str | None = None, *, truths: Sequence[Cell] | None = None) -> Table:
    """Read a folder's answers, or its outlines where it has only these, as of ``kind`` if that is given.

    ``truths`` are by default those of ``truth.csv``, if there is one. Raises FileNotFoundError, ValueError with file,
    line and column of what is wrong, and `UnknownKindError`.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder; expected one with {ANSWERS}")
    outlines = _holds_outlines(folder)
    if not outlines and not (folder / ANSWERS).exists():
        raise FileNotFoundError(f"has no {ANSWERS}; expected a table item,annotator,label")
    answers = read_answers(folder, OUTLINES, "polygon") if outlines else read_answers(folder)
    if truths is None:
        truths = read_truth(folder) if (folder / TRUTH).exists() else ()
    if kind is not None:
        told = Told(kind, "as was said")
    elif outlines:
        told = Told(score_masks.KIND, f"there is {OUTLINES}")
    else:
        told = told_kind(answers, truths)
    again = "each is a vote" if told.kind == CLASSES else "the last counts"
    notes = list(oddities(answers, truths, again))
    if told.doubt:
        notes.append(f"{told.doubt}; taken to be {told.kind} (--kind says otherwise)")
    if told.kind == CLASSES:
        notes += _unused_classes(answers, truths)
    return Table(told.kind, told.why, answers, truths, tuple(notes))


def _unused_classes(answers: Sequence[Cell], truths: Sequence[Cell]) -> Iterator[str]:
    known = [cell for cell in truths if cell.label.strip()]
    name = _class_names([*answers, *known])
    given = {name[cell.label] for cell in answers}
    unused = {cell.label.strip(): cell for cell in reversed(known) if name[cell.label] not in given}
    if unused:
        names = ", ".join(repr(label) for label in sorted(unused)[:5])
        first = min(unused.values(), key=lambda cell: cell.line)
        yield (
            f"{len(unused)} class(es) of {first.file} that nobody answered ({names}; first on line {first.line}): no method "
            "can find them"
        )


def read_folder(folder: Path) -> Recorded:
    """Read a folder's ``answers.csv`` and ``truth.csv`` of classes.

    Raises ValueError naming a missing file or column, and NoClassesError saying what the answers are instead.
    """
    recorded = read_any(folder)
    if isinstance(recorded, RecordedAnswers):
        raise NoClassesError(f"holds no classes but {recorded.kind}")
    return recorded


def read_any(folder: Path, kind: str | None = None) -> Recorded | RecordedAnswers:
    """Read a folder of any kind of answer that is scored, or of outlines in ``polygons.csv`` without a truth.

    Raises FileNotFoundError, ValueError with file, line and column of what is wrong, and `UnknownKindError`.
    """
    return recorded_of(read_table(folder, kind))


def recorded_of(table: Table) -> Recorded | RecordedAnswers:
    """Return the answers and truths of a table, as what scores its kind needs them. Errors as for `read_any`."""
    if table.answers[0].file == OUTLINES and not table.truths:
        return _left_out(table.answers)
    if table.kind != CLASSES and table.kind not in SCORINGS:
        raise UnknownKindError(
            f"holds {table.kind}, which nothing here scores (join and labelers take them); expected "
            f"{CLASSES}, {', '.join(SCORINGS)}"
        )
    if not table.truths:
        raise FileNotFoundError(f"has no {TRUTH} to score by; expected a table item,label (join needs none)")
    if table.kind == CLASSES:
        return classes_of(table.answers, table.truths)
    scoring = SCORINGS[table.kind]
    if table.kind == score_pairs.KIND:
        check_outcomes((*table.answers, *table.truths))
    crowd = parsed(table.answers, scoring.read)
    # An empty cell is a truth of those kinds for which nothing is an answer.
    known = table.truths
    if table.kind == score_numbers.KIND:
        known = [cell for cell in known if cell.label.strip()]
    right = {item: next(iter(votes.values())) for item, votes in parsed(known, scoring.read).items()}
    _check_common(crowd, right)
    return RecordedAnswers(
        table.kind, (Played(crowd, {item: right[item] for item in right if item in crowd}),)
    )


def check_outcomes(cells: Sequence[Cell]) -> None:
    """Raise ValueError with the place of a preference that is neither of its item's candidates nor a word for an outcome."""
    for cell in cells:
        outcome_in(cell)


def outcome_in(cell: Cell) -> int:
    """Return the outcome that a preference says, as `score_pairs.outcome_of`; ValueError says where it is written."""
    try:
        return score_pairs.outcome_of(cell.item, score_pairs.read(cell.label))
    except ValueError as problem:
        raise cell.wrong(problem) from None


def classes_of(answers: Sequence[Cell], truths: Sequence[Cell]) -> Recorded:
    """Return votes and truth; classes by number where all are numbers, else by name. Raises ValueError.

    An empty truth is none.
    """
    known = [cell for cell in truths if cell.label.strip()]
    named = named_classes(answers, known)
    _check_common(dict.fromkeys(named.items), {cell.item for cell in known})
    return Recorded(named.votes, named.gold({cell.item: cell.label for cell in known}))


@dataclass(frozen=True, slots=True)
class NamedClasses:
    """Votes, with the names of items, labelers and classes, and under which class each label goes: "1" and "1.0" are one."""

    votes: Votes
    items: Sequence[str]
    labelers: Sequence[str]
    classes: Sequence[str]
    number: Mapping[str, int]

    def gold(self, known: Mapping[str, str]) -> NDArray[np.int64]:
        """Return the class of each item ``(items,)`` by the labels that are known, -1 elsewhere."""
        return np.array([self.number[known[i]] if i in known else -1 for i in self.items], dtype=np.int64)


def named_classes(answers: Sequence[Cell], known: Sequence[Cell] = ()) -> NamedClasses:
    """Return votes on classes, those of ``known`` truths among them. Raises ValueError for an empty label.

    A labeler's second answer to an item is one more vote, as it is to the published methods and their figures.
    """
    for cell in answers:
        if not cell.label.strip():
            raise cell.wrong("is empty; expected a class")
    name = _class_names([*answers, *known])
    rank = {key: i for i, key in enumerate(sorted(set(name.values())))}
    number = {label: rank[key] for label, key in name.items()}
    written = {place: label.strip() for label, place in sorted(number.items(), reverse=True)}
    items = {key: i for i, key in enumerate(sorted({cell.item for cell in answers}))}
    labelers = {key: i for i, key in enumerate(sorted({cell.labeler for cell in answers}))}
    votes = Votes.of(
        [items[cell.item] for cell in answers],
        [labelers[cell.labeler] for cell in answers],
        [number[cell.label] for cell in answers],
        classes=len(rank),
        items=len(items),
        labelers=len(labelers),
    )
    return NamedClasses(votes, list(items), list(labelers), [written[i] for i in range(len(rank))], number)


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


def _left_out(answers: Sequence[Cell]) -> RecordedAnswers:
    """Return outlines, each labeler of an item once its truth: only items that all but the fewest outlined."""
    outlines = parsed(answers, score_masks.read)
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
