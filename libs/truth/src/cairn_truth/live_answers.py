"""What all live states of answers other than classes share: who answered what, what is known, what was fitted.

A kind of answer says how answers to one item are joined (`_join`) and what all answers teach of their labelers
(`_learn`); the rest is here, once. Everything is handed on in the order of names, so that the same answers in any
order of arrival give the same state bit for bit.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from .answer_counts import AnswerCounts
from .columns import Floats, check_instance, checked_name
from .labeler_accuracy import credible_interval


@dataclass(frozen=True, slots=True)
class Evidence:
    """One answer's part in a joined value.

    ``agreement``: how alike the answer and the value are, 0..1, by the kind's own measure. ``weight``: the answer's
    share of the value, 0..1; the shares on an item sum to one, or to less where a prior has a share.
    """

    labeler: str
    agreement: float
    weight: float


def heaviest_first(parts: Iterable[Evidence]) -> tuple[Evidence, ...]:
    """Return the evidence as every joined value holds it."""
    return tuple(sorted(parts, key=lambda part: (-part.weight, part.labeler)))


@dataclass(frozen=True, slots=True)
class LabelerAccuracy:
    """A labeler's chance to be right with its 95 % credible interval, over ``votes`` answers."""

    labeler: str
    votes: int
    accuracy: float
    low: float
    high: float


class Joined(Protocol):
    """What joining answers gives, whatever the kind: each has a ``value`` of its own kind beside these."""

    @property
    def confidence(self) -> float:
        """Expected quality of the value, 0..1: the chance that it is right where right and wrong are all there is,
        the expected agreement with the truth (by the kind's measure) elsewhere."""

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """What each answer contributed, heaviest first."""


A = TypeVar("A")
"""An answer."""
J = TypeVar("J", bound=Joined)
"""Answers joined."""
F = TypeVar("F")
"""What a fit learns."""
R = TypeVar("R")
"""What is known of a labeler."""
T = TypeVar("T")
"""A setting."""


class Answered(NamedTuple, Generic[A]):
    """One item's answers, by labeler, and its truth where that is known."""

    item: str
    votes: Sequence[tuple[str, A]]
    truth: A | None


class Saved(NamedTuple):
    """What a live state saves: of which ``kind`` it is, the labelers in the order of rows, counters, and arrays."""

    kind: str
    labelers: tuple[str, ...]
    refits: int
    refit_votes: int
    arrays: Mapping[str, NDArray[Any]]

    def written(self) -> bytes:
        """Return it as bytes: NumPy's .npz, no pickle."""
        buffer = io.BytesIO()
        named = {"kind": packed([self.kind]), "labelers": packed(self.labelers)}
        refits = np.array([self.refits, self.refit_votes], dtype=np.int64)
        held: dict[str, NDArray[Any]] = {"refits": refits, **named, **self.arrays}
        np.savez(buffer, sha256=_sha256(held), **held)  # type: ignore[arg-type]
        return buffer.getvalue()

    @classmethod
    def read(cls, saved: bytes, kind: str) -> Saved:
        """Read what `written` wrote. Raises ValueError for other bytes, another kind, what has since been changed, and what
        is no finite number."""
        try:
            with np.load(io.BytesIO(saved), allow_pickle=False) as stored:
                held = {name: stored[name] for name in stored.files}
            sound = bool(np.array_equal(held.pop("sha256"), _sha256(held)))
            (own,), labelers = unpacked(held.pop("kind")), unpacked(held.pop("labelers"))
            refits, refit_votes = held.pop("refits").tolist()
        except (
            ValueError, KeyError, EOFError, OSError, AttributeError, TypeError, zipfile.BadZipFile
        ) as error:  # fmt: skip
            raise ValueError("the saved state cannot be read; expected what save() returned") from error
        if own != kind:
            raise ValueError(f"the saved state is of {own}; expected one of {kind}")
        if not sound:
            raise ValueError("the saved state was changed or damaged; expected what save() returned")
        for name, array in held.items():
            if not np.isfinite(array).all():
                raise ValueError(f"{name} of the saved state is not finite; expected what save() returned")
        return cls(kind, tuple(labelers), int(refits), int(refit_votes), held)


