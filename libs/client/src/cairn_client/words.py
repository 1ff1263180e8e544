"""What messages are made of: counts in the right number, and others' words quoted short."""

from __future__ import annotations

from collections.abc import Sequence

_MOST_SHOWN = 80
"""Characters of others' words that a message repeats: enough to find them again."""

_MOST_NAMED = 3


def counted(number: int, of: str) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{number:,} {of}" if number == 1 else f"{number:,} {of}s"


def shortened(text: str) -> str:
    """A text as a message repeats it: whole, or its beginning and an ellipsis."""
    return text if len(text) <= _MOST_SHOWN else text[: _MOST_SHOWN - 1] + "…"


def quoted(text: str) -> str:
    """The same in quotes, with what does not print escaped."""
    return repr(shortened(text))


def shown(value: object) -> str:
    """A value of a kind that was not expected, and its kind."""
    return f"{shortened(repr(value))} ({type(value).__name__})"


def first_of(texts: Sequence[str]) -> str:
    """The first few, quoted, and a hint that there are more."""
    return ", ".join(map(quoted, texts[:_MOST_NAMED])) + (", …" if len(texts) > _MOST_NAMED else "")
