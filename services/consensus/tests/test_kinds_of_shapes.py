"""Shapes, masks and tracks: votes in, labels out."""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from cairn.label.v1 import label_schema_pb2 as schema_pb
from cairn.label.v1 import label_value_pb2 as pb
from cairn.label.v1.label_schema_pb2 import (
    Attribute,
    AttributeOptions,
    KeypointsQuestion,
    LabelClass,
    LabelSchema,
    MaskQuestion,
    NumberQuestion,
    Question,
    QuestionQuality,
    RegionsQuestion,
    ShapesQuestion,
    TracksQuestion,
)
from cairn_annotation_store.domain.answer_parts import ItemFacts
from cairn_annotation_store.domain.answers import check_answers
from cairn_annotation_store.domain.schema import SchemaRules
from cairn_consensus.domain.ids import ItemKey, QuestionId
from cairn_consensus.domain.items import Truth
from cairn_consensus.domain.kinds import shape_messages as messages
from cairn_consensus.domain.kinds import state_of
from cairn_consensus.domain.kinds.shape_messages import rings_of
from services.consensus.tests.kind_contract import PICTURE, Answers, check_kind, labeler, leading, voted

CROWD = ("ann", "bob", "cid", "dan", "eve")
DOCUMENT = ItemFacts(has_text=False, has_blob=True, width=640, height=480, page_count=3)
VIDEO = ItemFacts(has_text=False, has_blob=True, width=640, height=480, frame_count=50)
CLASSES = [
    LabelClass(
        id="car",
        attributes=[
            Attribute(id="colour", required=True, options=AttributeOptions(values=["red", "blue"])),
            Attribute(id="doors", number=NumberQuestion(minimum=2, maximum=5, whole=True)),
        ],
    ),
    LabelClass(id="dog"),
]

Draw = Callable[[str, float, float, list[pb.AttributeValue], random.Random], Any]
"""A shape of a class about a centre."""


def red(class_id: str) -> list[pb.AttributeValue]:
    if class_id != "car":
        return []
    return [
        pb.AttributeValue(attribute="colour", option="red"),
        pb.AttributeValue(attribute="doors", number=4),
    ]


def crowd(field: str, draw: Draw, items: int = 4) -> Answers:
    """A car and a dog an item, drawn by all but one in turn, who misses the dog; another draws one more."""
    chance = random.Random(0)

    def say(i: int, k: int) -> pb.Answer:
        found = [("car", 200.0, 150.0)]
        if (i + k) % 5 != 2:
            found.append(("dog", 450.0, 320.0))
        if (i + k) % 5 == 3:
            found.append(("dog", 80.0, 400.0))
        shapes = [draw(name, x, y, red(name), chance) for name, x, y in found]
        answer = pb.Answer(question="q")
        getattr(getattr(answer, field), field).extend(shapes)
        return answer

    return {f"i{i}": {who: [say(i, k)] for k, who in enumerate(CROWD)} for i in range(items)}


def box(name: str, x: float, y: float, facts: list[pb.AttributeValue], chance: random.Random) -> pb.Box:
    ends = [chance.randint(-3, 3) for _ in range(4)]
    return pb.Box(
        class_id=name,
        x=x - 50 + ends[0],
        y=y - 40 + ends[1],
        width=100 + ends[2],
        height=80 + ends[3],
        attributes=facts,
    )


def rotated_box(
    name: str, x: float, y: float, facts: list[pb.AttributeValue], chance: random.Random
) -> pb.RotatedBox:
    return pb.RotatedBox(
        class_id=name,
        center_x=x + chance.gauss(0, 2),
        center_y=y + chance.gauss(0, 2),
        width=120,
        height=60,
        rotation_degrees=30 + chance.gauss(0, 2),
        attributes=facts,
    )


def ellipse(
    name: str, x: float, y: float, facts: list[pb.AttributeValue], chance: random.Random
) -> pb.Ellipse:
    return pb.Ellipse(
        class_id=name,
        center_x=x + chance.gauss(0, 2),
        center_y=y + chance.gauss(0, 2),
        radius_x=60,
        radius_y=40,
        rotation_degrees=10,
        attributes=facts,
    )


