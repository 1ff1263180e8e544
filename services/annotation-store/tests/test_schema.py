"""Schemas: what makes one wrong, and which changes labels and annotations allow."""

from __future__ import annotations

import pytest
from google.protobuf import text_format

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.label.v1 import label_schema_pb2 as schema_pb
from cairn.label.v1 import label_value_pb2 as v
from cairn_annotation_store.domain.policies import check_project, may_change_completeness
from cairn_annotation_store.domain.schema import check_schema
from cairn_annotation_store.domain.schema_change import Use, check_change, uses_of


def schema(text: str) -> schema_pb.LabelSchema:
    return text_format.Parse(text, schema_pb.LabelSchema())


TWO = 'classes { id: "a" } classes { id: "b" }'


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", "schema.questions"),
        ('questions { id: "q" }', "schema.questions[0]"),
        (
            f'questions {{ id: "q" choice {{ {TWO} }} }} questions {{ id: "q" text {{ }} }}',
            "schema.questions[1].id",
        ),
        (
            'questions { id: "q" choice { classes { id: "a" } classes { id: "a" } } }',
            "schema.questions[0].choice.classes[1].id",
        ),
        (
            'questions { id: "q" choice { classes { id: "a" parent: "z" } classes { id: "b" } } }',
            "schema.questions[0].choice.classes[0].parent",
        ),
        (
            'questions { id: "q" condition { question: "r" any_of: "a" } text { } } '
            f'questions {{ id: "r" choice {{ {TWO} }} }}',
            "schema.questions[0].condition.question",
        ),
        (
            'questions { id: "r" text { } } questions { id: "q" condition { question: "r" any_of: "a" } text { } }',
            "schema.questions[1].condition.question",
        ),
        (
            f'questions {{ id: "r" choice {{ {TWO} }} }} '
            'questions { id: "q" condition { question: "r" any_of: "a" any_of: "c" } text { } }',
            "schema.questions[1].condition.any_of[1]",
        ),
        (
            'questions { id: "q" relations { spans_question: "s" classes { id: "a" } } }',
            "schema.questions[0].relations.spans_question",
        ),
        ('questions { id: "q" text { pattern: "(?<=a)b" } }', "schema.questions[0].text.pattern"),
        ('questions { id: "q" number { minimum: 2 maximum: 1 } }', "schema.questions[0].number.minimum"),
        ('questions { id: "q" rating { minimum: 2 maximum: 2 } }', "schema.questions[0].rating.maximum"),
        (
            'questions { id: "q" rating { minimum: 1 maximum: 2 step_titles: "bad" } }',
            "schema.questions[0].rating.step_titles",
        ),
        (
            f'questions {{ id: "q" choices {{ {TWO} min_choices: 3 }} }}',
            "schema.questions[0].choices.min_choices",
        ),
        (
            f'questions {{ id: "q" boxes {{ {TWO} min_shapes: 3 max_shapes: 2 }} }}',
            "schema.questions[0].boxes.min_shapes",
        ),
        (
            'questions { id: "q" keypoints { classes { id: "a" } points: "p" edges { from_point: "p" to_point: "r" } } }',
            "schema.questions[0].keypoints.edges[0].to_point",
        ),
        (f'questions {{ id: "q" tracks {{ {TWO} }} }}', "schema.questions[0].tracks.shape"),
        (
            f'questions {{ id: "q" tracks {{ {TWO} shape: TRACK_SHAPE_SKELETON }} }}',
            "schema.questions[0].tracks.points",
        ),
        ('questions { id: "q" regions { } }', "schema.questions[0].regions"),
        (
            'questions { id: "q" boxes { classes { id: "a" attributes { id: "x" flag { } } '
            'attributes { id: "x" flag { } } } } }',
            "schema.questions[0].boxes.classes[0].attributes[1].id",
        ),
        (
            'questions { id: "q" boxes { classes { id: "a" attributes { id: "x" text { pattern: "(" } } } } }',
            "schema.questions[0].boxes.classes[0].attributes[0].text.pattern",
        ),
    ],
)
def test_a_schema_that_makes_no_sense_is_refused_where_it_does_not(text: str, path: str) -> None:
    assert [violation.field for violation in check_schema(schema(text))] == [path]


def test_classes_form_a_tree_and_never_a_ring() -> None:
    count = 20_000
    classes = [
        schema_pb.LabelClass(id=f"c{i}", parent=f"c{i + 1}" if i + 1 < count else "") for i in range(count)
    ]
    deep = schema_pb.LabelSchema(
        questions=[schema_pb.Question(id="q", choice=schema_pb.ChoiceQuestion(classes=classes))]
    )
    assert check_schema(deep) == ()
    deep.questions[0].choice.classes[count - 1].parent = "c0"
    assert len(check_schema(deep)) == 100  # all of them are wrong; so many are told


