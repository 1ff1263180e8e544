"""Further facts about objects, between the contract's messages and what truth votes on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from cairn.label.v1.label_schema_pb2 import Attribute, LabelClass
from cairn.label.v1.label_value_pb2 import AttributeValue
from cairn_truth.shapes.attributes import Attributes, joined_attributes

Rules = Mapping[str, Mapping[str, Attribute]]
"""Each class's attributes, by id."""


def rules_of(classes: Iterable[LabelClass]) -> Rules:
    """The attributes of each class."""
    return {one.id: {attribute.id: attribute for attribute in one.attributes} for one in classes}


def read_attributes(values: Iterable[AttributeValue]) -> Attributes:
    """What truth takes attributes for: options and texts are strings."""
    return tuple((one.attribute, getattr(one, one.WhichOneof("value") or "text")) for one in values)


def written_attributes(
    joined: Attributes,
    rules: Mapping[str, Attribute],
    others: Sequence[Attributes] = (),
    elsewhere: Iterable[str] = (),
) -> list[AttributeValue]:
    """Those attributes that an object of a class may have, and must.

    They were voted on by all who marked the object, some of whom may have seen another class. A required one that is
    missing then is what most of ``others``, objects of the class, have; those in ``elsewhere`` are said elsewhere.
    """
    stated = {name: value for name, value in joined if name in rules and _fits(value, rules[name])}
    for name, rule in rules.items():
        if rule.required and name not in stated and name not in set(elsewhere):
            had = [tuple(pair for pair in one if pair[0] == name and _fits(pair[1], rule)) for one in others]
            had = [one for one in had if one]
            stated |= dict(joined_attributes(had, np.ones(len(had)))) if had else {}
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
