"""What every handler says when something is not there, or a name is not one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar
from uuid import UUID

from cairn_annotation_store.domain.labels import Source
from cairn_annotation_store.domain.names import BadName
from cairn_annotation_store.store import ProjectRow
from cairn_annotation_store.wire import etag
from cairn_kit.auth import Caller, Permission
from cairn_kit.errors import Aborted, FailedPrecondition, InvalidArgument, NotFound, Violation

T = TypeVar("T")


def parsed(parse: Callable[[str], T], text: str, field: str) -> T:
    """A resource name taken apart; raises InvalidArgument NAME_INVALID."""
    try:
        return parse(text)
    except BadName as error:
        raise InvalidArgument("NAME_INVALID", str(error), violations=[Violation(field, str(error))]) from None


def found(thing: T | None, noun: str, name: str) -> T:
    """The thing; raises NotFound <NOUN>_NOT_FOUND when there is none."""
    if thing is None:
        raise NotFound(f"{noun.upper()}_NOT_FOUND", f"There is no {name}.", resource=name)
    return thing


def active(project: ProjectRow | None, name: str) -> ProjectRow:
    """A project that takes new work; raises NotFound, or FailedPrecondition PROJECT_ARCHIVED."""
    row = found(project, "project", name)
    if row.archived:
        raise FailedPrecondition(
            "PROJECT_ARCHIVED", f"{name} is archived and takes nothing new.", resource=name
        )
    return row


def check_etag(given: str, row: ProjectRow) -> None:
    """Raises Aborted ETAG_MISMATCH unless the caller has seen this revision, or does not care."""
    if given and given != etag(row.revision):
        name = f"projects/{row.project}"
        raise Aborted("ETAG_MISMATCH", f"{name} has changed since it was read; read it again.", resource=name)


def hidden_source(who: Caller) -> int:
    """The source whose labels are not there for this caller: gold, for whoever may be measured by it. 0 hides none."""
    return 0 if who.may(Permission.READ_GOLD) else Source.GOLD


def as_uuid(text: str, noun: str, name: str) -> UUID:
    """An id that we gave; anything else names nothing."""
    try:
        return UUID(text)
    except ValueError:
        raise NotFound(f"{noun.upper()}_NOT_FOUND", f"There is no {name}.", resource=name) from None
