"""Messages as JSON text, field names as in the .proto: as `json_format.MessageToJson` writes them, in a fifth of its time.

Protobuf's own printer finds out what a field is each time it meets one, and makes objects that are then encoded. Here a
type is looked at once, and a function is made for it that says straight what to write, as `dataclasses` does:

    def write(message):
        text = ""
        value = message.labeler
        if value:
            text += ',"labeler":' + quoted(value)
        ...
        return "{" + text[1:] + "}"

Messages whose JSON has a form of its own (google.protobuf) are left to protobuf.
"""

from __future__ import annotations

import json
import math
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from json.encoder import encode_basestring
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

Writer = Callable[[Any], str]
"""Writes one value as JSON."""

_INT64 = {
    FieldDescriptor.TYPE_INT64,
    FieldDescriptor.TYPE_UINT64,
    FieldDescriptor.TYPE_SINT64,
    FieldDescriptor.TYPE_FIXED64,
    FieldDescriptor.TYPE_SFIXED64,
}
"""Written as text: a JSON reader's numbers are doubles (ProtoJSON)."""

quoted: Callable[[str], str] = encode_basestring
"""A text as JSON, in UTF-8."""

_writers: dict[Any, Writer] = {}
"""By the descriptor of a message type."""


def json_of(message: Message) -> str:
    """The message as a JSON object of what is set in it."""
    return _writer_of(message.DESCRIPTOR)(message)


def list_of(values: Iterable[Any], one: Writer) -> str:
    """The values as a JSON list."""
    return f"[{','.join([one(value) for value in values])}]"


def number(value: float) -> str:
    """A double as JSON; what is no number, as text (ProtoJSON)."""
    if math.isfinite(value):
        return repr(value)
    return '"NaN"' if math.isnan(value) else '"Infinity"' if value > 0 else '"-Infinity"'


def _writer_of(kind: Any) -> Writer:
    """Writes messages of a type."""
    if kind.file.package == "google.protobuf":
        return _by_protobuf
    writer = _writers.get(kind)
    if writer is None:

        def made_by_then(message: Message) -> str:
            return _writers[kind](message)

        _writers[kind] = made_by_then  # for a type that holds itself
        writer = _writers[kind] = _made(kind)
    return writer


def _made(kind: Any) -> Writer:
    fields = sorted(kind.fields, key=lambda field: field.number)  # the order of ListFields
    known: dict[str, Any] = {"quoted": quoted}
    lines = ["def write(message):", "    text = ''"]
    lines += [f"    set_in_{oneof.name} = message.WhichOneof({oneof.name!r})" for oneof in kind.oneofs]
    for field in fields:
        known[f"write_{field.name}"] = _value_writer(field)
        written = "quoted(value)" if _is_plain_text(field) else f"write_{field.name}(value)"
        lines += [
            f"    value = getattr(message, {field.name!r})" if not field.has_presence else "",
            f"    if {_is_set(field)}:",
            f"        value = getattr(message, {field.name!r})" if field.has_presence else "",
            f"        text += {',' + quoted(field.name) + ':'!r} + {written}",
        ]
    lines.append("    return '{' + text[1:] + '}'")
    exec("\n".join(lines), known)  # noqa: S102 - made of names in our own .proto files, and of nothing from outside
    made: Writer = known["write"]
    return made


def _is_set(field: Any) -> str:
    """The condition under which ListFields would list the field."""
    if field.containing_oneof is not None:
        return f"set_in_{field.containing_oneof.name} == {field.name!r}"
    if field.has_presence:
        return f"message.HasField({field.name!r})"
    if field.type == FieldDescriptor.TYPE_DOUBLE and not field.is_repeated:
        return "value or repr(value) == '-0.0'"
    return "value"


def _is_plain_text(field: Any) -> bool:
    return bool(field.type == FieldDescriptor.TYPE_STRING) and not field.is_repeated


def _value_writer(field: Any) -> Writer:
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        return _map_writer(_one_writer(kind.fields_by_name["value"]))
    one = _one_writer(field)
    if not field.is_repeated:
        return one
    return _numbers if one is number else lambda values: list_of(values, one)


def _map_writer(one: Writer) -> Writer:
    def write(entries: Mapping[Any, Any]) -> str:
        members = [f"{quoted(_key(key))}:{one(value)}" for key, value in entries.items()]
        return f"{{{','.join(members)}}}"

    return write


def _one_writer(field: Any) -> Writer:
    """Writes one value of the field."""
    if field.message_type is not None:
        return _writer_of(field.message_type)
    if field.enum_type is not None:
        return _enum_writer(field.enum_type)
    if field.type == FieldDescriptor.TYPE_STRING:
        return quoted
    if field.type == FieldDescriptor.TYPE_BYTES:
        return lambda value: f'"{b64encode(value).decode()}"'
    if field.type == FieldDescriptor.TYPE_BOOL:
        return lambda value: "true" if value else "false"
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        return number
    if field.type == FieldDescriptor.TYPE_FLOAT:
        raise TypeError(
            f"{field.full_name}: a float is written by its shortest digits; the contract has doubles"
        )
    return (lambda value: f'"{value}"') if field.type in _INT64 else str


def _enum_writer(kind: Any) -> Writer:
    names = {value.number: quoted(value.name) for value in kind.values}
    return lambda value: names.get(value) or str(value)


def _numbers(values: Iterable[float]) -> str:
    """Hundreds of coordinates at once: the C encoder is faster than a call for each."""
    try:
        return json.dumps(list(values), separators=(",", ":"), allow_nan=False)
    except ValueError:
        return list_of(values, number)


def _key(key: str | int | bool) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)


def _by_protobuf(message: Message) -> str:
    return json_format.MessageToJson(
        message, preserving_proto_field_name=True, indent=None, ensure_ascii=False
    )
