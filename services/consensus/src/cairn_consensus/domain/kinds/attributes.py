"""Further facts about objects, between the contract's messages and what truth votes on."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from cairn.label.v1.label_schema_pb2 import Attribute, LabelClass
from cairn.label.v1.label_value_pb2 import AttributeValue
from cairn_truth.shapes.attributes import Attributes, joined_attributes

Rules = Mapping[str, Mapping[str, Attribute]]
"""Each class's attributes, by id."""


class Others:
    """The attributes of objects of one class, looked through where one is missing, and once for each attribute."""

    def __init__(self, said: Sequence[Attributes]) -> None:
        self._said = said
        self._usual: dict[str, Attributes] = {}

    def usual(self, name: str, rule: Attribute) -> Attributes:
        """What most of them have of an attribute; nothing where none has it."""
        if name not in self._usual:
            had = [
                tuple(pair for pair in one if pair[0] == name and _fits(pair[1], rule)) for one in self._said
            ]
            had = [one for one in had if one]
            self._usual[name] = joined_attributes(had, np.ones(len(had))) if had else ()
        return self._usual[name]


def rules_of(classes: Iterable[LabelClass]) -> Rules:
    """The attributes of each class."""
    return {one.id: {attribute.id: attribute for attribute in one.attributes} for one in classes}


def read_attributes(values: Iterable[AttributeValue]) -> Attributes:
    """What truth takes attributes for: options and texts are strings."""
    return tuple((one.attribute, getattr(one, one.WhichOneof("value") or "text")) for one in values)


def written_attributes(
    joined: Attributes,
    rules: Mapping[str, Attribute],
    others: Others | None = None,
    elsewhere: Collection[str] = (),
) -> list[AttributeValue]:
    """Those attributes that an object of a class may have, and must.

    They were voted on by all who marked the object, some of whom may have seen another class. A required one that is
    missing then is what most of ``others``, objects of the class, have; those in ``elsewhere`` are said elsewhere.
    """
    stated = {name: value for name, value in joined if name in rules and _fits(value, rules[name])}
    for name, rule in rules.items():
        if others is not None and rule.required and name not in stated and name not in elsewhere:
            stated |= dict(others.usual(name, rule))
    return [
        AttributeValue(attribute=name, **{_FIELD[rules[name].WhichOneof("kind") or "text"]: stated[name]})  # type: ignore[arg-type]
        for name in rules
        if name in stated
    ]


def as_strings(attributes: Attributes) -> tuple[tuple[str, str], ...]:
    """Attributes for kinds whose attributes are strings in truth."""
    return tuple((name, _string(value)) for name, value in attributes)


def of_strings(attributes: Iterable[tuple[str, str]], rules: Mapping[str, Attribute]) -> Attributes:
    """Attributes from strings; the class's rules say what they were."""
    return tuple((name, _value(text, rules[name])) for name, text in attributes if name in rules)


_FIELD = {"options": "option", "number": "number", "text": "text", "flag": "flag"}
"""The field of a value of each kind of attribute."""


def _fits(value: Any, rule: Attribute) -> bool:
    match rule.WhichOneof("kind"):
        case "options":
            return value in rule.options.values
        case "number":
            return isinstance(value, float) and math.isfinite(value)
        case "flag":
            return isinstance(value, bool)
        case _:
            return isinstance(value, str)


def _string(value: str | float | bool) -> str:
    return value if isinstance(value, str) else repr(value)


def _value(text: str, rule: Attribute) -> str | float | bool:
    match rule.WhichOneof("kind"):
        case "number":
            return float(text)
        case "flag":
            return text == repr(True)
        case _:
            return text
