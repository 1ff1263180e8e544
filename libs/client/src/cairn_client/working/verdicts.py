"""What a machine labeler is asked, what it may say, and what came of it all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from cairn_client.calls.job import Answers, Job
from cairn_client.errors import CairnError


@dataclass(frozen=True, slots=True)
class Skip:
    """The labeler gives the task back for good, and says why: somebody else gets it."""

    reason: str


@dataclass(frozen=True, slots=True)
class Release:
    """The labeler gives the task back; it may come again when nothing else is left."""


Verdict = Answers | Skip | Release
"""What is said of one job: `{question id: value}` as for `submit`, or that it is given back."""

Judge = Callable[[Sequence[Job]], Sequence[Verdict] | Awaitable[Sequence[Verdict]]]
"""One verdict for each job, in order. A plain function runs in a thread, so that leases are kept alive meanwhile."""


class JudgeFailed(CairnError):
    """The judge failed at so many items in a row that it, not they, must be broken; the cause is the last failure."""


@dataclass(slots=True)
class Worked:
    """What a run has done, in items."""

    answered: int = 0
    """Answers that are kept."""
    late: int = 0
    """Those of them that came after their lease's end."""
    skipped: int = 0
    """Given back for good because the judge said so."""
    released: int = 0
    """Given back because the judge said so, or unjudged when the run ended."""
    failed: int = 0
    """Given back for good because the judge raised, or its answer was refused, or the item cannot be seen."""
    lost: int = 0
    """Leases that ended before their item was judged, or items that the labeler had answered already."""
