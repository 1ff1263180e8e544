"""Settings in a schema file against the contract: names, kinds of value and sizes, said as the file has them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

from buf.validate import validate_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from cairn.label.v1.label_schema_pb2 import LabelClass, Question
from cairn_client.located import Document, Path_
from cairn_client.words import quoted, shortened

_IN_WORDS = {
    "^[A-Za-z0-9_.-]{1,64}$": "1 to 64 of A-Z, a-z, 0-9, _, . and -",
    "^(#[0-9a-fA-F]{6})?$": "a colour such as '#ff8800'",
}
_FIELD = FieldDescriptor
_WHOLE = (_FIELD.CPPTYPE_INT32, _FIELD.CPPTYPE_INT64, _FIELD.CPPTYPE_UINT32, _FIELD.CPPTYPE_UINT64)
_FRACTION = (_FIELD.CPPTYPE_DOUBLE, _FIELD.CPPTYPE_FLOAT)


def check_settings(
    document: Document, path: Path_, told: dict[str, Any], message: Descriptor, of: str = ""
) -> None:
    """Raise InputError for the first setting that `message` does not have or that cannot be its value.

    `of` begins the sentence: the question or class that the settings are of.
    """
    if message.full_name == Question.DESCRIPTOR.full_name:
        of = f"question {quoted(str(told.get('id', '')))}: "
    elif message.full_name == LabelClass.DESCRIPTOR.full_name:
        of = f"{of}class {quoted(str(told.get('id', '')))}: "
    names = {name: field for field in message.fields for name in (field.name, field.json_name)}
    for name, value in told.items():
        if name not in names:
            near = meant(name, [field.name for field in message.fields])
            raise document.error((*path, name), f"{of}there is no setting {quoted(name)}{near}")
        if value is not None:
            _check_value(document, (*path, name), value, names[name], of)
    for field in message.fields:
        if field.is_repeated and told.get(field.name) is None and told.get(field.json_name) is None:
            _check_size(document, path, field.name, [], field, of)


def meant(word: str, known: Iterable[str]) -> str:
    """The end of the sentence that a word is unknown."""
    near = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {near[0]!r}?" if near else "."


def _check_value(document: Document, path: Path_, value: Any, field: FieldDescriptor, of: str) -> None:
    name = str(path[-1])
    message = field.message_type
    if message is not None and (
        message.GetOptions().map_entry or message.full_name.startswith("google.protobuf.")
    ):
        return
    if not field.is_repeated:
        _check_one(document, path, name, value, field, of)
        return
    if not isinstance(value, list):
        raise document.error(path, f"{of}{name!r} is {_shown(value)}; expected a list.")
    _check_size(document, path, name, value, field, of)
    for place, one in enumerate(value):
        _check_one(document, (*path, place), f"{name} {place + 1}", one, field, of)


def _check_size(
    document: Document, path: Path_, name: str, value: list[Any], field: FieldDescriptor, of: str
) -> None:
    rules = field.GetOptions().Extensions[validate_pb2.field].repeated
    if len(value) < rules.min_items:
        found = "is 1" if len(value) == 1 else f"are {len(value) or 'none'}"
        raise document.error(path, f"{of}there must be at least {rules.min_items} {name}, but there {found}.")
    if rules.HasField("max_items") and len(value) > rules.max_items:
        raise document.error(path, f"{of}{name!r} has {len(value):,}; expected at most {rules.max_items:,}.")


def _check_one(
    document: Document, path: Path_, name: str, value: Any, field: FieldDescriptor, of: str
) -> None:
    if field.message_type is not None:
        if not isinstance(value, dict):
            raise document.error(path, f"{of}{name!r} is {_shown(value)}; expected settings with names.")
        check_settings(document, path, value, field.message_type, of)
        return
    expected = _expected(value, field)
    if expected:
        raise document.error(path, f"{of}{name!r} is {_shown(value)}; expected {expected}.")


def _expected(value: Any, field: FieldDescriptor) -> str:
    """What the value should be, when it is not that."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    kind = field.cpp_type
    if kind in _WHOLE:
        whole = (number and float(value).is_integer()) or (
            isinstance(value, str) and value.lstrip("-").isdecimal()
        )
        return "" if whole else "a whole number"
    if kind in _FRACTION:
        return "" if number or (isinstance(value, str) and _is_number(value)) else "a number"
    if kind == _FIELD.CPPTYPE_BOOL:
        return "" if isinstance(value, bool) else "true or false"
    if kind == _FIELD.CPPTYPE_STRING and field.type == _FIELD.TYPE_STRING:
        return _expected_text(value, field)
    return ""  # enums and bytes: the parser's to say


def _expected_text(value: Any, field: FieldDescriptor) -> str:
    if not isinstance(value, str):
        return "text, in quotes"
    rules = field.GetOptions().Extensions[validate_pb2.field].string
    if rules.pattern and value and not re.fullmatch(rules.pattern, value):
        return _IN_WORDS.get(rules.pattern, f"what matches {rules.pattern}")
    if rules.HasField("max_len") and len(value) > rules.max_len:
        return f"at most {rules.max_len:,} characters, not {len(value):,}"
    return ""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _shown(value: Any) -> str:
    return quoted(value) if isinstance(value, str) else shortened(repr(value))