def ring(x: float, y: float, radius: float, chance: random.Random, points: int = 20) -> list[float]:
    turn = chance.random()
    around = [2 * math.pi * (k + turn) / points for k in range(points)]
    return [v for a in around for v in (x + radius * math.cos(a), y + radius * math.sin(a))]


def polygon(
    name: str, x: float, y: float, facts: list[pb.AttributeValue], chance: random.Random
) -> pb.Polygon:
    return pb.Polygon(
        class_id=name,
        outline=pb.Points(xy=ring(x, y, 60 + chance.gauss(0, 2), chance)),
        holes=[pb.Points(xy=ring(x, y, 20, chance))],
        attributes=facts,
    )


def polyline(
    name: str, x: float, y: float, facts: list[pb.AttributeValue], chance: random.Random
) -> pb.Polyline:
    line = [x - 70, y + chance.gauss(0, 2), x, y + 20 + chance.gauss(0, 2), x + 70, y]
    return pb.Polyline(class_id=name, line=pb.Points(xy=line), attributes=facts)


def cuboid(name: str, x: float, y: float, facts: list[pb.AttributeValue], chance: random.Random) -> pb.Cuboid:
    front = [(x - 60, y - 40), (x + 40, y - 40), (x + 40, y + 40), (x - 60, y + 40)]
    corners = [*front, *((a + 25, b - 15) for a, b in front)]
    near = [v + chance.gauss(0, 2) for corner in corners for v in corner]
    return pb.Cuboid(class_id=name, corners=pb.Points(xy=near), attributes=facts)


@pytest.mark.parametrize(
    ("kind", "draw"),
    [
        ("boxes", box),
        ("rotated_boxes", rotated_box),
        ("ellipses", ellipse),
        ("polygons", polygon),
        ("polylines", polyline),
        ("cuboids", cuboid),
    ],
)
def test_shapes_that_most_saw_are_there_with_their_class_and_attributes(kind: str, draw: Draw) -> None:
    rules = ShapesQuestion(classes=CLASSES)
    state = check_kind([Question(id="q", **{kind: rules})], crowd(kind, draw, 3), PICTURE)  # type: ignore[arg-type]
    found = leading(state, "i0")
    car, dog = getattr(getattr(found.answer, kind), kind)
    assert (car.class_id, dog.class_id) == ("car", "dog")
    assert list(car.attributes) == red("car")
    assert len(found.parts) == 2
    everybody = state.reliabilities(QuestionId("q"), Counter())
    assert all(0.5 < one.recall <= 1.0 and one.false_alarms >= 0.0 for one in everybody)
    posterior = state.posterior(ItemKey("i0"), QuestionId("q"))
    assert posterior is not None
    assert tuple(posterior.part_confidences) == found.parts


@pytest.mark.parametrize(("bounds", "expected"), [({}, 2), ({"min_shapes": 3}, 3), ({"max_shapes": 1}, 1)])
def test_as_many_shapes_stand_as_the_question_allows(bounds: dict[str, int], expected: int) -> None:
    """Two dogs that all saw, and one that a single labeler saw: it stands only where three are asked for."""
    chance = random.Random(0)
    seen = [("dog", 200.0, 150.0), ("dog", 450.0, 320.0), ("dog", 80.0, 400.0)]
    answers: Answers = {
        f"i{i}": {
            who: [
                pb.Answer(
                    question="q",
                    boxes=pb.Boxes(
                        boxes=[box(*one, [], chance) for one in (seen if who == "ann" else seen[:2])]
                    ),
                )
            ]
            for who in CROWD
        }
        for i in range(4)
    }
    question = Question(id="q", boxes=ShapesQuestion(classes=CLASSES, **bounds))
    found = leading(voted([question], answers), "i0")
    assert len(found.answer.boxes.boxes) == len(found.parts) == expected
    best = leading(voted([Question(id="q", boxes=ShapesQuestion(classes=CLASSES))], answers), "i0")
    assert (found.confidence < best.confidence) == bool(bounds)


