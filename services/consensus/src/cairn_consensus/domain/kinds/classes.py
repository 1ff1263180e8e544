"""One of the classes, or a set of them."""

# ruff: noqa: D102 - QuestionState says what each method is for
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cairn.consensus.v1.consensus_pb2 import ClassProbability, Posterior, Reliability
from cairn.label.v1.label_schema_pb2 import Question
from cairn.label.v1.label_value_pb2 import Answer, Choices
from cairn_consensus.domain.ids import ItemKey, LabelerName, is_model, model_labeler
from cairn_consensus.domain.kinds.question_state import FittedState, Leading, Part
from cairn_truth import ChosenSet, LiveChoices, LiveClasses, StopDecision, StopPolicy, Weighed
from cairn_truth.classes import choices
from cairn_truth.classes.blocks import ALGORITHM, VERSION
from cairn_truth.routing.stop_rule import decide_unchecked

_SHOWN = 0.001
"""Classes less probable than this are left out of a posterior."""

_MOST_CONFUSION = 50
"""Confusion matrices of more classes than this are not sent."""


class ChoiceState(FittedState):
    """Exactly one of the classes."""

    algorithm = ALGORITHM
    algorithm_version = VERSION
    numbered = True

    def __init__(self, question: Question) -> None:
        super().__init__(question)
        self.class_ids = [one.id for one in question.choice.classes]
        self._place = {class_id: place for place, class_id in enumerate(self.class_ids)}
        self._answers = [Answer(question=self.id, choice=class_id) for class_id in self.class_ids]
        self._live: LiveClasses = LiveClasses(len(self.class_ids), is_model=is_model)
        self._model_vote: dict[ItemKey, LabelerName] = {}
        self._posteriors: dict[ItemKey, NDArray[np.float64]] = {}
        self._weighed: dict[ItemKey, list[Weighed]] = {}
        """Both of the items that were looked at last, as long as nothing has changed."""

    def look_at(self, items: Sequence[ItemKey], *, evidence: bool) -> None:
        self._posteriors = dict(zip(items, self._live.posteriors(items), strict=True))
        self._weighed = dict(zip(items, self._live.weigh_each(items), strict=True)) if evidence else {}

    def _forget(self, *items: ItemKey) -> None:
        for item in items or list(self._posteriors):
            self._posteriors.pop(item, None)
            self._weighed.pop(item, None)

    def _posterior(self, item: ItemKey) -> NDArray[np.float64]:
        found = self._posteriors.get(item)
        return self._live.posterior(item) if found is None else found

    def adopt(self, learnt: Any) -> None:
        self._forget()
        super().adopt(learnt)

    def restore(self, saved: bytes) -> None:
        self._forget()
        super().restore(saved)

    def _vote(self, item: ItemKey, labeler: LabelerName, answer: Answer) -> None:
        self._forget(item)
        place = self._place.get(answer.choice)
        if place is None:  # a class of an earlier schema
            self._live.withdraw(item, labeler)
        else:
            self._live.add(item, labeler, place)

    def score(
        self, item: ItemKey, model: str, probabilities: Sequence[float], class_ids: Sequence[str]
    ) -> None:
        self._forget(item)
        best = int(np.argmax(probabilities))
        labeler = model_labeler(model, float(probabilities[best]))
        before = self._model_vote.pop(item, None)
        if before is not None:
            self.heard.add(before)
            self._live.withdraw(item, before)
        if class_ids[best] not in self._place:
            return
        self.heard.add(labeler)
        self._model_vote[item] = labeler
        self._live.add(item, labeler, self._place[class_ids[best]])

    def _know(self, item: ItemKey, truth: Answer) -> None:
        self._forget(item)
        self._live.know(item, self._place.get(truth.choice))

    def leading(self, item: ItemKey) -> Leading | None:
        if not self._live.votes_on(item):
            return None
        posterior = self._posterior(item)
        best = int(posterior.argmax())
        return Leading(self._answers[best], float(posterior[best]))

    def stop(self, item: ItemKey, answers: int, policy: StopPolicy) -> StopDecision:
        return decide_unchecked(
            self._posterior(item), answers, policy, correlation=self._live.model.correlation
        )

    def parts(self, item: ItemKey) -> list[Part]:
        lead = int(self._posterior(item).argmax())
        weighed = self._weighed.get(item)
        return [
            Part(LabelerName(part.labeler), self.class_ids[part.choice], part.weight, part.choice == lead)
            for part in (self._live.weigh(item) if weighed is None else weighed)
        ]

    def fill(self, posterior: Posterior, item: ItemKey) -> None:
        said = self._posterior(item)
        for place in np.argsort(-said, kind="stable"):
            if said[place] < _SHOWN:
                break
            posterior.classes.add(class_id=self.class_ids[place], probability=float(said[place]))

    def reliabilities(self) -> list[Reliability]:
        found = []
        for labeler in self._live.labelers():
            known = self._live.reliability(labeler)
            few = len(self.class_ids) <= _MOST_CONFUSION
            found.append(
                Reliability(
                    labeler=labeler,
                    question=self.id,
                    votes=known.votes,
                    accuracy=known.accuracy,
                    accuracy_low=known.low,
                    accuracy_high=known.high,
                    class_ids=self.class_ids if few else [],
                    confusion=known.confusion.ravel().tolist() if few else [],
                )
            )
        return found


