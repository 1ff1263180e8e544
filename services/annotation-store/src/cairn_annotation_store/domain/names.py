"""Resource names (AIP-122), taken apart and put together. The tenant is never part of a name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NewType

Tenant = NewType("Tenant", str)
ProjectId = NewType("ProjectId", str)
ItemKey = NewType("ItemKey", str)
QuestionId = NewType("QuestionId", str)

_SEGMENT = r"[^/]+"
_PROJECT = r"projects/(?P<project>[a-z][a-z0-9-]{0,62})"
_ITEM = re.compile(rf"{_PROJECT}/items/(?P<item>{_SEGMENT})")
_ANNOTATION = re.compile(rf"{_PROJECT}/items/(?P<item>{_SEGMENT})/annotations/(?P<annotation>{_SEGMENT})")
_LABEL = re.compile(
    rf"{_PROJECT}/items/(?P<item>{_SEGMENT})/labels/(?P<question>[^/@]+)(@(?P<revision>[1-9][0-9]{{0,17}}))?"
)
_LEASE = re.compile(rf"{_PROJECT}/tasks/(?P<task>{_SEGMENT})/leases/(?P<lease>{_SEGMENT})")
_CHILD = re.compile(rf"{_PROJECT}/(?P<collection>imports|exports|blobs)/(?P<id>{_SEGMENT})")


class BadName(ValueError):
    """The text is not a name of the expected form."""


@dataclass(frozen=True, slots=True)
class ItemName:
    """`projects/{project}/items/{item}`."""

    project: ProjectId
    item: ItemKey

    @classmethod
    def parse(cls, text: str) -> ItemName:
        """Raises BadName."""
        match = _match(_ITEM, text, "projects/{project}/items/{item}")
        return cls(ProjectId(match["project"]), ItemKey(match["item"]))

    def __str__(self) -> str:
        return f"projects/{self.project}/items/{self.item}"


@dataclass(frozen=True, slots=True)
class AnnotationName:
    """`projects/{project}/items/{item}/annotations/{annotation}`."""

    project: ProjectId
    item: ItemKey
    annotation: str

    @classmethod
    def parse(cls, text: str) -> AnnotationName:
        """Raises BadName."""
        match = _match(_ANNOTATION, text, "projects/{project}/items/{item}/annotations/{annotation}")
        return cls(ProjectId(match["project"]), ItemKey(match["item"]), match["annotation"])


@dataclass(frozen=True, slots=True)
class LabelName:
    """`projects/{project}/items/{item}/labels/{question}`, optionally `@{revision}`."""

    project: ProjectId
    item: ItemKey
    question: QuestionId
    revision: int | None = None

    @classmethod
    def parse(cls, text: str) -> LabelName:
        """Raises BadName."""
        match = _match(_LABEL, text, "projects/{project}/items/{item}/labels/{question}")
        revision = int(match["revision"]) if match["revision"] else None
        return cls(
            ProjectId(match["project"]), ItemKey(match["item"]), QuestionId(match["question"]), revision
        )

    def __str__(self) -> str:
        return f"projects/{self.project}/items/{self.item}/labels/{self.question}"


@dataclass(frozen=True, slots=True)
class LeaseName:
    """`projects/{project}/tasks/{task}/leases/{lease}`."""

    project: ProjectId
    task: str
    lease: str

    @classmethod
    def parse(cls, text: str) -> LeaseName:
        """Raises BadName."""
        match = _match(_LEASE, text, "projects/{project}/tasks/{task}/leases/{lease}")
        return cls(ProjectId(match["project"]), match["task"], match["lease"])

    def __str__(self) -> str:
        return f"projects/{self.project}/tasks/{self.task}/leases/{self.lease}"


def project_id(name: str) -> ProjectId:
    """The id in `projects/{project}`. Raises BadName."""
    return ProjectId(_match(re.compile(_PROJECT), name, "projects/{project}")["project"])


def child_id(name: str, collection: str) -> tuple[ProjectId, str]:
    """The ids in `projects/{project}/{collection}/{id}`. Raises BadName."""
    form = f"projects/{{project}}/{collection}/{{id}}"
    match = _match(_CHILD, name, form)
    if match["collection"] != collection:
        raise BadName(f"{name!r} is not of the form {form}.")
    return ProjectId(match["project"]), match["id"]


def _match(pattern: re.Pattern[str], text: str, form: str) -> re.Match[str]:
    match = pattern.fullmatch(text)
    if match is None:
        raise BadName(f"{text[:300]!r} is not of the form {form}.")
    return match
