"""Every kind of answer, good and bad: each fault is named by its exact path."""
# ruff: noqa: E501 - a case a line reads as a table

from __future__ import annotations

import math
from typing import Any

import pytest
from google.protobuf import json_format, text_format
from hypothesis import given
from hypothesis import strategies as st

from cairn.label.v1 import label_schema_pb2 as schema_pb
from cairn.label.v1 import label_value_pb2 as v
from cairn_annotation_store.domain.answer_parts import ItemFacts
from cairn_annotation_store.domain.answers import check_answers, check_label
from cairn_annotation_store.domain.schema import SchemaRules, check_schema
from cairn_kit.errors import InvalidArgument

CLASSES = """
classes { id: "cat" attributes { id: "colour" options { values: "black" values: "white" } }
                    attributes { id: "age" required: true number { minimum: 0 whole: true } } }
classes { id: "dog" } classes { id: "puppy" parent: "dog" attributes { id: "note" text { pattern: "[a-z]*" } }
                                                            attributes { id: "wild" flag {} } }
"""
SCHEMA = text_format.Parse(
    f"""
    questions {{ id: "choice" choice {{ {CLASSES} }} }}
    questions {{ id: "choices" choices {{ {CLASSES} min_choices: 1 max_choices: 2 }} }}
    questions {{ id: "number" number {{ minimum: -1 maximum: 10.5 unit: "mm" }} }}
    questions {{ id: "whole" number {{ whole: true }} }}
    questions {{ id: "rating" rating {{ minimum: 1 maximum: 5 }} }}
    questions {{ id: "text" text {{ max_length: 5 pattern: "[a-z]+" }} }}
    questions {{ id: "long" text {{ }} }}
    questions {{ id: "ranking" ranking {{ }} }}
    questions {{ id: "ranking_ties" ranking {{ ties_allowed: true top: 2 }} }}
    questions {{ id: "preference" preference {{ }} }}
    questions {{ id: "preference_ties" preference {{ ties_allowed: true }} }}
    questions {{ id: "boxes" boxes {{ {CLASSES} max_shapes: 3 }} }}
    questions {{ id: "rotated_boxes" rotated_boxes {{ {CLASSES} }} }}
    questions {{ id: "ellipses" ellipses {{ {CLASSES} }} }}
    questions {{ id: "polygons" polygons {{ {CLASSES} }} }}
    questions {{ id: "polylines" polylines {{ {CLASSES} min_shapes: 1 }} }}
    questions {{ id: "keypoints" keypoints {{ {CLASSES} points: "nose" points: "tail" }} }}
    questions {{ id: "cuboids" cuboids {{ {CLASSES} }} }}
    questions {{ id: "mask" mask {{ {CLASSES} }} }}
    questions {{ id: "spans" spans {{ {CLASSES} }} }}
    questions {{ id: "relations" relations {{ spans_question: "spans" classes {{ id: "eats" }} }} }}
    questions {{ id: "regions" regions {{ {CLASSES} text_required: true }} }}
    questions {{ id: "segments" segments {{ {CLASSES} }} }}
    questions {{ id: "tracks" tracks {{ {CLASSES} shape: TRACK_SHAPE_BOX }} }}
    questions {{ id: "skeleton_tracks" tracks {{ {CLASSES} shape: TRACK_SHAPE_SKELETON points: "nose" }} }}
    """,
    schema_pb.LabelSchema(),
)
RULES = SchemaRules(SCHEMA)
PICTURE = ItemFacts(
    has_text=False, has_blob=True, width=100, height=50, duration_seconds=60, frame_count=10, page_count=2
)
TEXT = ItemFacts(has_text=True, has_blob=False, text_length=10)
PAIR = ItemFacts(has_text=False, has_blob=False, candidates=("a", "b"))

