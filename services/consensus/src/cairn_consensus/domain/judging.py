"""What is to be done about one question of one item, and what is said of it: decisions without a memory."""

from __future__ import annotations

from dataclasses import dataclass

from cairn.annotation.v1.annotation_store_pb2 import (
    STOP_REASON_ALL_ANSWERS_IN,
    STOP_REASON_CAP_REACHED,
    STOP_REASON_NOT_WORTH_ASKING,
    STOP_REASON_TARGET_REACHED,
    STOP_RULE_FIXED,
    ConsensusProvenance,
    Project,
    QualityPolicy,
    VoteEvidence,
)
from cairn.annotation.v1.annotation_store_pb2 import StopReason as StopReasonMessage
from cairn.events.v1.consensus_events_pb2 import (
    DISPUTE_REASON_BROKEN_ITEM,
    DISPUTE_REASON_CANNOT_TELL,
    DISPUTE_REASON_CAP_REACHED,
    DISPUTE_REASON_KIND_NOT_AGGREGATED,
    Decision,
    DisputeReason,
)
from cairn.label.v1.label_value_pb2 import ABSTENTION_KIND_BROKEN_ITEM
from cairn_consensus.domain.ids import ItemKey, QuestionId, is_model
from cairn_consensus.domain.items import Item
from cairn_consensus.domain.kinds import QuestionState
from cairn_truth import StopPolicy, StopReason, Verdict

_MIN_ANSWERS, _MAX_ANSWERS, _TARGET = 2, 10, 0.95
"""What the contract says that zeros in a QualityPolicy mean."""

_MOST_EVIDENCE = 50
_LONGEST_SAID = 100
"""Characters of what a vote is said to have answered: evidence must leave the answer its room in an event."""

_STOP_REASONS = {
    StopReason.TARGET_REACHED: STOP_REASON_TARGET_REACHED,
    StopReason.NOT_WORTH_ASKING: STOP_REASON_NOT_WORTH_ASKING,
    StopReason.ALL_ANSWERS_IN: STOP_REASON_ALL_ANSWERS_IN,
    StopReason.CAP_REACHED: STOP_REASON_CAP_REACHED,
}


@dataclass(frozen=True, slots=True)
class Judged:
    """What is to be done about one question of one item."""

    verdict: Verdict
    answers_wanted: int = 0
    reason: StopReasonMessage.ValueType = STOP_REASON_ALL_ANSWERS_IN
    dispute: DisputeReason.ValueType = DISPUTE_REASON_CAP_REACHED


def stop_policy(quality: QualityPolicy, target: float = 0.0) -> StopPolicy:
    """A project's policy, with the contract's meaning of zeros; `target` is the question's own, if above 0."""
    floor = quality.min_answers or _MIN_ANSWERS
    return StopPolicy(
        target_confidence=target or quality.target_confidence or _TARGET,
        min_answers=floor,
        max_answers=max(floor, quality.max_answers or _MAX_ANSWERS),
        fixed=quality.stop_rule == STOP_RULE_FIXED,
    )


def stop_policies(project: Project) -> dict[QuestionId, StopPolicy]:
    """The stop policy of each of a project's questions."""
    return {
        QuestionId(question.id): stop_policy(project.quality, question.quality.target_confidence)
        for question in project.schema.questions
    }


def judge_question(
    question: QuestionState, key: ItemKey, item: Item, policy: StopPolicy, *, accept_best: bool
) -> Judged:
    """What is to be done about a question of an item; `accept_best` takes what leads where answers have run out."""
    answers = len(item.annotations)
    if answers >= policy.min_answers and abstention_prevails(item, question.id):
        broken = ABSTENTION_KIND_BROKEN_ITEM in item.abstentions[question.id]
        return Judged(
            Verdict.DISPUTED, dispute=DISPUTE_REASON_BROKEN_ITEM if broken else DISPUTE_REASON_CANNOT_TELL
        )
    if answers < policy.asked_in_any_case:
        return Judged(Verdict.ASK, policy.asked_in_any_case)
    if not question.joins(key):
        return _judge_unjoined(question, key)
    if policy.fixed:
        return Judged(Verdict.DONE)
    said = question.stop(key, answers, policy)
    if said.verdict is Verdict.ASK:
        return Judged(Verdict.ASK, said.answers_wanted)
    if said.verdict is Verdict.DISPUTED and not accept_best:
        return Judged(Verdict.DISPUTED)
    return Judged(Verdict.DONE, reason=_STOP_REASONS[said.reason or StopReason.CAP_REACHED])


def abstention_prevails(item: Item, question: QuestionId) -> bool:
    """Whether more than half of those who met the question gave no value."""
    abstained = len(item.abstentions.get(question, ()))
    return abstained * 2 > item.said.get(question, 0) > 0


def decision(
    question: QuestionState, key: ItemKey, item: Item, *, refit: int, reason: StopReasonMessage.ValueType
) -> Decision | None:
    """The answer that leads, with all that it rests on; None while nobody has answered."""
    leading = question.leading(key)
    if leading is None:
        return None
    parts = question.parts(key)
    people = [part for part in parts if not is_model(part.labeler)]
    annotation = {labeler: id_ for id_, labeler in item.annotations.items()}
    agreeing = sum(part.agrees for part in people)
    return Decision(
        answer=leading.answer,
        confidence=leading.confidence,
        provenance=ConsensusProvenance(
            algorithm=question.algorithm,
            algorithm_version=question.algorithm_version,
            refit=refit,
            votes=[
                VoteEvidence(
                    labeler=part.labeler,
                    annotation=annotation.get(part.labeler, ""),
                    answer=part.said[:_LONGEST_SAID],
                    weight=part.weight,
                )
                for part in parts[:_MOST_EVIDENCE]
            ],
            vote_count=len(people),
            agreement=agreeing / len(people) if people else 0.0,
            stop_reason=reason,
        ),
    )


def _judge_unjoined(question: QuestionState, key: ItemKey) -> Judged:
    if question.leading(key) is not None:
        return Judged(Verdict.DONE)
    return Judged(Verdict.DISPUTED, dispute=DISPUTE_REASON_KIND_NOT_AGGREGATED)
