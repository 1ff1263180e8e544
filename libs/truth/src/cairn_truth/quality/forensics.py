"""Who does not do the work? Spammers, colluders and bots of a crowd, each with the evidence, in one list.

Nobody with few answers is named: where nothing is known of a labeler, the labeler is like the crowd. A finding is a reason
to look, not a verdict: answers may be re-weighed or asked again, but people should hear why.
"""

from __future__ import annotations

from types import NoneType

from numpy.typing import ArrayLike

from ..classes.hierarchical import HierarchicalDawidSkene, HierarchicalFit
from ..classes.votes import Votes
from ..columns import check_instance
from .answer_times import AnswerTimes
from .bots import find_bots
from .colluders import find_colluders
from .findings import Finding, Misconduct, checked_fit, names_of
from .spammers import find_spammers

__all__ = [
    "AnswerTimes",
    "Finding",
    "Misconduct",
    "find_bots",
    "find_colluders",
    "find_spammers",
    "investigate",
    "names_of",
]


def investigate(
    votes: Votes,
    fit: HierarchicalFit | None = None,
    *,
    gold: ArrayLike | None = None,
    times: AnswerTimes | None = None,
    false_rate: float = 0.05,
) -> list[Finding]:
    """Return every finding, surest first; of each kind at most ``false_rate`` are expected to be false.

    ``fit`` of these votes, by `HierarchicalDawidSkene`, is made if not given; ``gold`` ``(items,)`` holds known classes,
    -1 elsewhere; ``times`` are needed for bots, in any order: they say whose they are. Raises ValueError as the parts do.
    """
    check_instance("times", times, (AnswerTimes, NoneType), "AnswerTimes, or None")
    known = HierarchicalDawidSkene().fit(votes, gold=gold) if fit is None else checked_fit(votes, fit)
    findings = find_spammers(votes, known, gold=gold, false_rate=false_rate)
    findings += find_colluders(votes, gold=gold, false_rate=false_rate)
    if times is not None:
        findings += find_bots(
            times.item, times.labeler, times.taken(), moment=times.moment, false_rate=false_rate
        )
    return sorted(findings, key=lambda found: (-found.probability, found.kind.value, found.labelers))
