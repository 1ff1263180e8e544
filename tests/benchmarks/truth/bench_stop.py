"""When to stop: the share of all answers that comes within 0.3 point of what all of them reach.

Each recorded crowd is replayed in ten seeded orders of arrival. The target confidence is the lowest of a few whose mean
accuracy over the ten is within 0.3 point of that of all answers; targets that lose twice as much in three are passed over.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cairn_truth import BlockDawidSkene, StopPolicy
from cairn_truth.measured.recorded import read_folder
from cairn_truth.measured.replay import Recorded, ReplayResult, replay
from tests.benchmarks.rows import Row, Rows, folder

_MOST = {"d_possent": 0.35, "sentiment_text": 0.55, "rte": 0.58, "dog": 0.60}
_TARGETS = (0.90, 0.92, 0.93, 0.94, 0.95, 0.96, 0.97, 0.98)
_LOST = 0.003


def rows(data: Path) -> Rows:
    """Yield the answers spent on each crowd, the accuracy they reach, and what was said when asking stopped."""
    for name, most in _MOST.items():
        recorded = read_folder(folder(data, name))
        whole = _accuracy_of_all(recorded)
        target, runs = _enough(recorded, whole)
        used = [run.used_share for run in runs]
        reached = float(np.mean([run.accuracy for run in runs]))
        yield Row(
            f"{name}: share of answers at target {target}",
            "of all answers",
            float(np.mean(used)),
            most=most,
            spread=max(used) - min(used),
        )
        yield Row(f"{name}: accuracy they reach", "", reached, whole, "all answers", least=whole - _LOST)
        said = float(np.mean([run.stop_confidence for run in runs]))
        right = float(np.mean([run.stop_accuracy for run in runs]))
        yield Row(f"{name}: right when asking stopped", "", right, said, "said")


def _enough(recorded: Recorded, whole: float) -> tuple[float, list[ReplayResult]]:
    """Return the lowest target that loses little, and ten replays at it."""
    for target in _TARGETS[:-1]:
        few = _replays(recorded, target, range(3))
        if np.mean([run.accuracy for run in few]) >= whole - 2.0 * _LOST:
            runs = few + _replays(recorded, target, range(3, 10))
            if np.mean([run.accuracy for run in runs]) >= whole - _LOST:
                return target, runs
    return _TARGETS[-1], _replays(recorded, _TARGETS[-1], range(10))


def _replays(recorded: Recorded, target: float, seeds: range) -> list[ReplayResult]:
    policy = StopPolicy(target_confidence=target, max_answers=20)
    return [replay(recorded, seed=seed, policy=policy) for seed in seeds]


def _accuracy_of_all(recorded: Recorded) -> float:
    judged = (recorded.truth >= 0) & (recorded.votes.per_item() > 0)
    label = BlockDawidSkene().fit(recorded.votes).posterior.argmax(axis=1)
    return float((label == recorded.truth)[judged].mean())
