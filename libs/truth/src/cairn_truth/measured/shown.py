"""Tables as the command shows them: aligned, each row as soon as it is known, a title once there is a row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass
class Shown:
    """A table of ``columns`` (title, width), each line handed to ``write``; the first ``words`` columns hold words, and
    lean to the left.
    """

    write: Callable[[str], None]
    columns: Sequence[tuple[str, int]]
    words: int = 2
    _titled: bool = field(default=False, init=False)

    def row(self, *cells: str) -> None:
        """Write a row, below the titles if it is the first."""
        if not self._titled:
            self._titled = True
            self._line([title for title, _ in self.columns])
            self._line(["-" * width for _, width in self.columns])
        self._line(cells)

    def _line(self, cells: Sequence[str]) -> None:
        widths = [width for _, width in self.columns]
        aligned = [
            cell.ljust(width) if place < self.words else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        self.write(f"| {' | '.join(aligned)} |")
