"""A leased task as its labeler sees it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cairn.annotation.v1 import annotation_store_pb2 as store
from cairn.dispatch.v1 import task_dispatch_pb2 as dispatch
from cairn.label.v1.label_schema_pb2 import LabelSchema
from cairn.label.v1.label_value_pb2 import Answer
from cairn_client.errors import CairnError
from cairn_client.names import item_key

Answers = Mapping[str, object] | Iterable[Answer]
"""`{question id: value}` (see cairn_client.answers), or messages."""


@dataclass(frozen=True, slots=True)
class Job:
    """A leased task with what is judged: everything that is needed to answer it.

    `item` is None, and `error` says why, when the item may not be seen (the lease has expired, say).
    """

    lease: dispatch.Lease
    schema: LabelSchema
    item: store.Item | None
    error: CairnError | None = None

    @property
    def key(self) -> str:
        """The item's key, as it was given at import."""
        return item_key(self.lease.item)
