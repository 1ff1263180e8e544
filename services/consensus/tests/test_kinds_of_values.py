"""Numbers, ratings, texts, preferences and rankings: votes in, labels out."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from cairn.label.v1.label_schema_pb2 import (
    ChoiceQuestion,
    ChoicesQuestion,
    LabelClass,
    NumberQuestion,
    PreferenceQuestion,
    Question,
    RankingQuestion,
    RatingQuestion,
    TextQuestion,
)
from cairn.label.v1.label_value_pb2 import Answer, Choices, Preference, Ranking, RankingTier
from cairn_annotation_store.domain.answer_parts import ItemFacts
from cairn_consensus.domain.ids import ItemKey, LabelerName, QuestionId
from cairn_consensus.domain.kinds import state_of
from cairn_truth.values import numbers, ordinals
from services.consensus.tests.kind_contract import TEXT, Answers, check_kind, leading, voted

CROWD = ("ann", "bob", "cid", "dan")
CANDIDATES = ItemFacts(has_text=True, has_blob=False, candidates=("x", "y"))
CLASSES = [LabelClass(id=one) for one in "abc"]


def crowd(say: object, items: int = 8) -> Answers:
    """Everybody answers every item with what `say(item, labeler, chance)` is."""
    chance = random.Random(0)
    return {f"i{i}": {who: [say(i, who, chance)] for who in CROWD} for i in range(items)}  # type: ignore[operator]


def test_a_class() -> None:
    question = Question(id="q", choice=ChoiceQuestion(classes=CLASSES))
    check_kind([question], crowd(lambda i, who, _: Answer(question="q", choice="abc"[i % 3])), TEXT)


def test_a_set_of_classes() -> None:
    question = Question(id="q", choices=ChoicesQuestion(classes=CLASSES))
    said = crowd(lambda i, who, _: Answer(question="q", choices=Choices(class_ids=["a", "bc"[i % 2]])))
    check_kind([question], said, TEXT)


def test_a_number_in_its_range() -> None:
    question = Question(id="q", number=NumberQuestion(minimum=0, maximum=100))
    said = crowd(lambda i, who, chance: Answer(question="q", number=10.0 * i + chance.uniform(0, 5)))
    state = check_kind([question], said, TEXT)
    assert state.questions[QuestionId("q")].algorithm == numbers.ALGORITHM
    assert leading(state, "i3").answer.number == pytest.approx(32.5, abs=2.5)
    posterior = state.posterior(ItemKey("i3"), QuestionId("q"))
    assert posterior is not None
    assert posterior.standard_deviation > 0.0


def test_a_rating_of_few_steps_is_judged_step_by_step() -> None:
    question = Question(id="q", rating=RatingQuestion(minimum=1, maximum=5))
    said = crowd(lambda i, who, _: Answer(question="q", rating=1 + (i + (who == "dan")) % 5))
    state = check_kind([question], said, TEXT)
    assert state.questions[QuestionId("q")].algorithm == ordinals.ALGORITHM
    assert leading(state, "i2").answer == Answer(question="q", rating=3)
    posterior = state.posterior(ItemKey("i2"), QuestionId("q"))
    assert posterior is not None
    assert 2.0 < posterior.estimate < 4.0
    by_name = {one.labeler: one.accuracy for one in state.reliabilities(QuestionId("q"), Counter())}
    assert by_name["labelers/ann"] > by_name["labelers/dan"]


def test_a_rating_of_many_steps_is_a_number() -> None:
    question = Question(id="q", rating=RatingQuestion(minimum=-100, maximum=100))
    said = crowd(lambda i, who, chance: Answer(question="q", rating=20 * i - 60 + chance.randrange(3)))
    state = check_kind([question], said, TEXT)
    assert state.questions[QuestionId("q")].algorithm == numbers.ALGORITHM


def test_a_text_is_put_together_word_by_word() -> None:
    question = Question(id="q", text=TextQuestion())
    truth = [
        "the",
        "quick",
        "brown",
        "fox",
        "jumps",
        "over",
        "the",
        "lazy",
        "dog",
        "of",
        "house",
        "number",
        "{}",
    ]

    def say(i: int, who: str, chance: random.Random) -> Answer:
        words = [word.format(i) for word in truth]
        at = (3 * i + CROWD.index(who)) % len(words)
        words[at] += "-er"  # everybody mishears another word
        return Answer(question="q", text=" ".join(words))

    state = check_kind([question], crowd(say), TEXT)
    assert leading(state, "i1").answer.text == " ".join(truth).format(1)


def test_a_text_is_never_longer_than_the_question_allows() -> None:
    """Put together of two it would be longer than either."""
    question = Question(id="q", text=TextQuestion(max_length=23))
    texts = ("one two three four five", "two three four five six", "one two three five six")
    answers = {
        f"i{i}": {who: [Answer(question="q", text=t)] for who, t in zip(CROWD, texts, strict=False)}
        for i in range(3)
    }
    check_kind([question], answers, TEXT)


def test_a_text_that_must_match_a_pattern_is_one_of_the_answers() -> None:
    question = Question(id="q", text=TextQuestion(pattern="[A-Z]{2}-[0-9]{4}"))
    said = crowd(lambda i, who, chance: Answer(question="q", text=f"AB-{1000 + i + chance.randrange(2)}"))
    check_kind([question], said, TEXT)


@pytest.mark.parametrize("ties", [False, True])
def test_a_preference(ties: bool) -> None:
    question = Question(id="q", preference=PreferenceQuestion(ties_allowed=ties))

    def say(i: int, who: str, chance: random.Random) -> Answer:
        better = "y" if who == "dan" and i % 2 else "x"
        return Answer(question="q", preference=Preference(candidate_id=better))

    state = check_kind([question], crowd(say), CANDIDATES)
    posterior = state.posterior(ItemKey("i1"), QuestionId("q"))
    assert posterior is not None
    assert posterior.classes[0].class_id == posterior.answer.preference.candidate_id == "x"
    assert sum(one.probability for one in posterior.classes) == pytest.approx(1.0)


def ranking(*tiers: str) -> Answer:
    return Answer(
        question="q", ranking=Ranking(tiers=[RankingTier(candidate_ids=list(tier)) for tier in tiers])
    )


@pytest.mark.parametrize(("ties", "top"), [(False, 0), (True, 0), (False, 2), (True, 2)])
def test_a_ranking_places_as_many_as_are_asked_for(ties: bool, top: int) -> None:
    question = Question(id="q", ranking=RankingQuestion(ties_allowed=ties, top=top))
    facts = ItemFacts(has_text=True, has_blob=False, candidates=tuple("abcd"))
    orders = {"ann": "abcd", "bob": "abdc", "cid": "bacd", "dan": "dcba"}
    size = top or 4
    answers = {f"i{i}": {who: [ranking(*order[:size])] for who, order in orders.items()} for i in range(4)}
    if ties:
        answers["i0"]["ann"] = [ranking("ab", "c", "d")]
    state = check_kind([question], answers, facts)
    placed = [c for tier in leading(state, "i1").answer.ranking.tiers for c in tier.candidate_ids]
    assert placed[:2] in (["a", "b"], ["b", "a"])
    assert len(placed) == size


def test_a_class_or_a_score_of_an_earlier_schema_takes_back_what_was_said_before() -> None:
    question = state_of(Question(id="q", choice=ChoiceQuestion(classes=CLASSES)))
    item, ann = ItemKey("i"), LabelerName("labelers/ann")
    question.vote(item, ann, Answer(question="q", choice="a"))
    question.vote(item, ann, Answer(question="q", choice="gone"))
    assert question.leading(item) is None
    question.score(item, "projects/p/models/m/versions/1", [0.9, 0.1], ["a", "b"])
    assert len(question.parts(item)) == 1
    question.score(item, "projects/p/models/m/versions/2", [0.1, 0.9], ["a", "gone"])
    assert question.leading(item) is None


def test_beside_an_answer_of_another_kind_the_others_count() -> None:
    question = Question(id="q", number=NumberQuestion(minimum=0, maximum=9))
    state = voted(
        [question], {"a": {"ann": [Answer(question="q", text="x")], "bob": [Answer(question="q", number=3)]}}
    )
    assert leading(state, "a").answer == Answer(question="q", number=3)
