"""Answers are plain Python values, both ways; names hold any key."""

import pytest

from cairn.label.v1.label_schema_pb2 import Question
from cairn_client.answers import Abstain, answer_of, answers_of, short_text, value_of
from cairn_client.errors import InputError
from cairn_client.names import item_id, item_key, item_name, labeler_id, labeler_name, project_name
from cairn_client.new_items import NewItem, new_item
from cairn_client.schema import spec_from

SCHEMA = spec_from(
    {
        "questions": [
            {"id": "one", "choice": ["a", "b"]},
            {"id": "some", "choices": ["a", "b", "c"]},
            {"id": "length", "number": {"unit": "mm"}},
            {"id": "stars", "rating": {"minimum": 1, "maximum": 5}},
            {"id": "said", "text": {}},
            {"id": "order", "ranking": {}},
            {"id": "better", "preference": {"ties_allowed": True}},
            {"id": "where", "boxes": ["car"]},
            {"id": "body", "keypoints": {"classes": ["person"], "points": ["nose"]}},
        ]
    }
).schema
QUESTIONS: dict[str, Question] = {question.id: question for question in SCHEMA.questions}


@pytest.mark.parametrize(
    ("question", "value"),
    [
        ("one", "a"),
        ("some", ["a", "c"]),
        ("length", 2.5),
        ("stars", 4),
        ("said", "hello"),
        ("order", [["x"], ["y", "z"]]),
        ("better", "x"),
        ("better", None),
        ("where", {"boxes": [{"class_id": "car", "x": 1.0, "y": 2.0, "width": 3.0, "height": 4.0}]}),
        ("body", {"skeletons": [{"class_id": "person"}]}),
        ("one", Abstain("too dark")),
        ("one", Abstain("does not load", broken_item=True)),
    ],
)
def test_a_value_comes_back_as_it_went_in(question: str, value: object) -> None:
    assert value_of(answer_of(QUESTIONS[question], value)) == value


@pytest.mark.parametrize(
    ("question", "value"), [("one", 3), ("some", "a"), ("stars", 2.5), ("length", "long"), ("where", 1)]
)
def test_a_value_of_another_kind_is_refused_before_it_is_sent(question: str, value: object) -> None:
    with pytest.raises(InputError, match=f"is not an answer to '{question}'"):
        answer_of(QUESTIONS[question], value)


def test_a_question_that_is_not_asked_is_named() -> None:
    with pytest.raises(InputError, match=r"no question 'two'; it has one, some"):
        answers_of(SCHEMA, {"two": "a"})


def test_long_answers_are_shortened_for_tables() -> None:
    assert short_text(answer_of(QUESTIONS["said"], "x " * 100), 10) == "x x x x x…"


@pytest.mark.parametrize("key", ["plain", "a b", "ü/ö.png", "100%", "../etc/passwd", "a%20b", "日本"])
def test_any_key_fits_into_a_name_and_comes_back(key: str) -> None:
    name = item_name("birds", key)

    assert name.count("/") == 3
    assert item_key(name) == key
    assert item_key(f"{name}/labels/q") == key


def test_labelers_of_any_spelling_have_names() -> None:
    assert labeler_name("ann@example.org") == "labelers/ann@example.org"
    assert labeler_id(labeler_name("Ann Smith/3")) == "Ann Smith/3"
    assert labeler_name("") == ""


@pytest.mark.parametrize("key", ["", "x" * 257, "\ud800"])
def test_a_key_that_fits_no_name_is_refused(key: str) -> None:
    with pytest.raises(InputError):
        item_id(key)


def test_a_project_may_be_given_by_id_or_name() -> None:
    assert project_name("birds") == project_name("projects/birds") == "projects/birds"
    with pytest.raises(InputError, match="cannot be a project's id"):
        project_name("Birds")


def test_a_tables_own_columns_are_kept_as_metadata_whatever_they_are_called() -> None:
    item = new_item({"item": "1", "text": "a", "gold": "x", "metadata": "y", "page": 3})

    assert isinstance(item, NewItem)
    assert (item.gold, dict(item.metadata)) == ({}, {"gold": "x", "metadata": "y", "page": "3"})
