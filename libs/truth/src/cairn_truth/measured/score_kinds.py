"""Every method for the kind of answer that a folder holds, the default first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from .recorded import SCORINGS, Played, RecordedAnswers
from .replay import Recorded
from .score import Score, score, timed


def score_any(recorded: Recorded | RecordedAnswers) -> Iterator[Score]:
    """Fit and judge every method, the default first."""
    return score(recorded) if isinstance(recorded, Recorded) else _score_answers(recorded)


def _score_answers(recorded: RecordedAnswers) -> Iterator[Score]:
    """Yield means over the plays of what the kind's module measures.

    Each fit is timed as it is; the first is done again for its memory, since tracing would slow it several times.
    """
    scoring = SCORINGS[recorded.kind]
    for name, method in scoring.METHODS.items():
        fits = [timed(partial(method, play.crowd), traced=False) for play in recorded.plays]
        memory = timed(partial(method, recorded.plays[0].crowd), traced=True).peak_mb
        judged = [
            scoring.judge(_known(fit.found, play), play.truths)
            for fit, play in zip(fits, recorded.plays, strict=True)
        ]
        seconds = float(np.mean([fit.seconds for fit in fits]))
        yield Score(recorded.kind, name, name == scoring.DEFAULT, _means(judged), seconds, memory)


def _known(values: Mapping[str, Any], play: Played) -> Mapping[str, Any]:
    return {item: values[item] for item in play.truths if item in values}


def _means(judged: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    return {measure: float(np.mean([each[measure] for each in judged])) for measure in judged[0]}
