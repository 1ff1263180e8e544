"""One measured number of the benchmark, with its reference and its goal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter


@dataclass(frozen=True, slots=True)
class Row:
    """``value`` of ours in ``unit`` beside the ``reference`` of a peer, both measured in this run.

    ``least`` or ``most`` is the goal for ``value``; ``spread`` is from the least to the most over runs, in ``unit``.
    """

    what: str
    unit: str
    value: float
    reference: float | None = None
    peer: str = ""
    least: float | None = None
    most: float | None = None
    spread: float = 0.0

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; None without one."""
        if self.least is None and self.most is None:
            return None
        return (self.least is None or self.value >= self.least) and (
            self.most is None or self.value <= self.most
        )

    def as_json(self) -> dict[str, object]:
        """Return the row as one object of bench.json."""
        goal = {k: v for k, v in (("min", self.least), ("max", self.most)) if v is not None}
        return {
            "what": self.what,
            "unit": self.unit,
            "value": self.value,
            "reference": self.reference,
            "peer": self.peer,
            "ratio": self.value / self.reference if self.reference else None,
            "goal": goal or None,
            "spread": self.spread,
        }


class Absent(Exception):
    """What a measurement needs is not here: a data folder, or a peer. It is told, and passed over."""


def folder(data: Path, name: str) -> Path:
    """Return a folder of recorded answers; raises Absent."""
    if not (data / name).is_dir():
        raise Absent(f"no folder {name} in {data}")
    return data / name


def seconds(work: Callable[[], object], runs: int = 5) -> Sequence[float]:
    """Return the seconds of each of so many runs, sorted."""
    taken = []
    for _ in range(runs):
        started = perf_counter()
        work()
        taken.append(perf_counter() - started)
    return sorted(taken)


def interleaved(
    ours: Callable[[], object], theirs: Callable[[], object], runs: int = 5
) -> tuple[float, float, float]:
    """Run both in turn, so that a busy moment hits both: median seconds of each, and the spread of ours."""
    pairs = [(seconds(ours, 1)[0], seconds(theirs, 1)[0]) for _ in range(runs)]
    mine = [a for a, _ in pairs]
    return median(mine), median(b for _, b in pairs), max(mine) - min(mine)


Rows = Iterator[Row]
