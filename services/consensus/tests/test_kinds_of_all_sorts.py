"""What is alike for every kind of question there is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pytest

from cairn.label.v1 import label_schema_pb2 as schema_pb
from cairn.label.v1 import label_value_pb2 as pb
from cairn.label.v1.label_schema_pb2 import LabelClass, Question
from cairn_consensus.domain.ids import ItemKey, QuestionId
from cairn_consensus.domain.items import Truth, Vote
from cairn_consensus.domain.kinds import Leading, QuestionState
from cairn_consensus.domain.kinds.states_of_kinds import _STATES
from cairn_consensus.domain.project_state import ProjectState
from services.consensus.tests.kind_contract import labeler, project, refit

CLASSES = [LabelClass(id="a"), LabelClass(id="b")]
SHAPES = schema_pb.ShapesQuestion(classes=CLASSES)
ITEM, Q = ItemKey("i"), QuestionId("q")


class Kind(NamedTuple):
    """A question of a kind with two answers to it; ``before`` is asked and answered before it, if anything is."""

    question: Question
    first: pb.Answer
    second: pb.Answer
    before: Sequence[tuple[Question, pb.Answer]] = ()


def answer(**value: object) -> pb.Answer:
    return pb.Answer(question="q", **value)  # type: ignore[arg-type]


def lists(field: str, *elements: object) -> list[pb.Answer]:
    """An answer of one element for each."""
    found = []
    for element in elements:
        one = pb.Answer(question="q")
        getattr(getattr(one, field), field).append(element)
        found.append(one)
    return found


def shapes(field: str, *elements: object) -> Kind:
    first, second = lists(field, *elements)
    return Kind(Question(id="q", **{field: SHAPES}), first, second)  # type: ignore[arg-type]


def cuboid(size: float) -> pb.Cuboid:
    face = [0.0, 0.0, size, 0.0, size, size, 0.0, size]
    return pb.Cuboid(class_id="a", corners=pb.Points(xy=[*face, *(v + size / 4 for v in face)]))


def skeleton(x: float) -> pb.Skeleton:
    points = [pb.Keypoint(point="head", x=x, y=5), pb.Keypoint(point="tail", x=x, y=50)]
    return pb.Skeleton(class_id="a", keypoints=points)


def track(x: float) -> pb.Track:
    keys = [pb.Keyframe(frame=k, box=pb.Box(x=x + k, y=0, width=20, height=20)) for k in (0, 5)]
    return pb.Track(id="t", class_id="a", keyframes=keys)


def mask(first: int) -> pb.Mask:
    return pb.Mask(width=10, height=10, runs=pb.Runs(class_indices=[1, 0], lengths=[first, 100 - first]))


SPANS = Question(id="spans", spans=schema_pb.SpansQuestion(classes=CLASSES))
SAID = pb.Answer(
    question="spans",
    spans=pb.Spans(
        spans=[pb.Span(id="s", start=0, end=5, class_id="a"), pb.Span(id="t", start=8, end=12, class_id="b")]
    ),
)

KINDS = {
    "choice": Kind(
        Question(id="q", choice=schema_pb.ChoiceQuestion(classes=CLASSES)),
        answer(choice="a"),
        answer(choice="b"),
    ),
    "choices": Kind(
        Question(id="q", choices=schema_pb.ChoicesQuestion(classes=CLASSES)),
        answer(choices=pb.Choices(class_ids=["a"])),
        answer(choices=pb.Choices(class_ids=["a", "b"])),
    ),
    "number": Kind(
        Question(id="q", number=schema_pb.NumberQuestion(minimum=0, maximum=9)),
        answer(number=2.0),
        answer(number=7.0),
    ),
    "rating": Kind(
        Question(id="q", rating=schema_pb.RatingQuestion(minimum=1, maximum=5)),
        answer(rating=2),
        answer(rating=4),
    ),
    "text": Kind(Question(id="q", text=schema_pb.TextQuestion()), answer(text="one"), answer(text="two")),
    "ranking": Kind(
        Question(id="q", ranking=schema_pb.RankingQuestion()),
        *(
            answer(ranking=pb.Ranking(tiers=[pb.RankingTier(candidate_ids=[one]) for one in order]))
            for order in ("xy", "yx")
        ),
    ),
    "preference": Kind(
        Question(id="q", preference=schema_pb.PreferenceQuestion()),
        *(answer(preference=pb.Preference(candidate_id=one)) for one in "xy"),
    ),
    "boxes": shapes("boxes", *(pb.Box(class_id="a", x=x, y=0, width=20, height=20) for x in (0, 70))),
    "rotated_boxes": shapes(
        "rotated_boxes",
        *(
            pb.RotatedBox(class_id="a", center_x=x, center_y=30, width=20, height=9, rotation_degrees=30)
            for x in (20, 90)
        ),
    ),
    "ellipses": shapes(
        "ellipses",
        *(pb.Ellipse(class_id="a", center_x=x, center_y=30, radius_x=20, radius_y=9) for x in (20, 90)),
    ),
    "polygons": shapes(
        "polygons",
        *(
            pb.Polygon(class_id="a", outline=pb.Points(xy=[x, 0, x + 20, 0, x + 20, 20, x, 20]))
            for x in (0, 70)
        ),
    ),
    "polylines": shapes(
        "polylines", *(pb.Polyline(class_id="a", line=pb.Points(xy=[x, 0, x + 50, 9])) for x in (0, 200))
    ),
    "cuboids": shapes("cuboids", cuboid(20), cuboid(90)),
    "keypoints": Kind(
        Question(id="q", keypoints=schema_pb.KeypointsQuestion(classes=CLASSES, points=["head", "tail"])),
        *lists("skeletons", skeleton(10), skeleton(90)),
    ),
    "regions": Kind(
        Question(id="q", regions=schema_pb.RegionsQuestion(classes=CLASSES)),
        *lists(
            "regions",
            *(pb.Region(page=1, class_id="a", x=x, y=0, width=20, height=20) for x in (0, 70)),
        ),
    ),
    "mask": Kind(
        Question(id="q", mask=schema_pb.MaskQuestion(classes=CLASSES)),
        answer(mask=mask(30)),
        answer(mask=mask(80)),
    ),
    "spans": Kind(
        Question(id="q", spans=schema_pb.SpansQuestion(classes=CLASSES)),
        *lists("spans", *(pb.Span(start=at, end=at + 9, class_id="a") for at in (0, 20))),
    ),
    "segments": Kind(
        Question(id="q", segments=schema_pb.SegmentsQuestion(classes=CLASSES)),
        *lists(
            "segments", *(pb.Segment(start_seconds=at, end_seconds=at + 9, class_id="a") for at in (0, 20))
        ),
    ),
    "relations": Kind(
        Question(id="q", relations=schema_pb.RelationsQuestion(spans_question="spans", classes=CLASSES)),
        *lists(
            "relations",
            pb.Relation(from_span="s", to_span="t", class_id="a"),
            pb.Relation(from_span="t", to_span="s", class_id="a"),
        ),
        [(SPANS, SAID)],
    ),
    "tracks": Kind(
        Question(id="q", tracks=schema_pb.TracksQuestion(classes=CLASSES, shape=schema_pb.TRACK_SHAPE_BOX)),
        *lists("tracks", track(0), track(200)),
    ),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def voted(kind: Kind, *answers: pb.Answer) -> ProjectState:
    """A state in which one labeler gave these answers, one after the other."""
    return heard(kind, *(("ann", said) for said in answers))


def heard(kind: Kind, *answers: tuple[str, pb.Answer]) -> ProjectState:
    """A state in which these labelers gave these answers, in turn."""
    state = ProjectState(project(*(question for question, _ in kind.before), kind.question))
    for who in dict.fromkeys([who for who, _ in answers] or ["ann"]):
        for said in (*(said for _, said in kind.before), *(said for one, said in answers if one == who)):
            state.vote(Vote(ITEM, QuestionId(said.question), labeler(who), f"i-{who}", said))
    return state


def question(state: ProjectState) -> QuestionState:
    return state.questions[Q]


def test_these_are_all_kinds() -> None:
    assert KINDS.keys() == _STATES.keys()


@every_kind
def test_an_answer_of_another_kind_is_no_vote_and_no_truth(kind: str) -> None:
    other = answer(text="x") if kind != "text" else answer(number=3.0)
    state = voted(KINDS[kind], other)
    state.know(Truth(ITEM, Q, other))
    assert question(state).leading(ITEM) is None
    assert question(state).reliabilities() == []
    refit(state)
    assert question(state).digest() == question(_refitted(voted(KINDS[kind]))).digest()


@every_kind
def test_an_answer_replaces_the_labelers_own(kind: str) -> None:
    one = KINDS[kind]
    twice, straight = question(voted(one, one.first, one.second)), question(voted(one, one.second))
    assert question(voted(one, one.first)).leading(ITEM) != straight.leading(ITEM)
    assert twice.leading(ITEM) == straight.leading(ITEM)
    assert twice.parts(ITEM) == straight.parts(ITEM)
    assert [known.votes for known in twice.reliabilities()] == [1]


@every_kind
def test_a_truth_replaces_the_one_that_was_known(kind: str) -> None:
    one = KINDS[kind]
    said = ("ann", one.first), ("bob", one.second)
    twice, straight = heard(one, *said), heard(one, *said)
    for state, truths in ((twice, (one.first, one.second)), (straight, (one.second,))):
        for before, known in one.before:
            state.know(Truth(ITEM, QuestionId(before.id), known))
        for truth in truths:
            state.know(Truth(ITEM, Q, truth))
        refit(state)
    assert twice.questions.digest() == straight.questions.digest()
    assert question(twice).leading(ITEM) == question(straight).leading(ITEM) == Leading(one.second, 1.0)
    assert question(twice).parts(ITEM) == question(straight).parts(ITEM)


@every_kind
def test_a_fit_of_another_kind_is_refused(kind: str) -> None:
    state = question(_refitted(voted(KINDS[kind], KINDS[kind].first)))
    before = state.digest()
    for name, other in KINDS.items():
        kept = question(_refitted(voted(other, other.first)))
        if kept.algorithm == state.algorithm:
            continue
        with pytest.raises(ValueError):
            state.restore(kept.save())
        assert state.digest() == before, name


def _refitted(state: ProjectState) -> ProjectState:
    refit(state)
    return state
