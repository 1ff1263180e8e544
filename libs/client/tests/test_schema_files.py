"""A schema file says what is asked; a wrong one says where it is wrong."""

import json
from pathlib import Path

import pytest

from cairn_client.errors import InputError
from cairn_client.schema import ProjectSpec, load_spec, parse_spec, spec_from

SHORT = """
display_name: Film reviews
questions:
  - id: sentiment
    title: Is it positive?
    choice: [negative, positive]
  - id: stars
    rating: 1..5
    when: {sentiment: positive}
  - id: why
    text: {max_length: 200}
    required: false
  - id: objects
    boxes: [{id: car, title: A car, color: "#ff0000"}, person]
quality: {min_answers: 2, max_answers: 7, lease_duration: 5m}
routing: {enabled: true, alpha: 0.02}
"""


def test_the_short_form_becomes_the_contracts_schema() -> None:
    spec = parse_spec(SHORT)

    sentiment, stars, why, objects = spec.schema.questions
    assert [one.id for one in sentiment.choice.classes] == ["negative", "positive"]
    assert sentiment.required
    assert (stars.rating.minimum, stars.rating.maximum) == (1, 5)
    assert (stars.condition.question, list(stars.condition.any_of)) == ("sentiment", ["positive"])
    assert (why.required, why.text.max_length) == (False, 200)
    assert [(one.id, one.color) for one in objects.boxes.classes] == [("car", "#ff0000"), ("person", "")]
    assert spec.quality.lease_duration.seconds == 300
    assert spec.routing.alpha == 0.02
    assert spec.display_name == "Film reviews"


def test_classes_are_taken_as_written_not_as_yaml_reads_them() -> None:
    spec = parse_spec("questions:\n- id: q\n  choice: [no, yes, 01, 1.0, on]\n")

    assert [one.id for one in spec.schema.questions[0].choice.classes] == ["no", "yes", "01", "1.0", "on"]


def test_a_json_file_is_the_contracts_own_json(tmp_path: Path) -> None:
    file = tmp_path / "schema.json"
    question = {"id": "q", "text": {"maxLength": 5}}
    file.write_text(json.dumps({"schema": {"questions": [question]}, "quality": {"minAnswers": 3}}))

    spec = load_spec(file)

    assert not spec.schema.questions[0].required
    assert spec.quality.min_answers == 3


def test_a_project_may_be_said_by_a_dict_or_a_file_and_its_questions_by_a_message(tmp_path: Path) -> None:
    told = {
        "questions": [{"id": "q", "choice": ["a", "b"]}],
        "quality": {"min_answers": 1},
        "display_name": "Q",
    }
    file = tmp_path / "s.yaml"
    file.write_text("questions: [{id: q, choice: [a, b]}]\nquality: {min_answers: 1}\ndisplay_name: Q\n")

    spec = spec_from(told)

    assert (spec.quality.min_answers, spec.display_name) == (1, "Q")
    assert spec_from(file) == spec
    assert spec_from(spec) is spec
    assert spec_from(spec.schema) == ProjectSpec(spec.schema)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "questions:\n- id: q\n  choise: [a, b]\n",
            "line 3: question 'q' has no 'choise'; did you mean 'choice'?",
        ),
        ("questions:\n- title: q\n  text:\n", "line 2: this question has no 'id'"),
        ("questions:\n- id: q\n", "line 2: question 'q' must have exactly one kind"),
        ("questions:\n- id: q\n  text:\n  number:\n", "but has 'text' and 'number'"),
        ("questions:\n- id: q\n  choice: [a, b, a]\n", "line 3: question 'q' has the class 'a' twice"),
        ("questions:\n- id: q\n  rating: five\n", "line 3: question 'q': write a rating as '1..5'"),
        ("questions:\n- id: q\n  text:\n- id: q\n  text:\n", "line 4: two questions have the id 'q'"),
        (
            "questions:\n- id: q\n  text:\nquality: {min_answer: 2}\n",
            "line 4: there is no setting 'min_answer'; did",
        ),
        (
            "questions:\n- id: q\n  text:\nquality:\n  min_answers: two\n",
            "line 5: 'min_answers' is 'two'; expected a whole number.",
        ),
        ("questions:\n- id: q\n  text:\n  id: r\n", "line 4: 'id' is given twice"),
        ("questions:\n- id: q\n  choice: [a,\n", "line 4: expected"),
        ("quality: {}\n", "line 1: a schema must say 'questions:'"),
        (
            "questions:\n- id: q\n  choice: [a]\n",
            "line 3: question 'q': there must be at least 2 classes, but there is 1.",
        ),
        (
            "questions:\n- id: q\n  choice: [a, {b: 1}, 3]\n",
            "line 3: question 'q': class 2, {'b': 1}, has no 'id'",
        ),
        (
            "questions:\n- id: q\n  number: {min: 1}\n",
            "line 3: question 'q': there is no setting 'min'; did you mean 'minimum'?",
        ),
        (
            "questions:\n- id: q\n  choice:\n  - {id: a, tilte: A}\n  - b\n",
            "line 4: question 'q': class 'a': there is no setting 'tilte'; did you mean 'title'?",
        ),
        (
            "questions:\n- id: q\n  choice: [a, b c]\n",
            "line 3: question 'q': class 'b c': 'id' is 'b c'; expected 1 to 64 of A-Z, a-z, 0-9, _, . and -.",
        ),
        (
            "questions:\n- id: a question\n  text:\n",
            "line 2: question 'a question': 'id' is 'a question'; expected 1 to 64",
        ),
        (
            "questions:\n- id: q\n  text: {max_length: x}\n",
            "line 3: question 'q': 'max_length' is 'x'; expected a whole number.",
        ),
        (
            f"questions:\n- id: q\n  {'k' * 300}: 1\n  text:\n",
            f"line 3: question 'q' has no '{'k' * 79}…'.",
        ),
        ("questions: 5\n", "line 1: 'questions' must be a list"),
    ],
)
def test_a_wrong_schema_names_the_line_and_what_is_wrong(text: str, told: str) -> None:
    with pytest.raises(InputError) as error:
        parse_spec(text, "s.yaml")

    assert "s.yaml" in str(error.value)
    assert told in str(error.value)
    assert not str(error.value).endswith("?.")


def test_a_file_that_is_missing_or_not_text_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no file"):
        load_spec(tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_bytes(b"questions: \xff")
    with pytest.raises(InputError, match="not UTF-8"):
        load_spec(broken)
