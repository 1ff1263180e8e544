"""Items as callers have them: dataclasses, dicts, pairs, rows of a table."""

from __future__ import annotations

import math
import mimetypes
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cairn.annotation.v1.annotation_store_pb2 import Item
from cairn_client.errors import InputError
from cairn_client.pictures import check_picture
from cairn_client.words import quoted, shortened

KEY_COLUMNS = ("key", "item", "id")
_KNOWN = frozenset(
    {*KEY_COLUMNS, "text", "path", "data", "media_type", "metadata", "gold", "candidates", "priority"}
)

_NESTED = ("metadata", "gold", "candidates")


@dataclass(frozen=True, slots=True)
class NewItem:
    """An item to import.

    Its content is one of `text`, `path` (a file to upload), `data` (bytes to upload), or none when
    `candidates`
    (`{id: text}`) are what is judged. `key` may be any text. `gold` is the truth, `{question id: value}`.
    """

    key: str
    text: str | None = None
    path: Path | None = None
    data: bytes | None = None
    media_type: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    gold: Mapping[str, object] = field(default_factory=dict)
    candidates: Mapping[str, str] = field(default_factory=dict)
    priority: float = 0.0

    @property
    def has_blob(self) -> bool:
        """Whether something must be uploaded before the item can be sent."""
        return self.path is not None or self.data is not None

    def content(self) -> tuple[bytes, str]:
        """The bytes to upload and their media type. Raises InputError when the file cannot be read, or is
        no picture though its name says so."""
        media_type = self.media_type
        if self.data is not None:
            return self.data, media_type or "application/octet-stream"
        if self.path is None:
            raise InputError(f"The item {quoted(self.key)} has neither a file nor bytes to upload.")
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise InputError(f"{self.path} cannot be read: {error.strerror}.") from None
        check_picture(self.path, data)
        return data, media_type or media_type_of(self.path)


def media_type_of(path: Path) -> str:
    """The media type that a file's name suggests."""
    return mimetypes.guess_type(path.name)[0] or "application/octet-stream"


ItemLike = NewItem | Item | Mapping[str, Any] | tuple[str, str]


def records_of(items: object) -> Iterator[ItemLike]:
    """The items of an iterable, a pandas DataFrame or an Arrow table."""
    if hasattr(items, "to_batches"):  # pyarrow.Table
        for batch in items.to_batches():
            yield from batch.to_pylist()
    elif hasattr(items, "to_dict") and hasattr(items, "columns"):  # pandas.DataFrame
        for row in items.to_dict("records"):
            yield {name: value for name, value in row.items() if not _is_nan(value)}
    elif isinstance(items, Mapping):
        yield from items.items()
    elif isinstance(items, Iterable):
        yield from items
    else:
        raise InputError(
            f"Items must come as an iterable, a DataFrame or an Arrow table, not {type(items).__name__}."
        )


def new_item(record: ItemLike) -> NewItem | Item:
    """One record as an item. Columns of a dict that are not known become metadata. Raises InputError."""
    if isinstance(record, NewItem | Item):
        return record
    if isinstance(record, tuple):
        if len(record) != 2:
            raise InputError(f"An item given as a tuple must be (key, text), not {shortened(repr(record))}.")
        return NewItem(str(record[0]), text=str(record[1]))
    if not isinstance(record, Mapping):
        raise InputError(f"{shortened(repr(record))} is not an item: give a NewItem, a dict, or (key, text).")
    named = next((column for column in KEY_COLUMNS if _is_filled(record.get(column))), None)
    if named is None and any(column in record for column in KEY_COLUMNS):
        raise InputError("The item's key is empty.")
    if named is None:
        raise InputError(
            f"An item needs a 'key' (or 'item', or 'id'), but this one has {shortened(', '.join(map(str, record)))}."
        )
    # A table's cells are text: a column that is called `gold` there is somebody's own, and kept as such.
    nested = {name: value for name in _NESTED if isinstance(value := record.get(name), Mapping)}
    extra = {
        str(name): str(value)
        for name, value in record.items()
        if value is not None and (name not in _KNOWN or (name in _NESTED and name not in nested))
    }
    path, data, text = record.get("path"), record.get("data"), record.get("text")
    return NewItem(
        key=str(record[named]),
        text=None if text is None else str(text),
        path=Path(path) if path else None,
        data=data,
        media_type=str(record.get("media_type") or ""),
        metadata={**extra, **{str(k): str(v) for k, v in nested.get("metadata", {}).items()}},
        gold=nested.get("gold", {}),
        candidates=nested.get("candidates", {}),
        priority=float(record.get("priority") or 0.0),
    )


def _is_filled(value: object) -> bool:
    return value is not None and str(value) != ""


def _is_nan(value: object) -> bool:
    """Whether a cell is pandas' way to say "none"."""
    return isinstance(value, float) and math.isnan(value)
