"""The rules of the .proto files, checked once at the door (protovalidate), told as BadRequest."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

import protovalidate
from google.protobuf.message import Message

from cairn_kit.errors import InvalidArgument, Violation

_REASON = "INVALID_FIELD"
_bad_elements: ContextVar[Mapping[int, InvalidArgument]] = ContextVar("cairn_bad_elements", default={})  # noqa: B039


def invalid(message: Message, prefix: str = "") -> InvalidArgument | None:
    """What is wrong with a message by its own rules, or None. `prefix` is where it stands (`requests[3]`)."""
    found = protovalidate.collect_violations(message)
    if not found:
        return None
    return _invalid([_violation(violation, prefix) for violation in found])


def bad_elements() -> Mapping[int, InvalidArgument]:
    """The elements of this batch request that are wrong, by index; the handler answers them one by one."""
    return _bad_elements.get()


def check(request: Message, elements: str | None) -> None:
    """Raise InvalidArgument for a wrong request.

    With `elements`, a repeated field, wrong elements do not fail the request: they go to `bad_elements()`.
    """
    found = protovalidate.collect_violations(request)
    violations = [_violation(violation) for violation in found]
    if elements is not None:
        start = f"{elements}["
        violations = [v for v in violations if not v.field.startswith(start)]
        bad = {}
        for index, element in enumerate(getattr(request, elements)):
            wrong = invalid(element, f"{elements}[{index}]")
            if wrong is not None:
                bad[index] = wrong
        _bad_elements.set(bad)
    if violations:
        raise _invalid(violations)


def _invalid(violations: list[Violation]) -> InvalidArgument:
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
