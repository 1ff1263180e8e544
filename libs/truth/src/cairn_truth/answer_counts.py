"""How many answers each labeler gave to a live state, be they held in it or elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from .columns import check_instance, checked_name


class AnswerCounts:
    """Counts the answers that a live state is given, whatever their kind."""

    def __init__(self) -> None:
        self.votes = 0
        """Answers held, or as many as `count_as` said."""
        self._counts: dict[str, int] = {}

    def labelers(self) -> list[str]:
        """Return the labelers who answered, by name."""
        return sorted(self._counts)

    def counts(self) -> dict[str, int]:
        """Return how many answers each labeler gave, by name."""
        return dict(self._counts)

    def count_of(self, labeler: str) -> int:
        """Return how many answers a labeler gave."""
        return self._counts.get(labeler, 0)

    def count_as(self, counts: Mapping[str, int]) -> None:
        """Count answers as said, whatever is held: of a caller who brings the answers to an item only while they matter.

        Raises ValueError for what is no count of labelers' answers.
        """
        check_instance("counts", counts, Mapping, "a mapping of labelers to how many answers they gave")
        for labeler, count in counts.items():
            checked_name("labeler", labeler)
            if isinstance(count, bool) or not isinstance(count, int) or count < 0:
                raise ValueError(
                    f"the count of {labeler!r:.100} is {count!r:.100}; expected a whole number, 0 or more"
                )
        self._counts = {labeler: count for labeler, count in counts.items() if count}
        self.votes = sum(self._counts.values())

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """Take in, for as long as the block lasts, what is counted already."""
        held, self._counts = (self._counts, self.votes), {}
        try:
            yield
        finally:
            self._counts, self.votes = held

    def _count_one(self, labeler: str) -> None:
        self.votes += 1
        self._counts[labeler] = self._counts.get(labeler, 0) + 1

    def _count_one_less(self, labeler: str) -> None:
        self.votes -= 1
        left = self._counts.get(labeler, 0) - 1
        if left > 0:
            self._counts[labeler] = left
        else:
            self._counts.pop(labeler, None)
