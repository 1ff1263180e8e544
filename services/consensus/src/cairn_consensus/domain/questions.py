"""All questions of a project: what was answered to each, and what was learnt of those who answered."""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from cairn.label.v1.label_schema_pb2 import Question
from cairn_consensus.domain.ids import ItemKey, LabelerName, QuestionId
from cairn_consensus.domain.items import Score, Truth, Vote
from cairn_consensus.domain.kinds import QuestionState, RelationsState, states_of

Learnt = Mapping[QuestionId, Any]
"""What was learnt of labelers, by question."""

AnswersGiven = Mapping[QuestionId, Mapping[str, int]]
"""How many answers each labeler gave, by question."""


class Questions(dict[QuestionId, QuestionState]):
    """The states of a schema's questions. What is said of others, of an earlier schema, is passed over."""

    def __init__(self, schema: Iterable[Question]) -> None:
        super().__init__((state.id, state) for state in states_of(schema))
        self._linking: dict[QuestionId, list[RelationsState]] = {}
        """The questions whose answers link the spans of a question's answers."""
        self.unfitted: set[QuestionId] = set()
        """Those of which the fit that was restored knows nothing."""
        self._passed_over: set[QuestionId] = set()
        """Those of them of whose answers something was learnt, of which no use can be made."""
        for state in self.values():
            if isinstance(state, RelationsState):
                self._linking.setdefault(QuestionId(state.spans_question), []).append(state)

    # --- what came in

    def vote(self, vote: Vote) -> None:
        """Add one answer; an abstention is none."""
        question = self.get(vote.question)
        if question is None or vote.answer.WhichOneof("value") == "abstention":
            return
        question.vote(vote.item, vote.labeler, vote.answer)
        for links in self._linking.get(vote.question, ()):
            links.hear_spans(vote.item, vote.labeler, vote.answer)

    def score(self, score: Score) -> None:
        """Hear what a model says of an item."""
        if score.question in self:
            self[score.question].score(score.item, score.model, score.probabilities, score.class_ids)

    def know(self, truth: Truth) -> None:
        """Hear the truth: of gold, or from a reviewer."""
        if truth.question in self:
            self[truth.question].know(truth.item, truth.answer)
            for links in self._linking.get(truth.question, ()):
                links.know_spans(truth.item, truth.answer)

    def answers_given(self) -> AnswersGiven:
        """How many answers each labeler gave."""
        return {name: question.counts() for name, question in self.items()}

    def count_as(self, answers: AnswersGiven) -> None:
        """Count answers as given, whichever are at hand."""
        for name, question in self.items():
            question.count_as(answers.get(name, {}))

    @property
    def answers(self) -> int:
        """How many answers were given."""
        return sum(question.answers for question in self.values())

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """What is heard meanwhile is counted already."""
        heard = {name: set(question.heard) for name, question in self.items()}
        with ExitStack() as stack:
            for question in self.values():
                stack.enter_context(question.uncounted())
            yield
        for name, question in self.items():
            question.heard = heard[name]

    def newly_counted(self) -> list[tuple[QuestionId, LabelerName, int]]:
        """How many answers they gave who were heard since this was last asked."""
        found = [
            (name, labeler, question.count_of(labeler))
            for name, question in self.items()
            for labeler in sorted(question.heard)
        ]
        for question in self.values():
            question.heard.clear()
        return found

    def look_at(self, items: Sequence[ItemKey], *, evidence: bool) -> None:
        """Hear which items are judged next; ``evidence``: most of them will be decided."""
        for question in self.values():
            question.look_at(items, evidence=evidence)

    # --- what is learnt

    def adopt(self, learnt: Learnt) -> None:
        """Take what was learnt into use."""
        for name, of_question in learnt.items():
            self[name].adopt(of_question)
        self.unfitted.difference_update(learnt)
        self._passed_over.difference_update(learnt)

    def save(self) -> bytes:
        """What is in use, as bytes."""
        return json.dumps({name: b64encode(self[name].save()).decode() for name in sorted(self)}).encode()

    def restore(self, saved: bytes) -> None:
        """Go on from what was saved. What was learnt of other classes, or by another version, is passed over."""
        self.unfitted, self._passed_over = set(self), set()
        for name, state in json.loads(saved).items():
            if name not in self:
                continue
            try:
                self[name].restore(b64decode(state))
            except ValueError:
                self._passed_over.add(name)
            else:
                self.unfitted.remove(name)

    @property
    def lost(self) -> bool:
        """Whether what was learnt of any question's answers was passed over: only another fit makes that good."""
        return any(self[name].answers for name in self._passed_over)

    def digest(self) -> bytes:
        """SHA-256 of what was learnt: equal digests weigh every vote equally."""
        sha = hashlib.sha256()
        for name in sorted(self):
            sha.update(name.encode() + b"\0" + self[name].digest())
        return sha.digest()
