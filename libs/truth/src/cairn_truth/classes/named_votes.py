"""Votes as a table keeps them: items, labelers and classes by the names they have there."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..columns import Floats, Ints, Name, check_instance, checked_names, numbers, shares
from .votes import Votes

Column = Sequence[Any] | NDArray[Any]
"""Names, one a vote: all of them text or all whole numbers; a pandas column will do."""


class NamedLabel(NamedTuple):
    """The most probable class of an item, by name, and its probability."""

    label: Name
    confidence: float


@dataclass(frozen=True, eq=False)
class NamedVotes:
    """``votes`` on rows, and what each row is called: ``items``, ``labelers`` and ``classes`` in order of names."""

    votes: Votes
    items: tuple[Name, ...]
    labelers: tuple[Name, ...]
    classes: tuple[Name, ...]

    @classmethod
    def of(
        cls,
        item: Column,
        labeler: Column,
        label: Column,
        *,
        classes: Sequence[Name] | Set[Name] | None = None,
    ) -> NamedVotes:
        """Number the names of three columns, a row a vote, in any order.

        ``classes`` are all there are, if some may have no vote; by default those that do. Raises ValueError naming the
        column and the row of what is no name (text or a whole number), and of a label that is none of ``classes``.
        """
        named = {"item": item, "labeler": labeler, "label": label}
        held = {name: checked_names(name, column) for name, column in named.items()}
        if len({len(column) for column in held.values()}) > 1:
            sizes = ", ".join(f"{name} {len(column)}" for name, column in held.items())
            raise ValueError(f"the columns differ in length: {sizes}")
        given = list(classes) if isinstance(classes, Set) else classes
        known = sorted(set(held["label"] if given is None else checked_names("classes", given)))
        if not known:
            raise ValueError("there are no votes and no classes; expected one class or more")
        items, labelers = sorted(set(held["item"])), sorted(set(held["labeler"]))
        rows = [
            _rows("item", held["item"], items),
            _rows("labeler", held["labeler"], labelers),
            _rows("label", held["label"], known),
        ]
        votes = Votes.of(*rows, classes=len(known), items=len(items), labelers=len(labelers))
        return cls(votes, tuple(items), tuple(labelers), tuple(known))

    def gold(self, known: Mapping[Any, Any]) -> Ints:
        """Return the known class of each item ``(items,)``, -1 elsewhere, as ``fit`` takes it.

        ``known`` maps items to classes; items without a vote are passed over. Raises ValueError for another class, and
        where none of many is an item: text is no number.
        """
        row, number = (
            {name: i for i, name in enumerate(self.items)},
            {name: i for i, name in enumerate(self.classes)},
        )
        gold = np.full(len(self.items), -1, dtype=np.int64)
        check_instance("gold", known, Mapping, "a mapping of items to classes")
        for item, label in known.items():
            if not isinstance(label, Hashable) or label not in number:
                raise ValueError(
                    f"gold of {item!r} is {label!r}; expected one of {list(self.classes)!r:.200}"
                )
            if item in row:
                gold[row[item]] = number[label]
        if known and (gold < 0).all():
            raise ValueError(
                f"no item of gold has a vote: {next(iter(known))!r:.100}, say; expected names such as "
                f"{next(iter(self.items), '')!r:.100}"
            )
        return gold

    def labels(self, posterior: ArrayLike) -> dict[Name, NamedLabel]:
        """Return each item's most probable class, by a fit's ``posterior`` ``(items, classes)``; the first of equals."""
        chance = shares("posterior", _of_shape("posterior", posterior, (len(self.items), len(self.classes))))
        best = chance.argmax(axis=1)
        sure = chance[np.arange(best.size), best]
        return {
            item: NamedLabel(self.classes[k], p)
            for item, k, p in zip(self.items, best.tolist(), sure.tolist(), strict=True)
        }

    def by_labeler(self, values: ArrayLike) -> dict[Name, float]:
        """Return ``values`` ``(labelers,)``, such as a fit's ``reliability``, by name."""
        held = _of_shape("values", values, (len(self.labelers),))
        return dict(zip(self.labelers, held.tolist(), strict=True))


def _rows(what: str, column: Sequence[Name], names: Sequence[Name]) -> list[int]:
    row = {name: i for i, name in enumerate(names)}
    try:
        return [row[name] for name in column]
    except KeyError as missing:
        at = list(column).index(missing.args[0])
        raise ValueError(
            f"{what} of row {at} is {missing.args[0]!r}; expected one of {list(names)!r:.200}"
        ) from None


def _of_shape(what: str, values: ArrayLike, shape: tuple[int, ...]) -> Floats:
    held = numbers(what, values)
    if held.shape != shape:
        raise ValueError(f"{what} has shape {held.shape}; expected {shape}")
    return held