GOOD = [
    (PICTURE, "choice", 'choice: "cat"'),
    (PICTURE, "choice", "abstention { kind: ABSTENTION_KIND_CANNOT_TELL reason: 'dark' }"),
    (PICTURE, "choices", 'choices { class_ids: "cat" class_ids: "puppy" }'),
    (PICTURE, "number", "number: 10.5"),
    (PICTURE, "whole", "number: -3"),
    (PICTURE, "rating", "rating: 5"),
    (PICTURE, "text", 'text: "abcde"'),
    (PAIR, "ranking", 'ranking { tiers { candidate_ids: "b" } tiers { candidate_ids: "a" } }'),
    (PAIR, "ranking_ties", 'ranking { tiers { candidate_ids: "b" candidate_ids: "a" } }'),
    (PAIR, "preference", 'preference { candidate_id: "a" }'),
    (PAIR, "preference_ties", "preference { }"),
    (PICTURE, "boxes", 'boxes { boxes { class_id: "dog" width: 100 height: 50 } }'),
    (PICTURE, "boxes", "boxes { }"),
    (
        PICTURE,
        "boxes",
        'boxes { boxes { class_id: "cat" x: 1.5 y: 2 width: 3 height: 4 attributes { attribute: "age" number: 2 }'
        ' attributes { attribute: "colour" option: "black" } } }',
    ),
    (
        PICTURE,
        "rotated_boxes",
        'rotated_boxes { rotated_boxes { class_id: "dog" center_x: 99 center_y: 1 width: 30 height: 4'
        " rotation_degrees: -370 } }",
    ),
    (
        PICTURE,
        "ellipses",
        'ellipses { ellipses { class_id: "dog" center_x: 9 center_y: 1 radius_x: 3 radius_y: 4 } }',
    ),
    (
        PICTURE,
        "polygons",
        'polygons { polygons { class_id: "dog" outline { xy: [0, 0, 100, 0, 100, 50] }'
        " holes { xy: [1, 1, 2, 1, 2, 2] } } }",
    ),
    (PICTURE, "polylines", 'polylines { polylines { class_id: "dog" line { xy: [0, 0, 1, 1] } } }'),
    (
        PICTURE,
        "keypoints",
        'skeletons { skeletons { class_id: "dog" keypoints { point: "nose" x: 3 y: 4 }'
        ' keypoints { point: "tail" x: -5 visibility: VISIBILITY_ABSENT } } }',
    ),
    (
        PICTURE,
        "cuboids",
        'cuboids { cuboids { class_id: "dog" corners { xy: [-5, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 700, 7] } } }',
    ),
    (PICTURE, "mask", "mask { width: 100 height: 50 runs { class_indices: [0, 3] lengths: [4999, 1] } }"),
    (
        TEXT,
        "spans",
        'spans { spans { id: "s" start: 0 end: 3 class_id: "dog" } spans { start: 3 end: 10 class_id: "dog" } }',
    ),
    (PICTURE, "regions", 'regions { regions { page: 2 width: 100 height: 5 class_id: "dog" text: "hi" } }'),
    (
        PICTURE,
        "segments",
        'segments { segments { start_seconds: 1 end_seconds: 2 class_id: "dog" }'
        ' segments { start_seconds: 2 end_seconds: 60 class_id: "dog" } }',
    ),
    (
        PICTURE,
        "tracks",
        'tracks { tracks { id: "t" class_id: "puppy" keyframes { frame: 0 box { width: 3 height: 4 }'
        ' attributes { attribute: "wild" flag: true } } keyframes { frame: 9 outside: true } } }',
    ),
    (
        PICTURE,
        "skeleton_tracks",
        'tracks { tracks { id: "t" class_id: "dog" keyframes { skeleton { keypoints { point: "nose" } } } } }',
    ),
]

