"""What a project's votes say of each item, and what is to be done with it next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from cairn.annotation.v1.annotation_store_pb2 import (
    DISPUTE_POLICY_ACCEPT_BEST,
    STOP_REASON_ALL_ANSWERS_IN,
    STOP_REASON_CAP_REACHED,
    STOP_REASON_CONCLUDED,
    STOP_REASON_REFIT,
    Project,
)
from cairn.annotation.v1.annotation_store_pb2 import StopReason as StopReasonMessage
from cairn.consensus.v1.consensus_pb2 import (
    DECISION_STATE_COLLECTING,
    DECISION_STATE_DECIDED,
    DECISION_STATE_DISPUTED,
    Posterior,
    Reliability,
)
from cairn.events.v1.consensus_events_pb2 import (
    DISPUTE_REASON_KIND_NOT_AGGREGATED,
    Decision,
    DisputeReason,
)
from cairn.label.v1.label_value_pb2 import Answer
from cairn_consensus.domain.ids import ItemKey, QuestionId
from cairn_consensus.domain.items import (
    Announcement,
    Disputed,
    Item,
    Reached,
    Score,
    State,
    Truth,
    Vote,
    Wanted,
)
from cairn_consensus.domain.judging import (
    Judged,
    abstention_prevails,
    decision,
    judge_question,
    stop_policies,
    stop_policy,
)
from cairn_consensus.domain.questions import AnswersGiven, Learnt, Questions
from cairn_truth import Verdict

LARGEST_ANSWER = 200 * 1024
"""Bytes of an answer that fit into an event (256 KiB) with its evidence. annotation-store keeps larger ones; until an
event can point to them there, a reviewer gets the item."""

_STATES = {
    State.COLLECTING: DECISION_STATE_COLLECTING,
    State.DECIDED: DECISION_STATE_DECIDED,
    State.DISPUTED: DECISION_STATE_DISPUTED,
}


_STATE_BYTES, _QUESTION_BYTES = 8_000, 5_000
"""What a state of nothing takes in memory, about, and each of its questions."""
_ITEM_BYTES, _VOTE_BYTES = 1200, 300
"""What an item at hand and one answer to it take in memory, about, beside the answer itself."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How much was said in a project: of all items, those at hand and the others.

    ``votes``: annotations by people, gold's included, with at least one answer that counts; ``label_annotations``: those
    of kind LABEL that were heard of, whether or not any of their answers counts; ``answers``: each labeler's, by question.
    """

    votes: int = 0
    label_annotations: int = 0
    answers: AnswersGiven = field(default_factory=dict)


Tests = Counter[tuple[str, bool]]
"""How often each labeler was right, and how often not, where the truth is known."""


@dataclass(frozen=True, slots=True)
class Fit:
    """What was learnt of so many labelers from so many votes, by a schema and ``after`` so many refits: once there are more,
    or the schema is another, it is out of date."""

    schema_version: int
    after: int
    votes: int
    labelers: int
    learnt: Learnt


class ProjectState:
    """What was learnt of a project's labelers, how much they said, and what was said of the items at hand.

    An item is brought from where all are kept before it is spoken of or judged: what is first heard of one is taken for all
    that there is. Nothing that is known of an item depends on whether another is at hand: what the others teach is in the
    fit. It announces nothing itself.
    """

    def __init__(self, project: Project) -> None:
        self.project = project
        self.questions = Questions(project.schema.questions)
        self.items: dict[ItemKey, Item] = {}
        """Those at hand."""
        self.size = _STATE_BYTES + _QUESTION_BYTES * len(self.questions)
        """Bytes of memory that the state takes, about, with them and what was learnt."""
        self.refits = 0
        self.votes_at_refit = 0
        self.votes = 0
        self.label_annotations = 0
        """Both as in `Counts`."""
        self._always_asked = {
            QuestionId(question.id)
            for question in project.schema.questions
            if question.required and not question.HasField("condition")
        }
        self._policies = stop_policies(project)
        self._fewest = stop_policy(project.quality).min_answers
        """Answers that are asked for of every item, by whatever policy it was imported under."""

    # --- what came in

    def item(self, key: ItemKey) -> Item:
        """Where an item stands; a new one collects."""
        found = self.items.get(key)
        if found is None:
            found = self.items[key] = Item(answers_wanted=self._fewest)
            self.size += _ITEM_BYTES
        return found

    def vote(self, vote: Vote) -> None:
        """Add one answer. An abstention is no vote on the question: it is counted beside."""
        if vote.question not in self.questions:
            return  # asked by an earlier schema, and no longer
        item = self.item(vote.item)
        if vote.annotation not in item.annotations:
            item.annotations[vote.annotation] = vote.labeler
            self.votes += 1
        item.said[vote.question] = item.said.get(vote.question, 0) + 1
        self.size += _VOTE_BYTES + self.questions[vote.question].unpacked * vote.answer.ByteSize()
        if vote.answer.WhichOneof("value") == "abstention":
            item.abstentions.setdefault(vote.question, []).append(vote.answer.abstention.kind)
        self.questions.vote(vote)

    def score(self, score: Score) -> None:
        """Hear what a model says of an item."""
        self.size += _VOTE_BYTES
        self.questions.score(score)

    def know(self, truth: Truth) -> None:
        """Hear the truth: of gold, or from a reviewer."""
        if truth.question in self.questions:
            self.size += self.questions[truth.question].unpacked * truth.answer.ByteSize()
            self.questions.know(truth)
            self.item(truth.item).known.add(truth.question)

    def is_answered(self, key: ItemKey) -> bool:
        """Whether anybody has answered an item at hand."""
        found = self.items.get(key)
        return found is not None and bool(found.annotations)

    # --- how much

    def counts(self) -> Counts:
        """How much was said."""
        return Counts(self.votes, self.label_annotations, self.questions.answers_given())

    def count_as(self, counts: Counts) -> None:
        """Count what was said as given, whatever is at hand."""
        self.votes, self.label_annotations = counts.votes, counts.label_annotations
        self.questions.count_as(counts.answers)

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """What is heard meanwhile was counted when it was first heard."""
        votes = self.votes
        with self.questions.uncounted():
            yield
        self.votes = votes

    # --- what is to be done

    def judge_each(self, items: Sequence[ItemKey]) -> list[Announcement]:
        """What must be said of these items now."""
        self.questions.look_at([key for key in items if self._may_be_decided(self.items[key])], evidence=True)
        return [said for key in items if (said := self.judge(key)) is not None]

    def judge_each_again(self, items: Sequence[ItemKey]) -> list[Announcement]:
        """What must be said of these items after a refit: of few of them anything."""
        self.questions.look_at(
            [key for key in items if self._may_be_decided(self.items[key])], evidence=False
        )
        return [said for key in items if (said := self.judge_again(key)) is not None]

    def conclude_each(self, items: Sequence[ItemKey]) -> list[Announcement]:
        """The last word on these items."""
        self.questions.look_at(items, evidence=True)
        return [said for key in items if (said := self.conclude(key)) is not None]

    def judge(self, key: ItemKey, *, refitted: bool = False) -> Announcement | None:
        """What must be said of an item now, if anything: its state moves as if it had been said."""
        item = self.items[key]
        asked = self._asked(item)
        if not item.annotations or item.known >= asked:
            return None  # nothing was answered, or the truth is known and stands by itself
        if item.state is State.DECIDED:
            opened = self._open_again(key, item, asked) if refitted else None
            reason = STOP_REASON_REFIT if refitted else STOP_REASON_ALL_ANSWERS_IN
            return opened or self._follow(key, item, sorted(asked - item.known), reason)
        if item.state is State.DISPUTED:
            return None  # a reviewer has it
        judged = {
            question: self._judge_question(key, item, question) for question in sorted(asked - item.known)
        }
        asking = [one.answers_wanted for one in judged.values() if one.verdict is Verdict.ASK]
        if asking:
            return None if item.auto else self._ask(key, item, max(asking))
        disputes = [one.dispute for one in judged.values() if one.verdict is Verdict.DISPUTED]
        if disputes:
            leading = (self._decision(key, question, STOP_REASON_CAP_REACHED) for question in judged)
            return None if item.auto else self._dispute(key, item, disputes[0], leading)
        decisions = (self._decision(key, question, one.reason) for question, one in judged.items())
        return self._reach(key, item, [one for one in decisions if one is not None])

    def judge_again(self, key: ItemKey) -> Announcement | None:
        """What must be said of an item after a refit."""
        return self.judge(key, refitted=True)

    def conclude(self, key: ItemKey) -> Announcement | None:
        """The last word on an item: whatever there is stands, unless it stands already."""
        item = self.items[key]
        asked = self._asked(item)
        if not item.annotations or item.known >= asked:
            return None
        item.concluded = True
        if item.auto and item.state is not State.DECIDED:
            return None  # a bound stands behind the model's label; fewer people spoke than it takes to outweigh it
        sure = [q for q in sorted(asked - item.known) if not abstention_prevails(item, q)]
        if item.state is not State.DECIDED:  # its task may be open: say so even where the label stays
            said = (self._decision(key, question, STOP_REASON_CONCLUDED) for question in sure)
            return self._reach(key, item, [one for one in said if one is not None])
        return self._follow(key, item, sure, STOP_REASON_CONCLUDED)

    def undecided(self, items: Iterable[ItemKey]) -> list[ItemKey]:
        """Those of the items that have answers and no label of consensus, known truth or model."""
        return sorted(
            key
            for key in items
            for item in (self.items[key],)
            if item.annotations
            and not item.announced
            and not item.auto
            and not item.known >= self._asked(item)
        )

    # --- everybody's reliability

    def is_due(self, growth: float, at_least: int) -> bool:
        """Whether votes have grown enough for a refit, or what the last one learnt is of no use any more."""
        grown = self.votes >= self.votes_at_refit * (1.0 + growth)
        return self.votes >= at_least and (grown or self.questions.lost)

    def takes(self, fit: Fit) -> bool:
        """Whether a fit is not out of date."""
        return (fit.schema_version, fit.after) == (self.project.schema_version, self.refits)

    def stands_on(self, refit: int) -> bool:
        """Whether what this refit learnt is what is in use, and of use."""
        return self.refits == refit and not self.questions.lost

    def adopt_fit(self, fit: Fit) -> None:
        """Take a fit into use."""
        self.questions.adopt(fit.learnt)
        self.refits += 1
        self.votes_at_refit = fit.votes

    def restore(self, refits: int, votes: int, learnt: bytes) -> None:
        """Go on from a kept fit."""
        self.refits, self.votes_at_refit = refits, votes
        self.questions.restore(learnt)

    def adopt(self, project: Project) -> None:
        """Follow a change of policies; a change of the schema needs a new state."""
        if project.revision > self.project.revision:
            self.project = project
            self._policies = stop_policies(project)
            self.asked_at_least(stop_policy(project.quality).min_answers)

    def asked_at_least(self, answers: int | None) -> None:
        """Hear that so few answers may have been asked for at first."""
        self._fewest = min(self._fewest, answers or self._fewest)

    def posterior(self, key: ItemKey, name: QuestionId) -> Posterior | None:
        """What is known of one question of an item at hand; None while nobody has answered."""
        item = self.items.get(key)
        leading = self.questions[name].leading(key) if item is not None and item.annotations else None
        if item is None or leading is None:
            return None
        found = Posterior(
            item=f"{self.project.name}/items/{key}",
            question=name,
            answer=leading.answer,
            confidence=leading.confidence,
            votes=item.said.get(name, 0),
            state=_STATES[item.state],
            revision=item.revision,
            part_confidences=leading.parts,
        )
        self.questions[name].fill(found, key)
        return found

    def reliabilities(self, name: QuestionId, tests: Tests) -> list[Reliability]:
        """What is known of each labeler on one question."""
        found = self.questions[name].reliabilities()
        for one in found:
            one.gold_correct = tests[one.labeler, True]
            one.gold_votes = tests[one.labeler, True] + tests[one.labeler, False]
        return found

    def tested(self, name: QuestionId, items: Iterable[ItemKey]) -> Iterator[tuple[str, bool]]:
        """Who answered a question of items at hand whose truth is known, and whether they were right."""
        for key in items:
            if name in self.items[key].known:
                yield from ((part.labeler, part.agrees) for part in self.questions[name].parts(key))

    # --- inside

    def _may_be_decided(self, item: Item) -> bool:
        """Whether what the answers say matters already; of how many there are it is asked in any case."""
        fewest = min((policy.asked_in_any_case for policy in self._policies.values()), default=0)
        return len(item.annotations) >= fewest or item.state is State.DECIDED

    def _asked(self, item: Item) -> set[QuestionId]:
        """The questions that an item must have a label for: those always required, and those that somebody answered."""
        return self._always_asked | (item.said.keys() & self.questions.keys())

    def _judge_question(self, key: ItemKey, item: Item, name: QuestionId) -> Judged:
        accept_best = self.project.quality.on_dispute == DISPUTE_POLICY_ACCEPT_BEST
        return judge_question(self.questions[name], key, item, self._policies[name], accept_best=accept_best)

    def _decision(
        self, key: ItemKey, name: QuestionId, reason: StopReasonMessage.ValueType
    ) -> Decision | None:
        refit = 0 if name in self.questions.unfitted else self.refits
        return decision(self.questions[name], key, self.items[key], refit=refit, reason=reason)

    def _ask(self, key: ItemKey, item: Item, wanted: int) -> Announcement | None:
        if wanted <= item.answers_wanted:
            return None  # they were asked for before
        item.answers_wanted = wanted
        item.revision += 1
        return Wanted(key, wanted)

    def _open_again(self, key: ItemKey, item: Item, asked: set[QuestionId]) -> Announcement | None:
        """Ask again about an item that was decided on the word of labelers who have since proved weaker. Its label
        stands until it is decided anew."""
        if item.auto or item.concluded:
            return None
        judged = [self._judge_question(key, item, question) for question in sorted(asked - item.known)]
        wanted = [one.answers_wanted for one in judged if one.verdict is Verdict.ASK]
        if not wanted:
            return None
        item.state = State.COLLECTING
        # The task was closed: the wish must be told anew even where as many were wanted before.
        item.answers_wanted = max(item.answers_wanted, *wanted)
        item.revision += 1
        return Wanted(key, item.answers_wanted)

    def _dispute(
        self, key: ItemKey, item: Item, reason: DisputeReason.ValueType, leading: Iterable[Decision | None]
    ) -> Announcement:
        item.state = State.DISPUTED
        item.revision += 1
        return Disputed(key, reason, tuple(one for one in leading if one is not None))

    def _reach(self, key: ItemKey, item: Item, decisions: Iterable[Decision]) -> Announcement | None:
        said = tuple(decisions)
        if not said:
            return None
        if any(one.answer.ByteSize() > LARGEST_ANSWER for one in said):
            if item.state is State.DISPUTED:
                return None  # a reviewer has it
            return self._dispute(key, item, DISPUTE_REASON_KIND_NOT_AGGREGATED, said)
        item.state = State.DECIDED
        item.revision += 1
        item.announced = {QuestionId(one.answer.question): _bytes(one.answer) for one in said}
        self.size += sum(map(len, item.announced.values()))
        return Reached(key, said)

    def _follow(
        self, key: ItemKey, item: Item, questions: Sequence[QuestionId], reason: StopReasonMessage.ValueType
    ) -> Announcement | None:
        """Announce what leads, if it is not what was announced: a decided item's label follows the votes."""
        leading = {question: self.questions[question].leading(key) for question in questions}
        if all(
            one is None or item.announced.get(name) == _bytes(one.answer) for name, one in leading.items()
        ):
            return None
        decisions = (self._decision(key, question, reason) for question in questions)
        return self._reach(key, item, [one for one in decisions if one is not None])


def _bytes(answer: Answer) -> bytes:
    return answer.SerializeToString(deterministic=True)
