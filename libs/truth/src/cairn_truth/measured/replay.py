"""A recorded crowd, played back: what would have been asked, and how good would the labels have been?

The recorded answers come in a seeded random order, in batches that were all claimed before any of them was known,
as people work at the same time. An answer is used only if its item still wants one; others wait, and are saved if it
never does. Reliabilities are refitted whenever the votes have grown by a set share, and every item is judged again: one
decided on the word of labelers who have since proved weaker is opened again. At the end everything collected is fitted
once more and each item takes its most probable class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..classes.blocks import BlockDawidSkene
from ..classes.dawid_skene import MajorityVote
from ..classes.live_classes import LiveClasses
from ..classes.votes import Votes
from ..columns import Floats, whole_numbers
from ..routing.calibration import expected_calibration_error
from ..routing.stop_rule import StopPolicy, Verdict, decide

FIRST_REFIT = 100
"""The first refit waits for so many votes: fewer say nothing of any labeler."""

REFIT_GROWTH = 0.2
"""Refit when votes have grown by a fifth: all refits together cost some six times the last one."""


@dataclass(frozen=True)
class Recorded:
    """Recorded answers: ``votes``, and ``truth`` (items,) with -1 where it is not known."""

    votes: Votes
    truth: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What a replay came to.

    ``accuracy`` of the final labels of all items with a vote and a truth; of all recorded answers ``default_accuracy``
    the same of the default method, ``majority_accuracy`` of `MajorityVote`, a tie the lower class's as everywhere;
    ``answers_used`` of ``answers_recorded``; ``ece`` the labels'
    calibration error. ``stopped`` items reached the target; they claimed ``stop_confidence`` on average and were
    right ``stop_accuracy`` of the time.
    """

    accuracy: float
    default_accuracy: float
    majority_accuracy: float
    answers_used: int
    answers_recorded: int
    ece: float
    stopped: int
    stop_confidence: float
    stop_accuracy: float
    disputed: int
    refits: int

    @property
    def used_share(self) -> float:
        """Answers used of those recorded."""
        return self.answers_used / max(self.answers_recorded, 1)


@dataclass
class _Desk:
    """One item's state at the desk: wanted, claimed and given answers."""

    wanted: int
    given: int = 0
    claimed: int = 0
    open: bool = True


@dataclass(frozen=True, slots=True)
class _Stop:
    """How an item stood when asking stopped."""

    disputed: bool
    confidence: float
    right: bool


def replay(
    recorded: Recorded,
    *,
    seed: int,
    policy: StopPolicy | None = None,
    model: BlockDawidSkene | None = None,
    lag: int = 64,
) -> ReplayResult:
    """Play recorded answers back through update, stop rule and refit.

    ``lag`` is how many answers are claimed before the first of them is known. Raises ValueError unless it is 1 or more.
    """
    lag = int(whole_numbers("lag", lag, 1))
    votes, policy = recorded.votes, policy or StopPolicy()
    names = [f"{i:09d}" for i in range(votes.items)]
    who = [f"p{i:09d}" for i in range(votes.labelers)]
    live = LiveClasses(votes.classes, model)
    desks = [_Desk(policy.max_answers if policy.fixed else policy.min_answers) for _ in names]
    stops: dict[int, _Stop] = {}
    people = last_refit = 0

    def judge(items: Sequence[int]) -> None:
        for item, posterior in zip(items, live.posteriors([names[i] for i in items]), strict=True):
            desk = desks[item]
            said = decide(posterior, desk.given, policy, correlation=live.model.correlation)
            desk.wanted = max(desk.wanted, said.answers_wanted)
            desk.open = said.verdict is Verdict.ASK
            stops.pop(item, None)
            if not desk.open:
                stops[item] = _Stop(
                    said.verdict is Verdict.DISPUTED,
                    said.confidence,
                    int(posterior.argmax()) == recorded.truth[item],
                )

    waiting = np.random.default_rng(seed).permutation(len(votes)).tolist()
    moved = True
    while moved:
        moved, later, batch = False, [], []
        for at, answer in enumerate(waiting):
            desk = desks[votes.item[answer]]
            if desk.open and desk.given + desk.claimed < desk.wanted:
                desk.claimed += 1
                batch.append(answer)
            else:  # A refit may yet open its item again.
                later.append(answer)
            if len(batch) < lag and (at + 1 < len(waiting) or not batch):
                continue
            moved = True
            for done in batch:
                item = int(votes.item[done])
                desks[item].claimed -= 1
                desks[item].given += 1
                live.add(names[item], who[votes.labeler[done]], int(votes.choice[done]))
            people += len(batch)
            judge(sorted({int(votes.item[done]) for done in batch if desks[votes.item[done]].open}))
            batch = []
            if people >= max(FIRST_REFIT, last_refit * (1.0 + REFIT_GROWTH)):
                last_refit = people
                live.refit()
                judge([item for item, desk in enumerate(desks) if desk.given >= policy.min_answers])
        waiting = later
    live.refit()
    return _result(recorded, live, names, stops, people)


def majority_accuracy(votes: Votes, truth: ArrayLike) -> float:
    """Return the accuracy of the majority of all answers; a tie is the lower class's, as `MajorityVote` labels it."""
    return _accuracy(MajorityVote().fit(votes).posterior, votes, np.asarray(truth))


def _accuracy(posterior: Floats, votes: Votes, truth: NDArray[np.int64]) -> float:
    """Return the share of items with votes and a truth whose likeliest class it is; 0 of none."""
    judged = (truth >= 0) & (votes.per_item() > 0)
    return float((posterior.argmax(axis=1) == truth)[judged].mean()) if judged.any() else 0.0


def _result(
    recorded: Recorded, live: LiveClasses, names: Sequence[str], stops: dict[int, _Stop], people: int
) -> ReplayResult:
    judged = [i for i, name in enumerate(names) if recorded.truth[i] >= 0 and live.votes_on(name)]
    posterior = live.posteriors([names[i] for i in judged])
    right = posterior.argmax(axis=1) == recorded.truth[judged]
    content = [s for i, s in stops.items() if not s.disputed and recorded.truth[i] >= 0]
    return ReplayResult(
        accuracy=float(right.mean()) if judged else 0.0,
        default_accuracy=_accuracy(live.model.fit(recorded.votes).posterior, recorded.votes, recorded.truth),
        majority_accuracy=majority_accuracy(recorded.votes, recorded.truth),
        answers_used=people,
        answers_recorded=len(recorded.votes),
        ece=expected_calibration_error(posterior.max(axis=1), right) if judged else 0.0,
        stopped=len(content),
        stop_confidence=float(np.mean([s.confidence for s in content])) if content else 0.0,
        stop_accuracy=float(np.mean([s.right for s in content])) if content else 0.0,
        disputed=sum(s.disputed for s in stops.values()),
        refits=live.refits,
    )