def test_joined_outlines_stay_on_the_picture() -> None:
    """Everybody draws along the very edge."""

    def at_the_edge(
        name: str, x: float, y: float, facts: list[pb.AttributeValue], chance: random.Random
    ) -> pb.Polygon:
        width, height = 100 + chance.gauss(0, 4), 80 + chance.gauss(0, 4)
        return pb.Polygon(
            class_id=name,
            outline=pb.Points(xy=[0, 0, width, 0, width, height, 0, height]),
            attributes=facts,
        )

    question = Question(id="q", polygons=ShapesQuestion(classes=CLASSES))
    check_kind([question], crowd("polygons", at_the_edge, 2), PICTURE)


def test_what_says_nothing_is_left_out_of_an_answer_and_the_rest_is_heard() -> None:
    """A line whose points are all the same is taken by the store, and is nowhere."""
    question = Question(id="q", polylines=ShapesQuestion(classes=CLASSES))
    answers = crowd("polylines", polyline)
    for votes in answers.values():
        for said in votes.values():
            said[0].polylines.polylines.add(class_id="dog").line.xy.extend([7, 7, 7, 7])
    state = voted([question], answers)
    assert [line.class_id for line in leading(state, "i0").answer.polylines.polylines] == ["car", "dog"]


@pytest.mark.parametrize("all_of_it", [False, True])
def test_what_is_smaller_than_can_be_reckoned_with_is_left_out(all_of_it: bool) -> None:
    """The store takes any width above 0."""
    question = Question(id="q", boxes=ShapesQuestion(classes=CLASSES))
    speck = pb.Box(class_id="dog", x=0, y=0, width=1e-200, height=1e-200)
    answers = crowd("boxes", box)
    for votes in answers.values():
        for said in votes.values():
            if all_of_it:
                said[0].boxes.ClearField("boxes")
            said[0].boxes.boxes.append(speck)
    rules = SchemaRules(LabelSchema(questions=[question]))
    assert check_answers(answers["i0"]["ann"], rules, PICTURE) is None
    state = voted([question], answers)
    found = leading(state, "i0")
    assert [one.class_id for one in found.answer.boxes.boxes] == ([] if all_of_it else ["car", "dog"])
    assert 0.0 <= found.confidence <= 1.0
    assert state.judge(ItemKey("i0")) is not None


def test_outlines_are_bounded_once_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = 0

    def counted(given: Any) -> Any:
        nonlocal seen
        seen += 1
        return rings_of(given)

    monkeypatch.setattr(messages, "rings_of", counted)
    chance = random.Random(0)
    said = pb.Answer(question="q")
    said.polygons.polygons.extend(polygon("dog", 150.0 * k, 100.0, [], chance) for k in range(12))
    question = Question(id="q", polygons=ShapesQuestion(classes=CLASSES))
    found = leading(voted([question], {"i": {who: [said] for who in CROWD[:3]}}), "i")
    assert len(found.answer.polygons.polygons) == 12
    assert seen == 3 * 12


def test_an_object_has_the_required_attribute_of_its_class_though_most_took_it_for_another() -> None:
    """One who is known to name classes rightly says car; two who guess say dog, which has no colour."""
    question = Question(id="q", boxes=ShapesQuestion(classes=CLASSES))
    chance = random.Random(2)
    guessers, answers = ("bob", "cid"), {}

    def say(who: str, truth: str) -> list[pb.Answer]:
        name = chance.choice(["car", "dog"]) if who in guessers else truth
        shape = box(name, 300, 200, red(name), chance)
        return [pb.Answer(question="q", boxes=pb.Boxes(boxes=[shape]))]

    for i in range(40):
        answers[f"i{i}"] = {who: say(who, ("car", "dog")[i % 2]) for who in CROWD}
    dog = box("dog", 300, 200, [], chance)
    answers["new"] = {who: [pb.Answer(question="q", boxes=pb.Boxes(boxes=[dog]))] for who in guessers}
    answers["new"]["ann"] = say("ann", "car")
    [found] = leading(voted([question], answers), "new").answer.boxes.boxes
    assert (found.class_id, found.attributes[0].option) == ("car", "red")


