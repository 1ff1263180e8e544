"""Columns of paired comparisons by name, checked, in one order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..columns import Floats, checked_names, numbers

Rows = NDArray[np.int64]

Column = Sequence[Any] | NDArray[Any]
"""Names, one a judgement: all of them text or all whole numbers."""

LEFT, RIGHT, NEITHER = 0, 1, 2

_HEAVIEST = 1e9
"""Sums of weights beyond leave the solver no digits for anything else."""


@dataclass(frozen=True)
class Comparisons:
    """Judgements as columns ``(votes,)``, and the pairs ``(pairs,)`` and candidates ``(rows,)`` they are about.

    ``labeler`` is -1 for one who stands for the crowd and is not learnt; ``outcome`` is `LEFT`, `RIGHT` or `NEITHER`;
    ``placed`` is 1 where the pair's left was seen at the left, -1 where at the right, 0 where nobody knows;
    ``weight`` is what the judgement counts. ``left`` and ``right`` are rows of candidates within a group,
    ``across[row]`` the candidate's row over all groups. Without ``ties`` nobody could say neither.

    Names are sorted: ``pairs`` are ``(group, left, right)`` (``left < right``) or what they were called,
    ``candidates`` are ``(group, candidate)``, ``everywhere`` candidates over all groups.
    """

    pair: Rows
    labeler: Rows
    outcome: Rows
    placed: Floats
    weight: Floats
    left: Rows
    right: Rows
    across: Rows
    pairs: tuple[Any, ...]
    candidates: tuple[tuple[Any, Any], ...]
    everywhere: tuple[Any, ...]
    labelers: tuple[Any, ...]
    ties: bool = True

    @classmethod
    def of(
        cls,
        left: Column,
        right: Column,
        labeler: Column,
        outcome: ArrayLike,
        group: Column | None = None,
        *,
        pair: Column | None = None,
        placed: ArrayLike | None = None,
        weight: ArrayLike | None = None,
        labelers: Sequence[Any] | None = None,
        ties: bool = True,
    ) -> Comparisons:
        """Build from columns of names (text or whole numbers), one row a judgement, in any order.

        ``outcome``: 0 left, 1 right, 2 neither. ``group``: within which candidates compete; one for all if not given.
        ``pair`` names what was compared where the same two candidates are not the same pair everywhere. ``placed``: 1
        where left was seen at the left (the default), 0 where nobody knows. ``weight``: above 0, default 1.
        ``labelers`` names all of them, where some have no row; one who is None stands for the crowd.
        Raises ValueError naming the first row that is wrong.
        """
        named = {
            "left": checked_names("left", left),
            "right": checked_names("right", right),
            "labeler": checked_names("labeler", labeler, unnamed=True),
        }
        votes = len(named["left"])
        named["group"] = [""] * votes if group is None else checked_names("group", group)
        if pair is not None:
            named["pair"] = checked_names("pair", pair)
        checked_names("left and right together", [*named["left"], *named["right"]])
        said = numbers("outcome", outcome)
        shown = np.ones(votes) if placed is None else numbers("placed", placed)
        counts = np.ones(votes) if weight is None else numbers("weight", weight)
        _check({**named, "outcome": said, "placed": shown, "weight": counts}, votes, ties)
        swap = np.array([b < a for a, b in zip(named["left"], named["right"], strict=True)], dtype=bool)
        first = [b if s else a for a, b, s in zip(named["left"], named["right"], swap, strict=True)]
        second = [a if s else b for a, b, s in zip(named["left"], named["right"], swap, strict=True)]
        pairs = list(zip(named["group"], first, second, strict=True))
        called = named.get("pair", pairs)
        one = dict(zip(called, pairs, strict=True))
        for row, (name, compared) in enumerate(zip(called, pairs, strict=True)):
            if one[name] != compared:
                raise ValueError(
                    f"row {row}: pair {name!r} is {compared}; elsewhere it is {one[name]}, expected one"
                )
        return cls._sorted(
            called,
            one,
            named["labeler"],
            labelers,
            np.where(swap & (said < NEITHER), 1.0 - said, said),
            np.where(swap, -shown, shown),
            counts,
            ties,
        )

    @classmethod
    def _sorted(
        cls,
        called: list[Any],
        one: dict[Any, tuple[Any, Any, Any]],
        labeler: list[Any],
        labelers: Sequence[Any] | None,
        outcome: Floats,
        placed: Floats,
        weight: Floats,
        ties: bool,
    ) -> Comparisons:
        pairs = sorted(one)
        candidates = sorted({(one[p][0], c) for p in pairs for c in one[p][1:]})
        everywhere = sorted({c for _, c in candidates})
        people = _people(labeler, labelers)
        place = {name: row for row, name in enumerate(pairs)}
        seat = {name: row for row, name in enumerate(candidates)}
        home = {name: row for row, name in enumerate(everywhere)}
        who = {name: row for row, name in enumerate(people)} | {None: -1}
        pair_row = np.array([place[name] for name in called], dtype=np.int64)
        labeler_row = np.array([who[name] for name in labeler], dtype=np.int64)
        order = np.lexsort((weight, placed, outcome, labeler_row, pair_row))
        return cls(
            pair=pair_row[order],
            labeler=labeler_row[order],
            outcome=outcome[order].astype(np.int64),
            placed=placed[order],
            weight=weight[order],
            left=np.array([seat[one[p][0], one[p][1]] for p in pairs], dtype=np.int64),
            right=np.array([seat[one[p][0], one[p][2]] for p in pairs], dtype=np.int64),
            across=np.array([home[c] for _, c in candidates], dtype=np.int64),
            pairs=tuple(pairs),
            candidates=tuple(candidates),
            everywhere=tuple(everywhere),
            labelers=tuple(people),
            ties=ties,
        )


def _people(labeler: list[Any], labelers: Sequence[Any] | None) -> list[Any]:
    """Return all labelers in order. Raises ValueError where one is twice there, or one who judged is missing."""
    spoke = {who for who in labeler if who is not None}
    if labelers is None:
        return sorted(spoke)
    named = checked_names("labelers", labelers)
    twice = [who for who, times in Counter(named).items() if times > 1]
    if twice:
        raise ValueError(f"labelers names {twice[0]!r} twice; expected each once")
    for row, who in enumerate(labeler):
        if who is not None and who not in named:
            raise ValueError(f"labeler of row {row} is {who!r}; expected one of labelers")
    return sorted(named)


def _check(columns: dict[str, Any], votes: int, ties: bool) -> None:
    for name, column in columns.items():
        if (np.ndim(column) != 1 and isinstance(column, np.ndarray)) or len(column) != votes:
            raise ValueError(f"{name} has shape {np.shape(column)}; expected ({votes},), as left has")
    outcomes = (LEFT, RIGHT, NEITHER) if ties else (LEFT, RIGHT)
    _refuse(~np.isin(columns["outcome"], outcomes), columns["outcome"], "outcome", f"one of {outcomes}")
    _refuse(~np.isin(columns["placed"], (-1.0, 0.0, 1.0)), columns["placed"], "placed", "1, 0 or -1")
    good = (columns["weight"] > 0.0) & (columns["weight"] <= _HEAVIEST)
    _refuse(~good, columns["weight"], "weight", f"a number above 0, at most {_HEAVIEST:g}")
    same = np.array([a == b for a, b in zip(columns["left"], columns["right"], strict=True)], dtype=bool)
    _refuse(same, columns["right"], "right", "another candidate than the left")


def _refuse(wrong: NDArray[np.bool_], column: Any, name: str, expected: str) -> None:
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ValueError(f"{name} of row {row} is {column[row]!r}; expected {expected}")
