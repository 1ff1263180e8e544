"""The rules of the .proto files, checked once at the door (protovalidate), told as BadRequest.

And one rule of the database for all of them: no text holds NUL, which PostgreSQL cannot keep. Bytes may.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from functools import cache
from typing import Any, NamedTuple

import protovalidate
from buf.validate import validate_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from cairn_kit.errors import InvalidArgument, Violation

_REASON = "INVALID_FIELD"
_NO_NUL = "must not hold a NUL character"
_bad_elements: ContextVar[Mapping[int, InvalidArgument]] = ContextVar("cairn_bad_elements", default={})  # noqa: B039


def invalid(message: Message, prefix: str = "") -> InvalidArgument | None:
    """What is wrong with a message by its own rules, or None. `prefix` is where it stands (`requests[3]`)."""
    found = [_violation(violation, prefix) for violation in protovalidate.collect_violations(message)]
    found += [Violation(place, _NO_NUL) for place in texts_with_nul(message, prefix)]
    return _invalid(found) if found else None


def texts_with_nul(message: Message, prefix: str = "") -> list[str]:
    """The fields whose text holds NUL, named as protovalidate names them.

    Items that the .proto has protovalidate ignore (`repeated.items.ignore`) are for whoever takes them one by one.
    """
    # To encode a message again costs a twentieth of its validation, to walk through it may cost twice as much: that
    # is for those with a zero byte in them, which is hardly ever text but a coordinate (75 boxes, 4 KB: 0.4 ms).
    return list(_within(message, prefix)) if b"\0" in message.SerializeToString() else []


def bad_elements() -> Mapping[int, InvalidArgument]:
    """The elements of this batch request that are wrong, by index; the handler answers them one by one."""
    return _bad_elements.get()


class Verdict(NamedTuple):
    """What is wrong with a request."""

    wrong: InvalidArgument | None
    """With all of it, or None."""
    bad: Mapping[int, InvalidArgument] | None
    """With some of its elements, where these are answered one by one."""


def abide(verdict: Verdict) -> None:
    """Raise what is wrong with the request of this call; what is with its elements goes to `bad_elements()`."""
    if verdict.bad is not None:
        _bad_elements.set(verdict.bad)
    if verdict.wrong is not None:
        raise verdict.wrong


def examined(request: Message, elements: str | None) -> Verdict:
    """What is wrong with a request; that of its repeated field `elements`, if one is named, apart."""
    wrong = invalid(request)
    violations = wrong.violations if wrong is not None else ()
    bad: dict[int, InvalidArgument] | None = None
    if elements is not None:
        start = f"{elements}["
        violations = tuple(v for v in violations if not v.field.startswith(start))
        bad = {}
        for index, element in enumerate(getattr(request, elements)):
            wrong = invalid(element, f"{elements}[{index}]")
            if wrong is not None:
                bad[index] = wrong
    return Verdict(_invalid(violations) if violations else None, bad)


def _within(message: Message, prefix: str) -> Iterator[str]:
    for name, places in _textual(message.DESCRIPTOR):
        yield from places(message, name, f"{prefix}.{name}" if prefix else name)


def _in_text(message: Message, name: str, place: str) -> Iterator[str]:
    if "\0" in getattr(message, name):
        yield place


def _in_texts(message: Message, name: str, place: str) -> Iterator[str]:
    return (f"{place}[{index}]" for index, text in enumerate(getattr(message, name)) if "\0" in text)


def _in_message(message: Message, name: str, place: str) -> Iterator[str]:
    if message.HasField(name):
        yield from _within(getattr(message, name), place)


def _in_messages(message: Message, name: str, place: str) -> Iterator[str]:
    for index, inner in enumerate(getattr(message, name)):
        yield from _within(inner, f"{place}[{index}]")


def _in_map(message: Message, name: str, place: str) -> Iterator[str]:
    for key, inner in getattr(message, name).items():
        there = f"{place}[{key}]".replace("\0", "\\0")
        if "\0" in str(key) or (isinstance(inner, str) and "\0" in inner):
            yield there
        elif isinstance(inner, Message):
            yield from _within(inner, there)


_Places = Callable[[Message, str, str], Iterator[str]]


@cache
def _textual(kind: Descriptor) -> Sequence[tuple[str, _Places]]:
    """The fields of a message with text in them or below, and how to look through each: a polygon's hundred points are
    not worth a look."""
    return [(field.name, _looker(field)) for field in kind.fields if _holds_text(field, {kind.full_name})]


def _looker(field: FieldDescriptor) -> _Places:
    if field.message_type is None:
        return _in_texts if field.is_repeated else _in_text
    if field.message_type.GetOptions().map_entry:
        return _in_map
    return _in_messages if field.is_repeated else _in_message


def _holds_text(field: FieldDescriptor, above: set[str]) -> bool:
    if field.GetOptions().Extensions[validate_pb2.field].repeated.items.ignore == validate_pb2.IGNORE_ALWAYS:
        return False
    kind = field.message_type
    if kind is None:
        return bool(field.type == FieldDescriptor.TYPE_STRING)
    if kind.full_name in above:
        return True  # a message within itself: not known yet, so look
    return any(_holds_text(inner, above | {kind.full_name}) for inner in kind.fields)


def _invalid(violations: Sequence[Violation]) -> InvalidArgument:
    first = violations[0]
    more = f" ({len(violations) - 1} more)" if len(violations) > 1 else ""
    where = f"{first.field}: " if first.field else ""
    return InvalidArgument(_REASON, f"{where}{first.description}{more}", violations=violations)


def _violation(violation: protovalidate.Violation, prefix: str = "") -> Violation:
    # The violation is a message of another protobuf runtime: read it, never hand it on.
    proto = violation.proto
    path = _path(proto.field)
    field = f"{prefix}.{path}" if prefix and path else prefix or path
    return Violation(field, proto.message or proto.rule_id or "is not valid")


def _path(path: Any) -> str:
    if path is None:
        return ""
    text = ""
    for element in path.elements:
        text += ("." if text else "") + element.field_name
        subscript = element.subscript
        if subscript is not None:
            text += f"[{subscript.value}]"
    return text
