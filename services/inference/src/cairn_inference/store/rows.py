"""What the parts of the store share: who may read, and items as keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cairn_inference.records import ItemRef
from cairn_kit.database import Database, Transaction

Reader = Database | Transaction
"""Reads alone may go outside a transaction."""


def item_ref(row: Any) -> ItemRef:
    """The item of a row."""
    return ItemRef(row["tenant"], row["project"], row["item"])


def item_columns(refs: Sequence[ItemRef]) -> tuple[list[str], list[str], list[str]]:
    """Items as the columns that `unnest` wants."""
    return [ref.tenant for ref in refs], [ref.project for ref in refs], [ref.key for ref in refs]
