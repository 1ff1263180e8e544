"""Named SQL blocks in .sql files: `-- name: lease_tasks`, then the statement, until the next name."""

from __future__ import annotations

import re
from importlib.resources import files

_NAME = re.compile(r"^--\s*name:\s*([a-z][a-z0-9_]*)\s*$", re.MULTILINE)


class Queries:
    """The statements of one file, each an attribute: `SQL.lease_tasks`."""

    def __init__(self, text: str, origin: str = "<text>") -> None:
        parts = _NAME.split(text)
        names, blocks = parts[1::2], parts[2::2]
        doubled = {name for name in names if names.count(name) > 1}
        if doubled:
            raise ValueError(f"{origin} names {', '.join(sorted(doubled))} twice.")
        self._origin = origin
        self._statements = {name: block.strip() for name, block in zip(names, blocks, strict=True)}

    @classmethod
    def load(cls, package: str, path: str = "sql/queries.sql") -> Queries:
        """Read a file that is packaged with `package`."""
        return cls((files(package) / path).read_text(encoding="utf-8"), f"{package}/{path}")

    def __getattr__(self, name: str) -> str:
        statement = self.__dict__.get("_statements", {}).get(name)
        if statement is None:
            raise AttributeError(f"{self.__dict__.get('_origin')} has no statement named {name}.")
        return str(statement)

    def names(self) -> list[str]:
        """Every name, in the order of the file."""
        return list(self._statements)