BAD = [
    (PICTURE, "choice", 'choice: "cow"', "answers[0].choice"),
    (PICTURE, "choice", "abstention { }", "answers[0].abstention.kind"),
    (PICTURE, "choice", "", "answers[0]"),
    (PICTURE, "nothing", "rating: 1", "answers[0].question"),
    (PICTURE, "choices", 'choices { class_ids: "cat" class_ids: "cow" }', "answers[0].choices.class_ids[1]"),
    (PICTURE, "choices", 'choices { class_ids: "cat" class_ids: "cat" }', "answers[0].choices.class_ids[1]"),
    (PICTURE, "choices", "choices { }", "answers[0].choices.class_ids"),
    (PICTURE, "number", "number: 10.6", "answers[0].number"),
    (PICTURE, "number", "number: nan", "answers[0].number"),
    (PICTURE, "number", "number: -inf", "answers[0].number"),
    (PICTURE, "whole", "number: 0.5", "answers[0].number"),
    (PICTURE, "rating", "rating: 6", "answers[0].rating"),
    (PICTURE, "text", 'text: "abcdef"', "answers[0].text"),
    (PICTURE, "text", 'text: "ab1"', "answers[0].text"),
    (PAIR, "ranking", 'ranking { tiers { candidate_ids: "a" } }', "answers[0].ranking.tiers"),
    (PAIR, "ranking", 'ranking { tiers { candidate_ids: "a" candidate_ids: "b" } }', "answers[0].ranking.tiers[0].candidate_ids"),
    (
        PAIR,
        "ranking",
        'ranking { tiers { candidate_ids: "a" } tiers { candidate_ids: "c" } tiers { candidate_ids: "b" } }',
        "answers[0].ranking.tiers[1].candidate_ids[0]",
    ),
    (
        PAIR,
        "ranking_ties",
        'ranking { tiers { candidate_ids: "a" candidate_ids: "b" } tiers { candidate_ids: "a" } }',
        "answers[0].ranking.tiers[1].candidate_ids[0]",
    ),
    (PAIR, "preference", "preference { }", "answers[0].preference.candidate_id"),
    (PAIR, "preference", 'preference { candidate_id: "c" }', "answers[0].preference.candidate_id"),
    (PICTURE, "boxes", 'boxes { boxes { class_id: "cow" width: 1 height: 1 } }', "answers[0].boxes.boxes[0].class_id"),
    (PICTURE, "boxes", 'boxes { boxes { class_id: "dog" x: -1 width: 1 height: 1 } }', "answers[0].boxes.boxes[0].x"),
    (PICTURE, "boxes", 'boxes { boxes { class_id: "dog" x: nan width: 1 height: 1 } }', "answers[0].boxes.boxes[0].x"),
    (PICTURE, "boxes", 'boxes { boxes { class_id: "dog" x: 1 width: 100 height: 1 } }', "answers[0].boxes.boxes[0].width"),
    (PICTURE, "boxes", 'boxes { boxes { class_id: "dog" width: 1 height: 51 } }', "answers[0].boxes.boxes[0].height"),
    (PICTURE, "boxes", 'boxes { boxes { class_id: "dog" width: 0 height: 1 } }', "answers[0].boxes.boxes[0].width"),
    (TEXT, "boxes", "boxes { }", "answers[0].boxes"),
    (PICTURE, "boxes", 'boxes { boxes { class_id: "cat" width: 1 height: 1 } }', "answers[0].boxes.boxes[0].attributes"),
    (
        PICTURE,
        "boxes",
        'boxes { boxes { class_id: "cat" width: 1 height: 1 attributes { attribute: "age" number: 0.5 } } }',
        "answers[0].boxes.boxes[0].attributes[0].number",
    ),
    (
        PICTURE,
        "boxes",
        'boxes { boxes { class_id: "cat" width: 1 height: 1 attributes { attribute: "age" text: "x" } } }',
        "answers[0].boxes.boxes[0].attributes[0]",
    ),
    (
        PICTURE,
        "boxes",
        'boxes { boxes { class_id: "dog" width: 1 height: 1 attributes { attribute: "age" number: 1 } } }',
        "answers[0].boxes.boxes[0].attributes[0].attribute",
    ),
    (
        PICTURE,
        "boxes",
        'boxes { boxes { class_id: "cat" width: 1 height: 1 attributes { attribute: "age" number: 1 }'
        ' attributes { attribute: "colour" option: "red" } attributes { attribute: "age" number: 1 } } }',
        "answers[0].boxes.boxes[0].attributes[1].option",
        "answers[0].boxes.boxes[0].attributes[2].attribute",
    ),
    (
        PICTURE,
        "boxes",
        'boxes { boxes { class_id: "puppy" width: 1 height: 1 attributes { attribute: "note" text: "A" } } }',
        "answers[0].boxes.boxes[0].attributes[0].text",
    ),
    (
        PICTURE,
        "rotated_boxes",
        'rotated_boxes { rotated_boxes { class_id: "dog" center_x: 101 width: 30 height: 4 rotation_degrees: inf } }',
        "answers[0].rotated_boxes.rotated_boxes[0].center_x",
        "answers[0].rotated_boxes.rotated_boxes[0].rotation_degrees",
    ),
    (PICTURE, "ellipses", 'ellipses { ellipses { class_id: "dog" radius_x: -3 radius_y: 4 } }', "answers[0].ellipses.ellipses[0].radius_x"),
    (PICTURE, "polygons", 'polygons { polygons { class_id: "dog" outline { xy: [0, 0, 1, 1] } } }', "answers[0].polygons.polygons[0].outline.xy"),
    (PICTURE, "polygons", 'polygons { polygons { class_id: "dog" outline { xy: [0, 0, 1, 1, 2] } } }', "answers[0].polygons.polygons[0].outline.xy"),
    (
        PICTURE,
        "polygons",
        'polygons { polygons { class_id: "dog" outline { xy: [0, 0, 1, 51, 2, 2] } holes { xy: [0] } } }',
        "answers[0].polygons.polygons[0].outline.xy[3]",
        "answers[0].polygons.polygons[0].holes[0].xy",
    ),
    (PICTURE, "polylines", "polylines { }", "answers[0].polylines.polylines"),
    (PICTURE, "polylines", 'polylines { polylines { class_id: "dog" line { xy: [0, nan, 1, 1] } } }', "answers[0].polylines.polylines[0].line.xy[1]"),
    (
        PICTURE,
        "keypoints",
        'skeletons { skeletons { class_id: "dog" keypoints { point: "ear" } keypoints { point: "nose" x: 101 }'
        ' keypoints { point: "nose" } } }',
        "answers[0].skeletons.skeletons[0].keypoints[0].point",
        "answers[0].skeletons.skeletons[0].keypoints[1].x",
        "answers[0].skeletons.skeletons[0].keypoints[2].point",
    ),
    (PICTURE, "keypoints", 'skeletons { skeletons { class_id: "dog" } }', "answers[0].skeletons.skeletons[0].keypoints"),
    (PICTURE, "cuboids", 'cuboids { cuboids { class_id: "dog" corners { xy: [1, 2] } } }', "answers[0].cuboids.cuboids[0].corners.xy"),
    (PICTURE, "mask", "mask { width: 99 height: 50 runs { class_indices: 1 lengths: 4950 } }", "answers[0].mask.width"),
    (PICTURE, "mask", "mask { width: 100 height: 50 runs { class_indices: 1 lengths: 4999 } }", "answers[0].mask.runs.lengths"),
    (PICTURE, "mask", "mask { width: 100 height: 50 runs { class_indices: 4 lengths: 5000 } }", "answers[0].mask.runs.class_indices[0]"),
    (PICTURE, "mask", "mask { width: 100 height: 50 runs { class_indices: [1, 2] lengths: 5000 } }", "answers[0].mask.runs.lengths"),
    (PICTURE, "mask", "mask { width: 100 height: 50 runs { class_indices: [1, 2] lengths: [5000, 0] } }", "answers[0].mask.runs.lengths[1]"),
    (PICTURE, "mask", "mask { width: 100 height: 50 }", "answers[0].mask"),
    (TEXT, "spans", 'spans { spans { start: 8 end: 11 class_id: "dog" } }', "answers[0].spans.spans[0].end"),
    (TEXT, "spans", 'spans { spans { start: 3 end: 3 class_id: "dog" } }', "answers[0].spans.spans[0].end"),
    (TEXT, "spans", 'spans { spans { start: 2 end: 9 class_id: "dog" } spans { start: 0 end: 3 class_id: "dog" } }', "answers[0].spans.spans[0]"),
    (
        TEXT,
        "spans",
        'spans { spans { id: "s" start: 0 end: 1 class_id: "dog" } spans { id: "s" start: 1 end: 2 class_id: "dog" } }',
        "answers[0].spans.spans[1].id",
    ),
    (PICTURE, "spans", 'spans { spans { start: 0 end: 1 class_id: "dog" } }', "answers[0].spans"),
    (TEXT, "relations", 'relations { relations { from_span: "s" to_span: "t" class_id: "eats" } }', "answers[0].relations.relations[0].from_span", "answers[0].relations.relations[0].to_span"),
    (PICTURE, "regions", 'regions { regions { page: 3 width: 1 height: 1 class_id: "dog" text: "x" } }', "answers[0].regions.regions[0].page"),
    (PICTURE, "regions", 'regions { regions { page: 1 width: 1 height: 1 class_id: "dog" } }', "answers[0].regions.regions[0].text"),
    (PICTURE, "regions", 'regions { regions { page: 1 x: 99 width: 2 height: 1 class_id: "dog" text: "x" } }', "answers[0].regions.regions[0].width"),
    (PICTURE, "segments", 'segments { segments { start_seconds: 59 end_seconds: 61 class_id: "dog" } }', "answers[0].segments.segments[0].end_seconds"),
    (PICTURE, "segments", 'segments { segments { start_seconds: nan end_seconds: 1 class_id: "dog" } }', "answers[0].segments.segments[0].start_seconds"),
    (
        PICTURE,
        "segments",
        'segments { segments { start_seconds: 1 end_seconds: 3 class_id: "dog" }'
        ' segments { start_seconds: 2 end_seconds: 4 class_id: "dog" } }',
        "answers[0].segments.segments[1]",
    ),
    (
        PICTURE,
        "tracks",
        'tracks { tracks { id: "t" class_id: "dog" keyframes { frame: 10 outside: true } keyframes { frame: 10'
        " outside: true } } }",
        "answers[0].tracks.tracks[0].keyframes[0].frame",
        "answers[0].tracks.tracks[0].keyframes[1].frame",
        "answers[0].tracks.tracks[0].keyframes[1].frame",
    ),
    (PICTURE, "tracks", 'tracks { tracks { id: "t" class_id: "dog" keyframes { } } }', "answers[0].tracks.tracks[0].keyframes[0]"),
    (PICTURE, "tracks", 'tracks { tracks { id: "t" class_id: "dog" keyframes { ellipse { } } } }', "answers[0].tracks.tracks[0].keyframes[0].ellipse"),
    (PICTURE, "tracks", 'tracks { tracks { class_id: "dog" } }', "answers[0].tracks.tracks[0].id", "answers[0].tracks.tracks[0].keyframes"),
    (
        PICTURE,
        "tracks",
        'tracks { tracks { id: "t" class_id: "dog" keyframes { box { class_id: "dog" x: 98 width: 3 height: 4 } } } }',
        "answers[0].tracks.tracks[0].keyframes[0].box",
        "answers[0].tracks.tracks[0].keyframes[0].box.width",
    ),
]  # fmt: skip


