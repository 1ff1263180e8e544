"""A review says whether a label is wrong, for each kind of question in the way that fits it."""

from __future__ import annotations

import pytest

from cairn.label.v1 import label_schema_pb2 as schema
from cairn.label.v1 import label_value_pb2 as value
from cairn.label.v1.label_value_pb2 import Answer
from cairn_audit.domain.judging import Judgement, class_of, judge, question_named, same_answer

ANY = schema.Question(id="q")
RANGED = schema.Question(number=schema.NumberQuestion(minimum=0, maximum=10))
OPEN = schema.Question(number=schema.NumberQuestion())
WHOLE = schema.Question(number=schema.NumberQuestion(minimum=0, maximum=1000, whole=True))
FOLDED = schema.Question(text=schema.TextQuestion(fold_case_and_space=True))
EXACT = schema.Question(text=schema.TextQuestion())


def choices(*ids: str) -> Answer:
    return Answer(choices=value.Choices(class_ids=ids))


def ranking(*tiers: str) -> Answer:
    return Answer(
        ranking=value.Ranking(tiers=[value.RankingTier(candidate_ids=list(tier)) for tier in tiers])
    )


def cannot_tell(
    kind: value.AbstentionKind.ValueType = value.ABSTENTION_KIND_CANNOT_TELL, reason: str = ""
) -> Answer:
    return Answer(abstention=value.Abstention(kind=kind, reason=reason))


def box(x: float) -> Answer:
    return Answer(boxes=value.Boxes(boxes=[value.Box(class_id="a", x=x, y=1, width=2, height=3)]))


@pytest.mark.parametrize(
    ("question", "label", "review", "same"),
    [
        (ANY, Answer(choice="a"), Answer(choice="a"), True),
        (ANY, Answer(choice="a"), Answer(choice="b"), False),
        (ANY, choices("a", "b"), choices("b", "a"), True),
        (ANY, choices("a", "b"), choices("a"), False),
        (ANY, choices(), choices(), True),
        (RANGED, Answer(number=5.0), Answer(number=5.09), True),
        (RANGED, Answer(number=5.0), Answer(number=5.2), False),
        (OPEN, Answer(number=200.0), Answer(number=201.0), True),
        (OPEN, Answer(number=200.0), Answer(number=203.0), False),
        (OPEN, Answer(number=0.0), Answer(number=0.001), False),
        (WHOLE, Answer(number=5), Answer(number=6), False),
        (ANY, Answer(rating=3), Answer(rating=3), True),
        (ANY, Answer(rating=3), Answer(rating=4), False),
        (EXACT, Answer(text="Caf\u00e9"), Answer(text=" Cafe\u0301 "), True),
        (EXACT, Answer(text="Café"), Answer(text="café"), False),
        (FOLDED, Answer(text="Two  words"), Answer(text="two\nWORDS "), True),
        (ANY, ranking("ab", "c"), ranking("ba", "c"), True),
        (ANY, ranking("a", "b", "c"), ranking("b", "a", "c"), False),
        (ANY, box(1.0), box(1.0), True),
        (ANY, box(1.0), box(1.1), False),
        (ANY, Answer(choice="a"), Answer(text="a"), False),
        (ANY, cannot_tell(reason="dark"), cannot_tell(reason="too dark"), True),
        (ANY, cannot_tell(), cannot_tell(value.ABSTENTION_KIND_BROKEN_ITEM), False),
    ],
)
def test_two_answers_say_the_same(
    question: schema.Question, label: Answer, review: Answer, same: bool
) -> None:
    assert same_answer(question, label, review) is same
    assert judge(question, label, review) is (Judgement.RIGHT if same else Judgement.WRONG)


def test_a_reviewer_who_cannot_tell_judges_nothing() -> None:
    assert judge(ANY, Answer(choice="a"), cannot_tell()) is Judgement.NOT_JUDGED
    assert judge(ANY, Answer(choice="a"), None) is Judgement.NOT_JUDGED


def test_a_label_that_says_nothing_can_be_told_is_judged_like_any_other() -> None:
    assert judge(ANY, cannot_tell(), cannot_tell()) is Judgement.RIGHT
    assert judge(ANY, cannot_tell(), Answer(choice="a")) is Judgement.WRONG


def test_labels_are_put_into_strata_by_class_only_where_there_is_one() -> None:
    assert class_of(Answer(choice="a")) == "a"
    assert class_of(choices("a")) == class_of(cannot_tell()) == class_of(Answer(text="a")) == ""


def test_an_empty_id_means_the_first_question() -> None:
    asked = schema.LabelSchema(questions=[schema.Question(id="one"), schema.Question(id="two")])
    assert question_named(asked, "") == asked.questions[0]
    assert question_named(asked, "two") == asked.questions[1]
    assert question_named(asked, "three") is None