OLD = """
questions { id: "kind" required: true choice { classes { id: "a" } classes { id: "b" } classes { id: "c" } } }
questions { id: "size" number { minimum: 0 maximum: 10 } }
questions { id: "note" text { max_length: 10 pattern: "[a-z]*" } }
questions { id: "mask" mask { classes { id: "a" } classes { id: "b" } } }
questions { id: "boxes" boxes { classes { id: "a" attributes { id: "hue" options { values: "red" values: "blue" } } } } }
questions { id: "spans" spans { classes { id: "a" } overlaps_allowed: true } }
"""
USED = uses_of(
    [
        v.Answer(question="kind", choice="a"),
        v.Answer(question="kind", choice="b"),
        v.Answer(question="size", number=3),
        v.Answer(question="note", text="x"),
        v.Answer(question="mask", mask=v.Mask()),
        v.Answer(
            question="boxes",
            boxes=v.Boxes(
                boxes=[v.Box(class_id="a", attributes=[v.AttributeValue(attribute="hue", option="red")])]
            ),
        ),
        v.Answer(question="spans", spans=v.Spans(spans=[v.Span(class_id="a")])),
    ]
)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('classes { id: "c" } } }', 'classes { id: "z" } } }'),  # a class nobody chose goes, another comes
        ("maximum: 10 ", "maximum: 11 "),
        ("minimum: 0 ", ""),
        ("max_length: 10", "max_length: 20"),
        (' pattern: "[a-z]*"', ""),
        (
            'mask { classes { id: "a" } classes { id: "b" }',
            'mask { classes { id: "a" } classes { id: "b" } classes { id: "c" }',
        ),
        (' values: "blue"', ""),
        ('id: "size"', 'id: "size" required: true'),  # what is asked of new annotations breaks no old one
        ('id: "size"', 'id: "size" title: "How large?"'),
        ('questions { id: "kind"', 'questions { id: "new" text { } } questions { id: "kind"'),
    ],
)
def test_a_schema_may_grow_under_its_answers(old: str, new: str) -> None:
    assert old in OLD
    assert check_change(schema(OLD), schema(OLD.replace(old, new, 1)), USED) == ()


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ('classes { id: "b" } classes { id: "c" }', 'classes { id: "c" }', "schema.questions[0].choice"),
        ('questions { id: "size" number { minimum: 0 maximum: 10 } }', "", "schema.questions"),
        ("number { minimum: 0 maximum: 10 }", "rating { minimum: 0 maximum: 10 }", "schema.questions[1]"),
        ("maximum: 10 ", "maximum: 9 ", "schema.questions[1].number.maximum"),
        ("maximum: 10 ", "maximum: 10 whole: true ", "schema.questions[1].number.whole"),
        ("max_length: 10", "max_length: 9", "schema.questions[2].text.max_length"),
        ('"[a-z]*"', '"[a-b]*"', "schema.questions[2].text.pattern"),
        (
            'mask { classes { id: "a" } classes { id: "b" }',
            'mask { classes { id: "b" } classes { id: "a" }',
            "schema.questions[3].mask.classes",
        ),
        ('values: "red" ', "", "schema.questions[4].boxes"),
        (
            'attributes { id: "hue"',
            'attributes { id: "new" required: true flag { } } attributes { id: "hue"',
            "schema.questions[4].boxes.classes[0].attributes[0].required",
        ),
        (" overlaps_allowed: true", "", "schema.questions[5].spans.overlaps_allowed"),
        (
            'questions { id: "size"',
            'questions { id: "size" condition { question: "kind" any_of: "a" }',
            "schema.questions[1].condition",
        ),
    ],
)
def test_what_answers_use_may_not_vanish_nor_get_narrower(old: str, new: str, path: str) -> None:
    assert old in OLD
    assert [found.field for found in check_change(schema(OLD), schema(OLD.replace(old, new, 1)), USED)] == [
        path
    ]


def test_without_answers_anything_may_change() -> None:
    assert check_change(schema(OLD), schema('questions { id: "other" text { } }'), ()) == ()


def test_an_abstention_uses_the_question_and_none_of_its_rules() -> None:
    used = uses_of([v.Answer(question="size", abstention=v.Abstention())])
    assert used == {Use("size", "abstention")}
    assert check_change(schema(OLD), schema(OLD.replace("maximum: 10 ", "maximum: 1 ")), used) == ()
    assert check_change(schema(OLD), schema(OLD.replace('id: "size"', 'id: "z"')), used) != ()


def test_only_what_is_required_can_change_which_items_are_complete() -> None:
    assert not may_change_completeness(schema(OLD), schema(OLD.replace('id: "c"', 'id: "z"')))
    assert may_change_completeness(
        schema(OLD), schema(OLD.replace('id: "size"', 'id: "size" required: true'))
    )


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"routing": pb.RoutingPolicy(enabled=True, question="size")}, "project.routing.question"),
        ({"routing": pb.RoutingPolicy(alpha=0.7)}, "project.routing.alpha"),
        ({"quality": pb.QualityPolicy(min_answers=3, max_answers=2)}, "project.quality.max_answers"),
        ({"quality": pb.QualityPolicy(gold_share=float("nan"))}, "project.quality.gold_share"),
    ],
)
def test_policies_fit_the_schema(change: dict[str, object], path: str) -> None:
    project = pb.Project(schema=schema(OLD), **change)  # type: ignore[arg-type]
    assert [violation.field for violation in check_project(project)] == [path]


def test_routing_needs_something_to_route() -> None:
    project = pb.Project(
        schema=schema('questions { id: "t" text { } }'), routing=pb.RoutingPolicy(enabled=True)
    )
    assert [violation.field for violation in check_project(project)] == ["project.routing.enabled"]