def answer(question: str, text: str) -> v.Answer:
    parsed = text_format.Parse(text, v.Answer())
    parsed.question = question
    return parsed


def error_of(item: ItemFacts, *answers: v.Answer) -> InvalidArgument | None:
    return check_answers(answers, RULES, item)


def test_the_schema_of_these_tests_asks_every_kind_of_question() -> None:
    assert check_schema(SCHEMA) == ()
    kinds = {field.name for field in schema_pb.Question.DESCRIPTOR.oneofs_by_name["kind"].fields}
    assert {q.WhichOneof("kind") for q in SCHEMA.questions} == kinds
    tried = {good[2].split()[0].rstrip(":") for good in GOOD} | {"relations"}
    values = {field.name for field in v.Answer.DESCRIPTOR.oneofs_by_name["value"].fields}
    assert tried == values


@pytest.mark.parametrize(("item", "question", "text"), GOOD)
def test_a_good_answer_is_taken(item: ItemFacts, question: str, text: str) -> None:
    assert error_of(item, answer(question, text)) is None


@pytest.mark.parametrize("case", BAD, ids=[f"{case[1]}-{i}" for i, case in enumerate(BAD)])
def test_a_bad_answer_is_refused_at_its_path(case: Any) -> None:
    item, question, text, *paths = case
    error = error_of(item, answer(question, text))
    assert error is not None
    assert [violation.field for violation in error.violations] == paths
    for violation in error.violations:
        assert "; expected " in violation.description


