"""Items that are looked at together are judged as each would be alone, to the bit."""

from __future__ import annotations

import random

from cairn.annotation.v1.annotation_store_pb2 import Project, QualityPolicy
from cairn.label.v1.label_schema_pb2 import ChoiceQuestion, LabelClass, LabelSchema, Question
from cairn.label.v1.label_value_pb2 import Answer
from cairn_consensus.domain.ids import ItemKey, LabelerName, QuestionId
from cairn_consensus.domain.items import Score, Truth, Vote
from cairn_consensus.domain.project_state import ProjectState
from services.consensus.tests.kind_contract import refit

QUESTION = QuestionId("what")
CLASSES = ["cat", "dog", "eel"]


def crowd(items: int = 60) -> ProjectState:
    """A project whose items have one to five answers, and every third one a model's."""
    question = Question(
        id=QUESTION, required=True, choice=ChoiceQuestion(classes=[LabelClass(id=c) for c in CLASSES])
    )
    state = ProjectState(
        Project(
            name="projects/pets",
            revision=1,
            schema=LabelSchema(questions=[question]),
            quality=QualityPolicy(min_answers=2, max_answers=4),
        )
    )
    chance = random.Random(0)
    for n in range(items):
        key = ItemKey(f"i{n:03}")
        for labeler in chance.sample(range(9), 1 + n % 5):
            said = CLASSES[n % 3] if chance.random() < 0.8 else chance.choice(CLASSES)
            answer = Answer(question=QUESTION, choice=said)
            state.vote(Vote(key, QUESTION, LabelerName(f"labelers/{labeler}"), f"{key}/{labeler}", answer))
        if n % 3 == 0:
            state.score(Score(key, QUESTION, "models/m/versions/1", (0.2, 0.7, 0.1), CLASSES))
    refit(state)
    return state


def test_together_or_alone_they_get_the_same_labels_and_confidence() -> None:
    together, alone = crowd(), crowd()
    keys = sorted(together.items)
    together.questions.look_at(keys, evidence=True)
    assert [together.judge(key) for key in keys] == [alone.judge(key) for key in keys]
    assert [together.posterior(key, QUESTION) for key in keys] == [
        alone.posterior(key, QUESTION) for key in keys
    ]


def test_what_was_looked_at_is_forgotten_when_it_changes() -> None:
    state, other = crowd(), crowd()
    key = sorted(state.items)[1]
    for change in (
        lambda s: s.vote(
            Vote(key, QUESTION, LabelerName("labelers/new"), "new", Answer(question=QUESTION, choice="eel"))
        ),
        lambda s: s.score(Score(key, QUESTION, "models/m/versions/2", (0.0, 0.1, 0.9), CLASSES)),
        refit,
        lambda s: s.know(Truth(key, QUESTION, Answer(question=QUESTION, choice="cat"))),
    ):
        state.questions.look_at(sorted(state.items), evidence=True)
        for one in (state, other):
            change(one)
        assert state.posterior(key, QUESTION) == other.posterior(key, QUESTION)