def test_what_counts_as_the_same_shape_is_the_questions_overlap() -> None:
    strict = QuestionQuality(match_overlap=0.9)
    sure = {}
    for name, quality in (("lenient", QuestionQuality()), ("strict", strict)):
        question = Question(id="q", quality=quality, boxes=ShapesQuestion(classes=CLASSES))
        sure[name] = leading(voted([question], crowd("boxes", box)), "i0").confidence
    assert sure["strict"] < sure["lenient"]


# --- skeletons and regions


def test_skeletons() -> None:
    def draw(
        name: str, x: float, y: float, facts: list[pb.AttributeValue], chance: random.Random
    ) -> pb.Skeleton:
        points = [
            pb.Keypoint(point="head", x=x + chance.gauss(0, 2), y=y - 40, visibility=pb.VISIBILITY_VISIBLE),
            pb.Keypoint(point="tail", x=x, y=y + 40 + chance.gauss(0, 2)),
            pb.Keypoint(point="paw", visibility=pb.VISIBILITY_ABSENT),
        ]
        return pb.Skeleton(class_id=name, keypoints=points, attributes=facts)

    question = Question(id="q", keypoints=KeypointsQuestion(classes=CLASSES, points=["tail", "head", "paw"]))
    state = check_kind([question], crowd("skeletons", draw), PICTURE)
    car, dog = leading(state, "i0").answer.skeletons.skeletons
    assert [p.point for p in car.keypoints] == ["tail", "head", "paw"]
    assert [p.visibility for p in car.keypoints] == [1, 1, pb.VISIBILITY_ABSENT]
    assert (dog.keypoints[0].x, dog.keypoints[0].y) == pytest.approx((450, 360), abs=3)


@pytest.mark.parametrize("named", [True, False])
def test_regions_with_a_class_or_only_a_text(named: bool) -> None:
    def draw(
        name: str, x: float, y: float, facts: list[pb.AttributeValue], chance: random.Random
    ) -> pb.Region:
        b = box(name, x, y, [], chance)
        return pb.Region(
            page=2,
            x=b.x,
            y=b.y,
            width=b.width,
            height=b.height,
            class_id=name if named else "",
            text="total: 12.50" if chance.random() < 0.9 else "tota1: 12.50",
            attributes=facts if named else [],
        )

    rules = RegionsQuestion(classes=CLASSES if named else [], text_required=True)
    state = check_kind([Question(id="q", regions=rules)], crowd("regions", draw), DOCUMENT)
    first, second = leading(state, "i0").answer.regions.regions
    assert (first.page, first.text, second.text) == (2, "total: 12.50", "total: 12.50")


# --- masks

MASK = Question(id="q", mask=MaskQuestion(classes=[LabelClass(id="lung"), LabelClass(id="heart")]))
TWENTY = ItemFacts(has_text=False, has_blob=True, width=20, height=20)


def mask(start: int, end: int, which: int = 1) -> pb.Answer:
    runs = pb.Runs(class_indices=[0, which, 0], lengths=[start, end - start, 400 - end])
    return pb.Answer(question="q", mask=pb.Mask(width=20, height=20, runs=runs))


def blob(digest: str) -> pb.Answer:
    ref = pb.BlobRef(sha256=digest * 64, size_bytes=9, media_type="image/png")
    return pb.Answer(question="q", mask=pb.Mask(width=20, height=20, blob=ref))


def test_masks() -> None:
    chance = random.Random(0)
    answers = {
        f"i{i}": {who: [mask(100 + chance.randint(-9, 9), 300 + chance.randint(-9, 9))] for who in CROWD}
        for i in range(6)
    }
    state = check_kind([MASK], answers, TWENTY)
    runs = leading(state, "i0").answer.mask.runs
    assert list(runs.class_indices) == [0, 1, 0]
    assert list(runs.lengths) == pytest.approx([100, 200, 100], abs=10)
    [part, *_] = state.questions[QuestionId("q")].parts(ItemKey("i0"))
    assert re.fullmatch(r"lung [45][0-9.]* %", part.said)