def test_every_question_refuses_the_values_of_all_other_kinds() -> None:
    values = {good[1]: answer(good[1], good[2]) for good in GOOD}
    for rules in RULES.questions.values():
        for value in values.values():
            field = value.WhichOneof("value")
            own = "skeletons" if rules.kind == "keypoints" else rules.kind
            if field in (own, "abstention"):
                continue
            wrong = v.Answer()
            wrong.CopyFrom(value)
            wrong.question = rules.id
            error = error_of(PICTURE, wrong)
            assert error is not None
            assert error.reason == "ANSWER_KIND_MISMATCH"


def test_relations_link_spans_of_the_same_annotation() -> None:
    spans = answer(
        "spans",
        'spans { spans { id: "s" start: 0 end: 1 class_id: "dog" } spans { id: "t" start: 1 end: 2 class_id: "dog" } }',
    )
    link = answer("relations", 'relations { relations { from_span: "s" to_span: "t" class_id: "eats" } }')
    assert error_of(TEXT, spans, link) is None
    assert error_of(TEXT, link, spans) is None
    # a label is judged for itself: that of the spans may come later
    assert check_label(link, RULES, TEXT) is None
    link.relations.relations[0].class_id = "cow"
    error = check_label(link, RULES, TEXT)
    assert error is not None
    assert [violation.field for violation in error.violations] == ["answer.relations.relations[0].class_id"]


