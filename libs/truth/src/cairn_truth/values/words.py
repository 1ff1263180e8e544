"""Words of a text as they are compared and as they were written, and the text put together again.

Words are compared without case and punctuation; each keeps how it was written, with the space before it and the marks
around it. Chinese characters and Japanese kana, written without spaces, are words of one letter.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
"""Kana and Chinese characters."""

_PIECE = re.compile(
    rf"(?P<space>\s*)(?P<word>[{_UNSPACED}]|(?:--+|\.\.+|[—–…/])+|(?:(?!--|\.\.)[^\s—–…/{_UNSPACED}])+)"
)
"""A piece of writing: dashes, dots and strokes part words even where no space does; a hyphen does not."""

_COUNTED = frozenset("LMN")
"""Unicode categories that words are compared by: letters, their marks, and digits."""


class Word(NamedTuple):
    """A word: ``key`` to compare it by, ``written`` as it stood, ``space`` whether white space came before it."""

    key: str
    written: str
    space: bool


def words_of(text: str, *, fold: bool = True) -> list[Word]:
    """Return the words of a text. Without ``fold`` they are parted by white space alone, and compared as written."""
    composed = unicodedata.normalize("NFC", text)
    if not fold:
        return [Word(piece, piece, place > 0) for place, piece in enumerate(composed.split())]
    words: list[Word] = []
    before = ""
    for piece in _PIECE.finditer(composed):
        written, space = piece["word"], bool(piece["space"])
        key = _key(written)
        if key:
            words.append(Word(key, before + written, space and bool(words or before)))
            before = ""
        elif words and not before and (not space or not _opens(written)):
            # A mark by itself belongs to the word before it: what is voted on is words.
            last = words[-1]
            words[-1] = Word(last.key, last.written + " " * space + written, last.space)
        else:
            before += " " * (space and bool(before)) + written
    if before and not words:
        return [Word(before, before, False)]
    return words


def _opens(mark: str) -> bool:
    return unicodedata.category(mark[0]) in ("Ps", "Pi")


def _key(written: str) -> str:
    if written.isalnum():
        return written.casefold()
    return "".join(c for c in written if unicodedata.category(c)[0] in _COUNTED).casefold()


def joined_as_others(texts: Sequence[Sequence[Word]]) -> list[list[Word]]:
    """Return the texts with two neighbouring words as one where another has them as one: "air tight", "airtight".

    How it is written is then a vote like that on a comma, and not two words against one and a gap.
    """
    keys = {word.key for text in texts for word in text}
    found = []
    for text in texts:
        words: list[Word] = []
        for word in text:
            last = words[-1] if words else None
            if last is not None and last.key + word.key in keys:
                words[-1] = Word(
                    last.key + word.key, last.written + " " * word.space + word.written, last.space
                )
            else:
                words.append(word)
        found.append(words)
    return found


def written(words: Sequence[Word]) -> str:
    """Return the text of these words."""
    return "".join(" " * (word.space and place > 0) + word.written for place, word in enumerate(words))