class ChoicesState(FittedState):
    """A set of the classes."""

    algorithm = choices.ALGORITHM
    algorithm_version = f"{choices.VERSION}.1"
    """The second number is of what is made here of the classes' probabilities."""

    def __init__(self, question: Question) -> None:
        super().__init__(question)
        self._fewest = question.choices.min_choices
        self._most = question.choices.max_choices or len(question.choices.classes)
        self._live: LiveChoices = LiveChoices([one.id for one in question.choices.classes])

    def _vote(self, item: ItemKey, labeler: LabelerName, answer: Answer) -> None:
        self._live.add(item, labeler, tuple(answer.choices.class_ids))

    def _know(self, item: ItemKey, truth: Answer) -> None:
        self._live.know(item, tuple(truth.choices.class_ids))

    def leading(self, item: ItemKey) -> Leading | None:
        if not self._live.votes_on(item):
            return None
        classes, confidence = self._allowed(self._live.posterior(item))
        return Leading(Answer(question=self.id, choices=Choices(class_ids=classes)), confidence)

    def _allowed(self, chosen: ChosenSet) -> tuple[Sequence[str], float]:
        """The most probable set that an answer may be, and how sure it is. Each class is judged by itself: together
        they may be more or fewer than the question allows."""
        size = min(max(len(chosen.classes), self._fewest), self._most)
        if size == len(chosen.classes):
            return chosen.classes, chosen.confidence
        p = chosen.probabilities
        allowed = set(sorted(p, key=lambda name: (-p[name], name))[:size])
        confidence = chosen.confidence
        for name in sorted(allowed ^ set(chosen.classes)):
            # What is left out is likelier than not, what is taken in is not: neither divides by nothing.
            confidence *= p[name] / (1.0 - p[name]) if name in allowed else (1.0 - p[name]) / p[name]
        return sorted(allowed), confidence

    def parts(self, item: ItemKey) -> list[Part]:
        lead, votes = set(self._allowed(self._live.posterior(item))[0]), self._live.votes_on(item)
        said = {who: (",".join(sorted(chosen)), set(chosen) == lead) for who, chosen in votes}
        return [
            Part(LabelerName(one.labeler), said[one.labeler][0], one.weight, said[one.labeler][1])
            for one in self._live.weigh(item)
        ]

    def fill(self, posterior: Posterior, item: ItemKey) -> None:
        probabilities = self._live.posterior(item).probabilities
        posterior.classes.extend(
            ClassProbability(class_id=name, probability=p)
            for name, p in sorted(probabilities.items(), key=lambda pair: (-pair[1], pair[0]))
            if p >= _SHOWN
        )

    def reliabilities(self) -> list[Reliability]:
        known = [self._live.reliability(labeler) for labeler in self._live.labelers()]
        return [
            Reliability(
                labeler=one.labeler,
                question=self.id,
                votes=one.votes,
                accuracy=one.accuracy,
                accuracy_low=one.low,
                accuracy_high=one.high,
            )
            for one in known
        ]