def test_a_question_is_answered_once() -> None:
    error = error_of(PICTURE, answer("rating", "rating: 1"), answer("rating", "rating: 2"))
    assert error is not None
    assert [violation.field for violation in error.violations] == ["answers[1].question"]


def test_a_required_question_wants_an_answer_only_while_it_is_asked() -> None:
    rules = SchemaRules(
        text_format.Parse(
            """questions { id: "bird" required: true choice { classes { id: "yes" } classes { id: "no" } } }
               questions { id: "kind" required: true condition { question: "bird" any_of: "yes" } text { } }""",
            schema_pb.LabelSchema(),
        )
    )
    yes, no, kind = (
        answer("bird", 'choice: "yes"'),
        answer("bird", 'choice: "no"'),
        answer("kind", 'text: "wren"'),
    )
    cannot_tell = answer("bird", "abstention { kind: ABSTENTION_KIND_CANNOT_TELL }")
    for good in ([yes, kind], [no], [cannot_tell]):
        assert check_answers(good, rules, PICTURE) is None
    for bad, path in (
        ([yes], "answers"),
        ([kind], "answers[0].question"),
        ([no, kind], "answers[1].question"),
        ([cannot_tell, kind], "answers[1].question"),
    ):
        error = check_answers(bad, rules, PICTURE)
        assert error is not None
        assert error.violations[0].field == path
    # a label is judged for itself: the one on which its question hangs may come later
    assert check_label(kind, rules, PICTURE) is None


def test_spans_count_code_points_not_bytes() -> None:
    snow = ItemFacts(has_text=True, has_blob=False, text_length=len("☃☃𝄞"))
    assert error_of(snow, answer("spans", 'spans { spans { start: 0 end: 3 class_id: "dog" } }')) is None
    assert error_of(snow, answer("spans", 'spans { spans { start: 0 end: 4 class_id: "dog" } }')) is not None