def test_masks_whose_bytes_are_elsewhere_stand_only_where_nobody_differs() -> None:
    state = voted(
        [MASK],
        {
            "same": {"ann": [blob("a")], "bob": [blob("a")]},
            "differ": {"ann": [blob("a")], "bob": [blob("b")]},
            "mixed": {"ann": [blob("a")], "bob": [mask(100, 200)]},
        },
    )
    question = state.questions[QuestionId("q")]
    assert leading(state, "same").answer == blob("a")
    assert all(part.agrees for part in question.parts(ItemKey("same")))
    for item in ("differ", "mixed"):
        assert question.leading(ItemKey(item)) is None
        assert not question.joins(ItemKey(item))
        assert len(question.parts(ItemKey(item))) == 2


def test_a_mask_that_can_be_read_replaces_one_that_could_not_and_the_other_way_round() -> None:
    question = state_of(MASK)
    item, ann, bob = ItemKey("a"), labeler("ann"), labeler("bob")
    question.vote(item, bob, mask(100, 200))
    question.vote(item, ann, blob("a"))
    assert not question.joins(item)
    question.vote(item, ann, mask(100, 200))
    assert question.joins(item)
    assert len(question.parts(item)) == 2
    question.vote(item, ann, blob("a"))
    assert not question.joins(item)
    assert [part.labeler for part in question.parts(item)] == [ann, bob]


def test_pixels_of_no_class_of_the_question_are_no_label() -> None:
    """A raster may have been kept whose pixels nobody looked at."""
    state = voted([MASK], {"a": {"ann": [mask(100, 200, which=255)]}})
    question = state.questions[QuestionId("q")]
    assert question.leading(ItemKey("a")) is None
    assert [part.said for part in question.parts(ItemKey("a"))] == ["pixels of unknown classes"]


def test_nothing_is_held_against_a_truth_that_cannot_be_seen() -> None:
    state = voted([MASK], {"a": {"ann": [mask(100, 200)], "bob": [mask(110, 200)]}})
    q = QuestionId("q")
    state.know(Truth(ItemKey("a"), q, blob("c")))
    assert leading(state, "a").answer == blob("c")
    assert {one.gold_votes for one in state.reliabilities(q, Counter(state.tested(q, state.items)))} == {0}


# --- tracks

SHAPES = {
    schema_pb.TRACK_SHAPE_BOX: ("box", box),
    schema_pb.TRACK_SHAPE_ROTATED_BOX: ("rotated_box", rotated_box),
    schema_pb.TRACK_SHAPE_ELLIPSE: ("ellipse", ellipse),
    schema_pb.TRACK_SHAPE_POLYGON: ("polygon", polygon),
}


@pytest.mark.parametrize("shape", [*SHAPES, schema_pb.TRACK_SHAPE_SKELETON])
def test_tracks_of_any_shape(shape: schema_pb.TrackShape.ValueType) -> None:
    def skeleton(
        name: str, x: float, y: float, facts: list[pb.AttributeValue], chance: random.Random
    ) -> pb.Skeleton:
        points = [pb.Keypoint(point="head", x=x + chance.gauss(0, 1), y=y)]
        points.append(pb.Keypoint(point="tail", x=x, y=y + 50, visibility=pb.VISIBILITY_OCCLUDED))
        return pb.Skeleton(keypoints=points)

    field, draw = SHAPES.get(shape, ("skeleton", skeleton))
    names = random.Random(3)

    def track(
        name: str, x: float, y: float, facts: list[pb.AttributeValue], chance: random.Random
    ) -> pb.Track:
        keyframes = [
            pb.Keyframe(frame=0, attributes=facts[:1], **{field: draw("", x, y, [], chance)}),
            pb.Keyframe(frame=6, attributes=facts[1:], **{field: draw("", x + 60, y, [], chance)}),
            pb.Keyframe(frame=12, outside=True),
        ]
        return pb.Track(id=f"{'t' * 58}{names.randrange(10**5)}", class_id=name, keyframes=keyframes)

    rules = TracksQuestion(classes=CLASSES, shape=shape, points=["head", "tail"])
    state = check_kind([Question(id="q", tracks=rules)], crowd("tracks", track, 2), VIDEO)
    car, dog = leading(state, "i0").answer.tracks.tracks
    assert (car.class_id, dog.class_id) == ("car", "dog")
    assert car.keyframes[0].attributes[0].option == "red"
    assert car.keyframes[0].WhichOneof("shape") == field
    assert car.keyframes[-1].outside
