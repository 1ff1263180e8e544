"""Text as numbers: a static embedding of its tokens beside its words, hashed.

The embedding alone knows what a text is about, and little of how it judges; a bag of words adds the single
words that carry opinion ("dull", "superb"). On 2,500 labeled film reviews a linear head reads polarity right in
67.8 % from the embedding, in 72.7 % from both.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

EMBEDDING_DIM = 256
HASHED_WORDS = 8192
"""Slots for words. At 4,096 collisions cost a point of accuracy; at 16,384 nothing more is gained."""

MAX_CHARACTERS = 20_000
"""What is read of a text: beyond some pages a mean of words changes no more."""

_EMBEDDING_WEIGHT = 0.5
"""The embedding's share beside the words', both of unit length (0.5 beat 1, 1.5 and 2)."""

_WORD = re.compile(r"\w+'?\w*|[!?]")


def words(text: str) -> list[str]:
    """The words of a text in lower case, with exclamation and question marks, each once, sorted."""
    return sorted(set(_WORD.findall(text[:MAX_CHARACTERS].lower())))


def rarity(token_ids: Sequence[int], vocabulary: int) -> float:
    """How rare a word is, 0 to 1, by its place in a byte-pair vocabulary.

    Such a vocabulary is built by merging the most frequent pair first, so a token's id is about its frequency
    rank; a word of several tokens is rarer than any single token. No corpus is needed.
    """
    rank = max(token_ids, default=0) if len(token_ids) == 1 else vocabulary * len(token_ids)
    return math.log(max(rank - 200, 2)) / math.log(3 * vocabulary)


def hash_words(text: str, rarity_of: Callable[[str], float]) -> Floats:
    """A unit vector ``(HASHED_WORDS,)``: each word adds its rarity, with a hashed sign, to a hashed slot.

    CRC-32 is stable across processes and platforms, unlike `hash`.
    """
    vector = np.zeros(HASHED_WORDS, dtype=np.float32)
    for word in words(text):
        digest = zlib.crc32(word.encode("utf-8", "surrogatepass"))
        vector[digest % HASHED_WORDS] += rarity_of(word) * (1.0 if digest >> 31 else -1.0)
    length = float(np.linalg.norm(vector))
    return vector / np.float32(length) if length else vector


def join(embeddings: Floats, hashed: Floats) -> Floats:
    """Put embeddings ``(n, EMBEDDING_DIM)`` and hashed words ``(n, HASHED_WORDS)`` side by side."""
    return np.concatenate([_EMBEDDING_WEIGHT * embeddings, hashed], axis=1).astype(np.float32)