def test_ten_megabytes_of_text_are_refused_by_their_length() -> None:
    error = error_of(TEXT, v.Answer(question="long", text="x" * 10_000_000))
    assert error is not None
    assert error.violations[0].field == "answers[0].text"
    assert "10000000 code points; expected at most 10000" in error.violations[0].description


def test_a_thousand_faults_are_not_all_told() -> None:
    boxes = v.Answer(question="boxes", boxes=v.Boxes(boxes=[v.Box(class_id="cow")] * 3))
    many = SchemaRules(
        text_format.Parse(f'questions {{ id: "boxes" boxes {{ {CLASSES} }} }}', schema_pb.LabelSchema())
    )
    boxes.boxes.boxes.extend([v.Box(class_id="cow", x=-1)] * 5000)
    error = check_answers([boxes], many, PICTURE)
    assert error is not None
    assert len(error.violations) == 100


def test_a_pattern_that_would_run_for_ever_elsewhere_does_not_here() -> None:
    rules = SchemaRules(
        schema_pb.LabelSchema(
            questions=[
                schema_pb.Question(id="t", text=schema_pb.TextQuestion(pattern="(a+)+b", max_length=100_000))
            ]
        )
    )
    assert check_answers([v.Answer(question="t", text="a" * 50_000)], rules, TEXT) is not None


numbers = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.floats(min_value=-10, max_value=110, allow_nan=False),
)


@given(x=numbers, y=numbers, width=numbers, height=numbers)
def test_a_box_is_taken_exactly_when_it_lies_in_the_image(
    x: float, y: float, width: float, height: float
) -> None:
    box = v.Box(class_id="dog", x=x, y=y, width=width, height=height)
    good = error_of(PICTURE, v.Answer(question="boxes", boxes=v.Boxes(boxes=[box]))) is None
    finite = all(map(math.isfinite, (x, y, width, height)))
    slack = 1e-6
    inside = (
        finite
        and width > 0
        and height > 0
        and x >= -slack
        and y >= -slack
        and x + width <= 100 + slack
        and y + height <= 50 + slack
    )
    assert good == inside


@given(lengths=st.lists(st.integers(min_value=0, max_value=3000), max_size=6), data=st.data())
def test_a_mask_is_taken_exactly_when_its_runs_fill_it(lengths: list[int], data: st.DataObject) -> None:
    indices = data.draw(
        st.lists(st.integers(min_value=0, max_value=4), min_size=len(lengths), max_size=len(lengths))
    )
    mask = v.Mask(width=100, height=50, runs=v.Runs(class_indices=indices, lengths=lengths))
    good = error_of(PICTURE, v.Answer(question="mask", mask=mask)) is None
    assert good == (sum(lengths) == 5000 and 0 not in lengths and all(i <= 3 for i in indices))


@given(stretches=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=5))
def test_spans_are_taken_exactly_when_they_lie_in_the_text_side_by_side(
    stretches: list[tuple[int, int]],
) -> None:
    spans = v.Spans(spans=[v.Span(start=start, end=end, class_id="dog") for start, end in stretches])
    good = error_of(TEXT, v.Answer(question="spans", spans=spans)) is None
    covered = [place for start, end in stretches for place in range(start, end)]
    sound = all(start < end <= 10 for start, end in stretches)
    assert good == (sound and len(covered) == len(set(covered)))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**31), 2**31 - 1) | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=5,
    ),
    st.sampled_from([field.name for field in v.Answer.DESCRIPTOR.oneofs_by_name["value"].fields]),
    st.sampled_from([q.id for q in SCHEMA.questions]),
)
def test_whatever_an_answer_holds_is_judged_and_never_breaks_the_judge(
    junk: object, field: str, question: str
) -> None:
    try:
        value = json_format.ParseDict({"question": question, field: junk}, v.Answer())
    except (json_format.ParseError, TypeError, ValueError):
        value = v.Answer(question=question)
        if value.DESCRIPTOR.fields_by_name[field].message_type is not None:
            getattr(value, field).SetInParent()
    for item in (PICTURE, TEXT, PAIR):
        error_of(item, value)
