"""Whose fault a failure is, the item's or the judge's. Decisions alone; `loop.py` carries them out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

Of = TypeVar("Of")


@dataclass(frozen=True, slots=True)
class Doubt(Generic[Of]):
    """What the judge failed at, which item that is, how, and when (time.monotonic); what is judged together is judged at one
    time."""

    of: Of
    item: str
    error: Exception
    judged_at: float


class Doubts(Generic[Of]):
    """The items that the judge failed at since its last answer that was kept.

    An answer that was judged later and is kept shows that the judge is sound, and that the items are at fault. After
    `enough` items in a row the judge is. Nothing else ends the row, whatever becomes of its items meanwhile.
    """

    def __init__(self, enough: int) -> None:
        self._enough = enough
        self._row: dict[str, Doubt[Of]] = {}
        self._sound_at = float("-inf")

    def __len__(self) -> int:
        return len(self._row)

    @property
    def last(self) -> Doubt[Of]:
        """The failure that was heard of last."""
        return next(reversed(self._row.values()))

    @property
    def enough(self) -> bool:
        """Whether the judge should be asked no more, unless answers that are on their way show that it is sound."""
        return len(self._row) >= self._enough

    def add(self, doubt: Doubt[Of]) -> bool:
        """Take in a failure; False where the item is at fault: an answer that was judged later, or with it, is kept."""
        if doubt.judged_at <= self._sound_at:
            return False
        self._row.pop(doubt.item, None)
        self._row[doubt.item] = doubt
        return True

    def kept(self, judged_at: float) -> list[Doubt[Of]]:
        """End the row up to an answer that was kept, and return that part: the items are at fault."""
        self._sound_at = max(self._sound_at, judged_at)
        ended = [doubt for doubt in self._row.values() if doubt.judged_at <= self._sound_at]
        for doubt in ended:
            del self._row[doubt.item]
        return ended

    def condemn_the_judge(self, unacknowledged: float, dry: bool) -> bool:
        """Whether the judge is at fault.

        `unacknowledged` is when the newest answer was judged of which nobody knows whether it is kept (infinity: one is
        being judged, minus infinity: there is none), `dry` whether there is nothing else to judge.
        """
        if dry and self._sound_at == float("-inf"):
            return bool(self._row)
        return self.enough and unacknowledged < min(doubt.judged_at for doubt in self._row.values())
