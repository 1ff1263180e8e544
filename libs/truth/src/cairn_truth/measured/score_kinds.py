"""Every method for the kind of answer that a folder holds, the default first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from .recorded import SCORINGS, Played, RecordedAnswers
from .replay import Recorded
from .score import Score, peak_mb, score, timed


def score_any(recorded: Recorded | RecordedAnswers, *, memory: bool = False) -> Iterator[Score]:
    """Fit and judge every method, the default first; with ``memory`` each once more, for the most that it holds."""
    if isinstance(recorded, Recorded):
        return score(recorded, memory=memory)
    return _score_answers(recorded, memory=memory)


def _score_answers(recorded: RecordedAnswers, *, memory: bool) -> Iterator[Score]:
    """Yield means over the plays of what the kind's module measures."""
    scoring = SCORINGS[recorded.kind]
    for name, method in scoring.METHODS.items():
        fits = [timed(partial(method, play.crowd)) for play in recorded.plays]
        held = peak_mb(partial(method, recorded.plays[0].crowd)) if memory else None
        judged = [
            scoring.judge(_known(fit.found, play), play.truths)
            for fit, play in zip(fits, recorded.plays, strict=True)
        ]
        seconds = float(np.mean([fit.seconds for fit in fits]))
        yield Score(recorded.kind, name, name == scoring.DEFAULT, _means(judged), seconds, held)


def _known(values: Mapping[str, Any], play: Played) -> Mapping[str, Any]:
    return {item: values[item] for item in play.truths if item in values}


def _means(judged: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    return {measure: float(np.mean([each[measure] for each in judged])) for measure in judged[0]}
