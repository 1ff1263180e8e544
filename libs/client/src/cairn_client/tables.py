"""CSV and JSON lines files as people have them: with a byte order mark, CRLF, quotes, and now and then an
error."""

from __future__ import annotations

import csv
import difflib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cairn_client.errors import InputError
from cairn_client.pictures import IMAGE_SUFFIXES
from cairn_client.words import counted, quoted, shortened

csv.field_size_limit(64 * 1024 * 1024)  # a 10 MB text is the server's to refuse, not the reader's

ITEM = ("item", "key", "id")
LABELER = ("annotator", "labeler", "worker", "user")
LABEL = ("label", "answer", "truth")

_NO_KEY = "object has no 'key' (or 'item', or 'id')"
_STRINGS = (*ITEM, "text", "path", "media_type")


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table: the number of the line it ends on, from 1, and its cells by column."""

    line: int
    cells: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Table:
    """A CSV file, read."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    def column(self, names: Sequence[str]) -> str:
        """The first of `names` that the table has. Raises InputError naming what there is instead."""
        for name in names:
            if name in self.columns:
                return name
        wanted = f"'{names[0]}'" + (f" (or {', '.join(map(repr, names[1:]))})" if len(names) > 1 else "")
        near = [close for name in names for close in difflib.get_close_matches(name, self.columns, 1)]
        meant = f" Did you mean {near[0]!r} to be it?" if near else ""
        raise InputError(
            f"{self.path} has no column {wanted}; it has {', '.join(map(quoted, self.columns))}.{meant}"
        )

    def has(self, names: Sequence[str]) -> bool:
        """Whether the table has one of these columns."""
        return any(name in self.columns for name in names)


def _text_of(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"There is no file {path}.") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder, not a file.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError:
            raise InputError(f"{path} is neither UTF-8 nor UTF-16 text.") from None
    # Bytes that are no UTF-8 become lone surrogates, so that only their own rows are refused, by name.
    return data.decode("utf-8-sig", errors="surrogateescape")


def read_csv(path: Path | str) -> Table:
    """Read a CSV file with a header. Raises InputError naming the line of what is wrong."""
    file = Path(path)
    reader = csv.reader(io.StringIO(_text_of(file), newline=""), strict=True)
    rows: list[Row] = []
    header: list[str] | None = None
    try:
        for cells in reader:
            if header is None:
                header = [cell.strip() for cell in cells]
                _check_header(file, header)
            elif cells:
                if len(cells) != len(header):
                    raise InputError(
                        f"{file}, line {reader.line_num}: {counted(len(cells), 'field')}; the header has {len(header)}."
                        " A field that contains a comma must be in double quotes."
                    )
                rows.append(Row(reader.line_num, dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        raise InputError(f"{file}, line {reader.line_num}: {error}. Is a double quote missing?") from None
    if header is None:
        raise InputError(f"{file} is empty.")
    return Table(file, tuple(header), tuple(rows))


def _check_header(file: Path, header: list[str]) -> None:
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise InputError(f"{file} has the column {quoted(twice[0])} twice.")


def read_jsonl(path: Path | str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSON lines file, with their lines. Raises InputError naming the line of what is not
    one."""
    file = Path(path)
    for number, line in enumerate(_text_of(file).split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise InputError(f"{file}, line {number}: this is not JSON ({error}).") from None
        if not isinstance(record, dict):
            raise InputError(f'{file}, line {number}: each line must be an object, such as {{"key": "a"}}.')
        yield number, record


def is_broken(text: str) -> bool:
    """Whether a text came from bytes that are not UTF-8."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def item_records(path: Path | str) -> Iterator[dict[str, Any]]:
    """Items to import, from a CSV or JSON lines file, or a folder of images (keys are relative paths).

    A `path` column is meant relative to the file. Raises InputError when the source has no items' keys.
    """
    return (record for _, record in placed_records(path))


def placed_records(path: Path | str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The same, each with where it stands: file and line, or the image's own file."""
    source = Path(path)
    if source.is_dir():
        yield from _files_of(source)
    elif source.suffix.lower() in (".jsonl", ".ndjson"):
        for line, record in read_jsonl(source):
            if not any(record.get(name) not in (None, "") for name in ITEM):
                wrong = "key is empty" if any(name in record for name in ITEM) else _NO_KEY
                raise InputError(f"{source}, line {line}: the {wrong}.")
            for name in _STRINGS:
                _check_string(f"{source}, line {line}", name, record.get(name))
            yield f"{source}, line {line}", _with_path(record, source.parent)
    elif source.suffix.lower() in (".csv", ".tsv", ".txt", "") and source.exists():
        table = read_csv(source)
        key = table.column(ITEM)
        for row in table.rows:
            filled = {name: cell for name, cell in row.cells.items() if cell != "" or name == "text"}
            record = _with_path({**filled, "key": row.cells[key]}, source.parent)
            yield f"{source}, line {row.line}", record
    elif not source.exists():
        raise InputError(f"There is no file {source}.")
    else:
        raise InputError(
            f"Items come from a .csv file, a .jsonl file or a folder of images, not {source.name}."
        )


def _check_string(where: str, name: str, value: object) -> None:
    """JSON has other things than strings, and `NaN` where a program had nothing to say."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if value is None or isinstance(value, str) or (name in ITEM and whole):
        return
    raise InputError(
        f"{where}: {name!r} is {shortened(json.dumps(value))}; expected a string, in double quotes."
    )


def _files_of(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    found = False
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.suffix.lower() in IMAGE_SUFFIXES:
            found = True
            yield str(file), {"key": file.relative_to(folder).as_posix(), "path": str(file)}
    if not found:
        raise InputError(f"The folder {folder} has no images ({', '.join(IMAGE_SUFFIXES)}).")


def _with_path(record: dict[str, Any], folder: Path) -> dict[str, Any]:
    if record.get("path"):
        record = {**record, "path": str(folder / str(record["path"]))}
    return record
