"""Label schemas from files: a short form that is quick to write, and the contract's own JSON.

The short form (YAML):

    display_name: Film reviews
    questions:
      - id: sentiment
        title: Is the sentence positive?
        choice: [negative, positive]
      - id: stars
        rating: 1..5
      - id: why
        text: {max_length: 200}
        required: false
        when: {sentiment: negative}
    quality: {min_answers: 2, max_answers: 7, target_confidence: 0.95}
    routing: {enabled: true, alpha: 0.05}

A question is required unless it says `required: false`. Wherever the short form has a list of class ids,
the full form
of the contract (`classes: [{id: ..., title: ...}]`) is good too. A `.json` file is the contract's JSON of
a `Project` or
`LabelSchema` message, taken word for word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from cairn.annotation.v1.annotation_store_pb2 import Project, QualityPolicy, RoutingPolicy
from cairn.label.v1.label_schema_pb2 import LabelClass, LabelSchema, Question
from cairn_client.located import Document, Path_, parse_document, read_document
from cairn_client.settings import check_settings, meant
from cairn_client.words import quoted, shortened

M = TypeVar("M", bound=Message)

KINDS = tuple(member.name for member in Question.DESCRIPTOR.oneofs_by_name["kind"].fields)
_WITH_CLASSES = frozenset(
    name
    for name in KINDS
    if (settings := Question.DESCRIPTOR.fields_by_name[name].message_type) is not None
    and "classes" in settings.fields_by_name
)
_PLAIN = ("id", "title", "instructions", "required", "quality")
_OF_PROJECT = ("display_name", "questions", "quality", "routing")


@dataclass(frozen=True, slots=True)
class ProjectSpec:
    """What a schema file says about a project to create."""

    schema: LabelSchema
    quality: QualityPolicy = field(default_factory=QualityPolicy)
    routing: RoutingPolicy = field(default_factory=RoutingPolicy)
    display_name: str = ""

    def project(self) -> Project:
        """The message for CreateProject."""
        return Project(
            display_name=self.display_name, schema=self.schema, quality=self.quality, routing=self.routing
        )


def load_spec(file: Path | str) -> ProjectSpec:
    """Read a project's questions and policies from a YAML or JSON file.

    Raises InputError that names file, line and field.
    """
    document = read_document(file)
    return _exact(document) if str(file).endswith(".json") else _friendly(document)


def parse_spec(text: str, source: str = "schema") -> ProjectSpec:
    """The same from YAML text in hand."""
    return _friendly(parse_document(text, source))


def spec_from(value: ProjectSpec | LabelSchema | Mapping[str, Any] | str | Path) -> ProjectSpec:
    """A ProjectSpec from what a caller has: the spec, the questions alone, a file, or the short form as a
    dict."""
    if isinstance(value, ProjectSpec):
        return value
    if isinstance(value, LabelSchema):
        return ProjectSpec(value)
    if isinstance(value, str | Path):
        return load_spec(value)
    return _friendly(Document("the schema", dict(value), {}, {}))


def _exact(document: Document) -> ProjectSpec:
    told = document.value
    if not isinstance(told, dict):
        raise document.error((), "a schema must be an object with 'questions', or a project with 'schema'.")
    if "schema" in told:
        project = _parse(document, (), told, Project())
        return ProjectSpec(project.schema, project.quality, project.routing, project.display_name)
    return ProjectSpec(_parse(document, (), told, LabelSchema()))


def _friendly(document: Document) -> ProjectSpec:
    told = document.value
    if not isinstance(told, dict) or "questions" not in told:
        raise document.error((), "a schema must say 'questions:' followed by a list of them.")
    for key in told:
        if key not in _OF_PROJECT:
            raise document.error((key,), f"there is no setting {quoted(str(key))}{meant(key, _OF_PROJECT)}")
    questions = told["questions"]
    if not isinstance(questions, list) or not questions:
        raise document.error(("questions",), "'questions' must be a list of at least one question.")
    schema = LabelSchema(
        questions=[_question(document, ("questions", place), one) for place, one in enumerate(questions)]
    )
    ids = [question.id for question in schema.questions]
    for place, ident in enumerate(ids):
        if ident in ids[:place]:
            raise document.error(("questions", place), f"two questions have the id {quoted(ident)}.")
    return ProjectSpec(
        schema,
        _parse(document, ("quality",), _with_durations(told.get("quality")), QualityPolicy()),
        _parse(document, ("routing",), told.get("routing") or {}, RoutingPolicy()),
        str(told.get("display_name") or ""),
    )


def _question(document: Document, path: Path_, told: Any) -> Question:
    if not isinstance(told, dict):
        raise document.error(path, "a question must be written as 'id: ...' with its kind below it.")
    if "id" not in told:
        raise document.error(path, "this question has no 'id'.")
    ident = document.text((*path, "id"), told["id"])
    kinds = [key for key in told if key in KINDS]
    known = (*_PLAIN, "when", "condition", *KINDS)
    for key in told:
        if key not in known:
            raise document.error(
                (*path, key), f"question {quoted(ident)} has no {quoted(str(key))}{meant(key, known)}"
            )
    if len(kinds) != 1:
        found = "none" if not kinds else " and ".join(map(repr, kinds))
        raise document.error(
            path,
            f"question {quoted(ident)} must have exactly one kind, such as 'choice' or 'text', but has {found}.",
        )
    exact: dict[str, Any] = {key: told[key] for key in _PLAIN if key in told}
    exact["id"] = ident
    exact.setdefault("required", True)
    condition = _condition(document, path, told)
    if condition is not None:
        exact["condition"] = condition
    kind = kinds[0]
    exact[kind] = _kind(document, (*path, kind), kind, told[kind], ident)
    return _parse(document, path, exact, Question())


def _kind(document: Document, path: Path_, kind: str, told: Any, ident: str) -> dict[str, Any]:
    """The settings of a question's kind, in the contract's form."""
    if kind in _WITH_CLASSES and isinstance(told, list):
        told = {"classes": told}
        # The contract's form has one step more to each class; its line is the same.
        short, n = dict(document.lines), len(path)
        document.lines.update({(*path, "classes", *at[n:]): short[at] for at in short if at[:n] == path})
        entries: Path_ = path
    else:
        entries = (*path, "classes")
    if kind == "rating" and not isinstance(told, dict):
        low, dots, high = document.text(path, told).partition("..")
        if not dots or not low.strip().lstrip("-").isdigit() or not high.strip().lstrip("-").isdigit():
            raise document.error(path, f"question {quoted(ident)}: write a rating as '1..5'.")
        return {"minimum": int(low), "maximum": int(high)}
    if told is None:
        told = {}
    if not isinstance(told, dict):
        shape = "a list of classes" if kind in _WITH_CLASSES else "its settings"
        raise document.error(path, f"question {quoted(ident)}: {kind!r} must be followed by {shape}.")
    if kind in _WITH_CLASSES and "classes" in told:
        if not isinstance(told["classes"], list):
            raise document.error(entries, f"question {quoted(ident)}: the classes must be a list.")
        classes = [_class(document, (*entries, n), one, ident) for n, one in enumerate(told["classes"])]
        seen: set[str] = set()
        for place, one in enumerate(classes):
            if one["id"] in seen:
                raise document.error(
                    (*entries, place), f"question {quoted(ident)} has the class {quoted(one['id'])} twice."
                )
            seen.add(one["id"])
        return {**told, "classes": classes}
    return dict(told)


def _class(document: Document, path: Path_, told: Any, question: str) -> dict[str, Any]:
    if isinstance(told, dict | list):
        if "id" not in told or isinstance(told, list):
            which = f"question {quoted(question)}: class {int(path[-1]) + 1}, {shortened(repr(told))},"
            raise document.error(path, f"{which} has no 'id'; write a class as its id, or as {{id: ...}}.")
        return {**told, "id": document.text((*path, "id"), told["id"])}
    ident = document.text(path, told)
    return {"id": ident}


def _condition(document: Document, path: Path_, told: dict[str, Any]) -> dict[str, Any] | None:
    if "condition" in told:
        condition: dict[str, Any] = told["condition"]
        return condition
    if "when" not in told:
        return None
    when = told["when"]
    if not isinstance(when, dict) or len(when) != 1:
        raise document.error(
            (*path, "when"), "'when' must name one earlier question and its answers: {sentiment: [negative]}."
        )
    [(question, answers)] = when.items()
    at: Path_ = (*path, "when", question)
    if isinstance(answers, list):
        return {
            "question": question,
            "any_of": [document.text((*at, n), one) for n, one in enumerate(answers)],
        }
    return {"question": question, "any_of": [document.text(at, answers)]}


def _with_durations(told: Any) -> Any:
    """`lease_duration: 10m` as the contract's JSON has it: seconds with an s."""
    if not isinstance(told, dict) or "lease_duration" not in told:
        return told or {}
    text = str(told["lease_duration"]).strip()
    unit = {"s": 1, "m": 60, "h": 3600}.get(text[-1:], 0)
    if unit:
        number = text[:-1]
        return {**told, "lease_duration": f"{float(number) * unit:g}s"} if _is_number(number) else told
    return {**told, "lease_duration": f"{text}s"}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _parse(document: Document, path: Path_, told: Any, into: M) -> M:
    if not isinstance(told, dict):
        raise document.error(path, f"{path[-1] if path else 'this'} must be settings with names.")
    check_settings(document, path, told, cast(Descriptor, into.DESCRIPTOR))
    for name, value in told.items():
        try:
            json_format.ParseDict({name: value}, into)
        except json_format.ParseError as error:
            raise document.error((*path, name), f"{name!r} is not as it should be: {_plain(error)}") from None
    return into


def _plain(error: Exception) -> str:
    return str(error).rstrip(".") + "."


def classes_of(question: Question) -> list[LabelClass]:
    """The classes of a question, in order; none for questions without classes."""
    kind = question.WhichOneof("kind")
    return list(getattr(question, kind).classes) if kind in _WITH_CLASSES else []
