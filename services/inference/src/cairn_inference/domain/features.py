"""Feature extractions by name, and how one item's feature vector is stored."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cairn_inference.domain.image_features import IMAGE_DIM
from cairn_inference.domain.text_features import EMBEDDING_DIM, HASHED_WORDS

if TYPE_CHECKING:
    from scipy import sparse  # a second of imports that only a training needs

Floats = NDArray[np.float32]


class Content(IntEnum):
    """What an item is made of, as far as features are concerned."""

    NONE = 0
    TEXT = 1
    IMAGE = 2


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """A feature extraction: its published name, the content it reads, and the length of its vectors."""

    name: str
    content: Content
    dim: int


TEXT_SPEC = FeatureSpec(
    f"text-static-{EMBEDDING_DIM}-words-{HASHED_WORDS}", Content.TEXT, EMBEDDING_DIM + HASHED_WORDS
)
IMAGE_SPEC = FeatureSpec(f"image-hog-{IMAGE_DIM}", Content.IMAGE, IMAGE_DIM)
SPECS = {spec.name: spec for spec in (TEXT_SPEC, IMAGE_SPEC)}
"""The name changes whenever the numbers do: a model only ever sees the features it was trained on."""


def spec_for(content: Content) -> FeatureSpec | None:
    """The extraction that reads this content; None when there is none."""
    return next((spec for spec in SPECS.values() if spec.content is content), None)


_DENSE, _SPARSE = b"D", b"S"


def pack(vector: Floats) -> bytes:
    """Encode one vector ``(dim,)`` as little-endian bytes, without its zeros when that is shorter.

    ``D`` then float32 each, or ``S`` then the count of non-zeros (uint32), their places (uint32) and values.
    """
    places = np.flatnonzero(vector)
    if 8 * places.size + 4 >= 4 * vector.size:
        return _DENSE + vector.astype("<f4").tobytes()
    count = np.array([places.size], dtype="<u4")
    return _SPARSE + count.tobytes() + places.astype("<u4").tobytes() + vector[places].astype("<f4").tobytes()


def _unpack(packed: bytes) -> tuple[NDArray[np.int64], Floats]:
    if packed[:1] == _DENSE:
        values = np.frombuffer(packed, dtype="<f4", offset=1)
        return np.arange(values.size, dtype=np.int64), values
    if packed[:1] != _SPARSE:
        raise ValueError(f"a feature vector begins with {packed[:1]!r}; expected b'D' or b'S'")
    count = int(np.frombuffer(packed, dtype="<u4", offset=1, count=1)[0])
    places = np.frombuffer(packed, dtype="<u4", offset=5, count=count).astype(np.int64)
    return places, np.frombuffer(packed, dtype="<f4", offset=5 + 4 * count, count=count)


def unpack_dense(rows: Sequence[bytes], dim: int) -> Floats:
    """Decode stored vectors into ``(rows, dim)``. Raises ValueError when one has another length."""
    matrix = np.zeros((len(rows), dim), dtype=np.float32)
    for at, packed in enumerate(rows):
        places, values = _unpack(packed)
        if places.size and places[-1] >= dim:
            raise ValueError(f"row {at} has a value at {places[-1]}; the dimension is {dim}")
        matrix[at, places] = values
    return matrix


def rows_of(vectors: bytes, dim: int) -> Floats:
    """Read little-endian float32, row after row, as ``(rows, dim)``, without a copy.

    Raises ValueError when there is no whole number of rows, or one is not of finite numbers.
    """
    if not vectors or len(vectors) % (4 * dim):
        raise ValueError(f"{len(vectors)} bytes are no rows of {dim} float32 each, which are {4 * dim} bytes")
    rows = np.frombuffer(vectors, dtype="<f4").reshape(-1, dim)
    # Least and greatest tell whether all is well, at less than half of what a look at each value costs.
    if not (math.isfinite(rows.min()) and math.isfinite(rows.max())):
        bad = int(np.isfinite(rows).all(axis=1).argmin())
        raise ValueError(f"row {bad} has a value that is not a finite number")
    return rows


def unpack_sparse(rows: Sequence[bytes], dim: int) -> sparse.csr_matrix:
    """Decode stored vectors into a compressed sparse matrix ``(rows, dim)``, for training."""
    from scipy import sparse

    parts = [_unpack(packed) for packed in rows]
    starts = np.concatenate([[0], np.cumsum([places.size for places, _ in parts])])
    places = np.concatenate([places for places, _ in parts]) if parts else np.zeros(0, np.int64)
    values = np.concatenate([values for _, values in parts]) if parts else np.zeros(0, np.float32)
    return sparse.csr_matrix((values, places, starts), shape=(len(rows), dim), dtype=np.float32)