def _sha256(arrays: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """Return the SHA-256 of arrays with their names, types and shapes: one that is missing shows as one changed does."""
    sha = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        sha.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        sha.update(array.tobytes())
    return np.frombuffer(sha.digest(), dtype=np.uint8)


def given_or(name: str, setting: T | None, usual: T) -> T:
    """Return a setting, the usual one for None. Raises ValueError for one of another class."""
    if setting is None:
        return usual
    check_instance(name, setting, type(usual), f"a {type(usual).__name__}")
    return setting


def packed(names: Sequence[Any]) -> NDArray[Any]:
    """Return names as an array of bytes, for a fitted state is arrays of numbers."""
    return np.frombuffer(json.dumps(names).encode(), dtype=np.uint8)


def unpacked(array: NDArray[Any]) -> list[Any]:
    """Return the names in `packed`."""
    names: list[Any] = json.loads(array.tobytes())
    return names


class Learnt(NamedTuple, Generic[F]):
    """What was learnt of labelers from so many answers, before it is taken into use."""

    labelers: tuple[str, ...]
    fitted: F
    votes: int


class LiveAnswers(AnswerCounts, ABC, Generic[A, J, R]):
    """Live state of a question: `add` or `update` answers, `refit` labelers, read what the answers say.

    `fit` does the three at once. What a refit learns is arrays by name (``self._fitted``), those of labelers with a row
    for each of ``self._labelers``; before the first refit there are none, and every labeler is the crowd's average.
    """

    def __init__(self) -> None:
        super().__init__()
        self.refits = 0
        self.refit_votes = 0
        self._answers: dict[str, dict[str, A]] = {}
        self._gold: dict[str, A] = {}
        self._labelers: tuple[str, ...] = ()
        self._rows: dict[str, int] = {}
        self._fitted: Mapping[str, Floats] = {}
        self._last: tuple[str, J] | None = None

    # --- what a kind of answer says

    @abstractmethod
    def _checked(self, answer: A) -> A:
        """Return the answer as it is kept. Raises ValueError naming the element that is wrong, and what is right."""

    @abstractmethod
    def _join(self, votes: Sequence[tuple[str, A]]) -> J:
        """Join the answers (none, one or more; by labeler) to one item."""

    @abstractmethod
    def _known(self, truth: A, votes: Sequence[tuple[str, A]]) -> J:
        """Return the truth as a joined value of confidence 1; its evidence is agreement with it, of weight 0."""

    @abstractmethod
    def _learn(self, answered: Sequence[Answered[A]], labelers: tuple[str, ...]) -> Mapping[str, Floats]:
        """Fit to all answers. ``labelers`` are all who answered, by name."""

    @abstractmethod
    def reliability(self, labeler: str) -> R:
        """Return what is known of a labeler; the crowd's average for one never fitted."""

    def _settings(self) -> str:
        """Return what a fit of this state depends on beside the answers: another's is no fit of it."""
        return ""

    # --- what came in

    def add(self, item: str, labeler: str, answer: A) -> None:
        """Add an answer, or replace this labeler's earlier one. Raises ValueError for one that cannot be."""
        checked_name("item", item)
        checked_name("labeler", labeler)
        checked = self._read(answer)
        self._refuse_unsuited(item, labeler, checked)
        answers = self._answers.setdefault(item, {})
        if labeler not in answers:
            self._count_one(labeler)
        answers[labeler] = checked
        self._last = None

    def update(self, item: str, labeler: str, answer: A) -> J:
        """Add an answer and return what the item's answers say now, reliabilities as they stand."""
        self.add(item, labeler, answer)
        return self._said(item)

    def withdraw(self, item: str, labeler: str) -> None:
        """Take back a labeler's answer to an item, if there is one."""
        checked_name("item", item)
        checked_name("labeler", labeler)
        if self._answers.get(item, {}).pop(labeler, None) is None:
            return
        self._count_one_less(labeler)
        if not self._answers[item]:
            del self._answers[item]
        self._last = None

    def know(self, item: str, truth: A | None) -> None:
        """Clamp an item to a known value (gold, a correction), or free it again with None."""
        checked_name("item", item)
        if truth is None:
            self._gold.pop(item, None)
        else:
            checked = self._read(truth)
            self._refuse_unsuited(item, None, checked)
            self._gold[item] = checked
        self._last = None

    # --- what it says

    def posterior(self, item: str) -> J:
        """Return what an item's answers say, reliabilities as they stand."""
        return self._said(checked_name("item", item))

    def votes_on(self, item: str) -> Sequence[tuple[str, A]]:
        """Return ``(labeler, answer)`` of each answer to an item, by labeler."""
        return self._votes_on(checked_name("item", item))

    def items(self) -> Iterable[str]:
        """Return the items that have an answer."""
        return self._answers.keys()

    # --- reconcile, save, restore

    def refit(self) -> None:
        """Fit everybody's reliability to all answers; what follows no longer depends on their order of arrival."""
        self.adopt(self.fitting()())

    def fitting(self) -> Callable[[], Learnt[Mapping[str, Floats]]]:
        """Return a function that fits to the answers of now, whatever comes in while it runs, wherever that is."""
        names, labelers, votes = sorted(self._answers), tuple(sorted(self._counts)), self.votes
        answered = [Answered(name, self._votes_on(name), self._gold.get(name)) for name in names]
        return lambda: Learnt(labelers, self._learn(answered, labelers), votes)

    def adopt(self, learnt: Learnt[Mapping[str, Floats]]) -> None:
        """Take what `fitting` learnt into use, and go on: answers that came since are weighed by it, too."""
        self._adopt(learnt.labelers, learnt.fitted)
        self.refits += 1
        self.refit_votes = learnt.votes

    def fit(
        self, answers: Mapping[str, Mapping[str, A]], gold: Mapping[str, A] | None = None
    ) -> dict[str, J]:
        """Add all answers (item to labeler to answer), refit, and return what each item's say.

        Raises ValueError for an answer that cannot be, and for what is no mapping; then nothing is added.
        """
        check_instance("answers", answers, Mapping, "a mapping of items to mappings of labelers to answers")
        for item, votes in answers.items():
            check_instance(
                f"answers of item {item!r:.100}", votes, Mapping, "a mapping of labelers to answers"
            )
        if gold is not None:
            check_instance("gold", gold, Mapping, "a mapping of items to truths")
        before = {item: dict(votes) for item, votes in self._answers.items()}
        held = before, dict(self._gold), dict(self._counts), self.votes
        try:
            for item, votes in answers.items():
                for labeler, answer in votes.items():
                    self.add(item, labeler, answer)
            for item, truth in (gold or {}).items():
                self.know(item, truth)
        except ValueError:
            self._answers, self._gold, self._counts, self.votes = held
            raise
        self.refit()
        return {item: self._said(item) for item in answers}

    def save(self) -> bytes:
        """Return the fitted state as bytes (NumPy .npz, no pickle): all but answers and truths, which are the caller's."""
        arrays = {f"fitted.{name}": array for name, array in self._fitted.items()}
        return Saved(self._kind(), self._labelers, self.refits, self.refit_votes, arrays).written()

    def restore(self, saved: bytes) -> None:
        """Adopt a saved fit; the answers are added, and truths told, as ever.

        Raises ValueError if it is none, or one of another kind or with other settings; the state stays as it was then.
        """
        found = Saved.read(saved, self._kind())
        fitted = {name.removeprefix("fitted."): array for name, array in found.arrays.items()}
        before = self._labelers, self._fitted
        try:
            self._adopt(found.labelers, fitted)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            self._adopt(*before)
            raise ValueError("the saved state lacks a part; expected what save() returned") from error
        self.refits, self.refit_votes = found.refits, found.refit_votes

    def digest(self) -> bytes:
        """Return the SHA-256 of the fitted state: equal digests weigh every answer equally."""
        sha = hashlib.sha256(packed(self._labelers).tobytes())
        for name in sorted(self._fitted):
            sha.update(name.encode())
            sha.update(np.ascontiguousarray(self._fitted[name], dtype="<f8").tobytes())
        return sha.digest()

    def _kind(self) -> str:
        return f"{type(self).__name__}({self._settings()})"

    def _refuse_unsuited(self, item: str, labeler: str | None, answer: A) -> None:
        """Raise ValueError for an answer (of no labeler: a truth) that this item cannot have, though others might."""

    def _said(self, item: str) -> J:
        if self._last is None or self._last[0] != item:
            self._last = (item, self._joined_with(item, self._votes_on(item), self._gold.get(item)))
        return self._last[1]

    def _joined_with(self, item: str, votes: Sequence[tuple[str, A]], truth: A | None) -> J:
        """Return an item's answers joined; a kind for which it matters which item it is says so here."""
        return self._join(votes) if truth is None else self._known(truth, votes)

    def _votes_on(self, item: str) -> Sequence[tuple[str, A]]:
        answers = self._answers.get(item, {})
        return [(who, answers[who]) for who in sorted(answers)]

    def _read(self, answer: A) -> A:
        """Return the answer as it is kept; what is of another type altogether is refused as well."""
        try:
            return self._checked(answer)
        except (TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"answer is {answer!r:.100}; expected one of this kind ({error})") from error

    def _adopt(self, labelers: tuple[str, ...], fitted: Mapping[str, Floats]) -> None:
        """Take a fit into use; a kind that derives more from it does so after calling this."""
        self._labelers, self._fitted = labelers, fitted
        self._rows = {labeler: row for row, labeler in enumerate(labelers)}
        self._last = None

    def _of(self, labeler: str, name: str, otherwise: float) -> float:
        """Return a labeler's entry of a fitted array ``(labelers,)``; ``otherwise`` for one never fitted."""
        row = self._rows.get(labeler)
        return otherwise if row is None else float(self._fitted[name][row])

    def _accuracy(self, labeler: str, accuracy: float, seen: float) -> LabelerAccuracy:
        """Return an accuracy, learnt from so many judgements, with its interval (Jeffreys)."""
        low, high = credible_interval(accuracy * seen + 0.5, (1.0 - accuracy) * seen + 0.5)
        return LabelerAccuracy(labeler, self._counts.get(labeler, 0), accuracy, low, high)
