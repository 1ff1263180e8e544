"""Masks that are kept as PNG: their pixels as run lengths, which is how answers are joined.

Of PNG (ISO/IEC 15948) only what the contract asks for is read: one grey channel of 8 or 16 bits, not interlaced.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cairn.label.v1.label_value_pb2 import Runs

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _DEFLATE, _ADAPTIVE, _STRAIGHT = 0, 0, 0, 0

_MOST_PIXELS = 1 << 25
"""A raster of more would take seconds and hundreds of megabytes; it is left to a reviewer."""

_MOST_RUNS = 1_000_000
"""What the contract allows in an answer."""

Bytes = NDArray[np.uint8]
Numbers = NDArray[np.int64]


class NotReadable(ValueError):
    """The bytes are no raster that can be read here."""


def runs_of(png: bytes, width: int, height: int) -> Runs:
    """The row-major runs of a PNG of this size. Raises NotReadable, naming why."""
    if width * height > _MOST_PIXELS:
        raise NotReadable(f"the raster has {width * height} pixels; expected at most {_MOST_PIXELS}")
    depth, rows = _rows(png, width, height)
    lanes = rows[:, 1:].reshape(height, width, depth // 8)
    pixels = np.zeros((height, width), dtype=np.int64)
    for lane in range(depth // 8):  # the more significant byte comes first
        pixels = pixels * 256 + unfiltered(lanes[:, :, lane], rows[:, 0])
    flat = pixels.ravel()
    start = np.flatnonzero(np.diff(flat, prepend=-1))
    if start.size > _MOST_RUNS:
        raise NotReadable(f"the raster has {start.size} runs; expected at most {_MOST_RUNS}")
    lengths = np.diff(start, append=flat.size)
    return Runs(class_indices=flat[start].tolist(), lengths=lengths.tolist())


def unfiltered(filtered: Bytes, kind: Bytes) -> Numbers:
    """Undo the filters of one byte lane ``(height, width)``; ``kind (height,)`` is each row's filter, 0 to 4.

    A byte is told by its neighbours at the left, above, and above left; so all bytes on a diagonal are known at once,
    and there are as many steps as rows and columns.
    """
    height, width = filtered.shape
    raw, out = (np.zeros((height + 1, width + 1), dtype=np.int16) for _ in range(2))
    raw[1:, 1:] = filtered
    told, found = raw.ravel(), out.ravel()
    for step in range(height + width - 1):
        low, high = max(0, step - width + 1), min(step, height - 1)
        first = low * width + width + 2 + step
        end = first + (high - low) * width + 1

        def at(offset: int, first: int = first, end: int = end) -> NDArray[np.int16]:
            return found[first - offset : end - offset : width]

        left, above, corner = at(1), at(width + 1), at(width + 2)
        predicted = np.choose(
            kind[low : high + 1],
            [0, left, above, (left + above) >> 1, _nearest(left, above, corner)],
        )
        found[first:end:width] = (told[first:end:width] + predicted) & 255
    return out[1:, 1:].astype(np.int64)


def _nearest(
    left: NDArray[np.int16], above: NDArray[np.int16], corner: NDArray[np.int16]
) -> NDArray[np.int16]:
    """Which of the three is nearest to left + above - corner (Paeth); the first of equals."""
    at = left + above - corner
    off = [np.abs(at - one) for one in (left, above, corner)]
    return np.where((off[0] <= off[1]) & (off[0] <= off[2]), left, np.where(off[1] <= off[2], above, corner))


def _rows(png: bytes, width: int, height: int) -> tuple[int, Bytes]:
    """The bits of a pixel, and the filtered rows ``(height, 1 + bytes)`` with each one's filter before it."""
    header, packed = b"", []
    for name, body in _chunks(png):
        if name == b"IHDR":
            header = body
        elif name == b"IDAT":
            packed.append(body)
    if len(header) != 13:
        raise NotReadable("the PNG has no header")
    w, h, depth, *rest = struct.unpack(">IIBBBBB", header)
    if (w, h) != (width, height):
        raise NotReadable(f"the PNG is {w} x {h}; expected {width} x {height}")
    if depth not in (8, 16) or rest != [_GREY, _DEFLATE, _ADAPTIVE, _STRAIGHT]:
        raise NotReadable("the PNG is not of one grey channel of 8 or 16 bits, or is interlaced")
    size = height * (1 + width * depth // 8)
    try:
        data = zlib.decompressobj().decompress(b"".join(packed), size)
    except zlib.error as error:
        raise NotReadable("the PNG is broken") from error
    if len(data) != size:
        raise NotReadable(f"the PNG holds {len(data)} bytes of pixels; expected {size}")
    rows = np.frombuffer(data, dtype=np.uint8).reshape(height, -1)
    if rows[:, 0].max() > 4:
        raise NotReadable(f"the PNG has a filter {rows[:, 0].max()}; expected 0 to 4")
    return depth, rows


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and body of each chunk, as far as there are whole ones."""
    if not png.startswith(_SIGNATURE):
        raise NotReadable("the bytes are no PNG")
    at = len(_SIGNATURE)
    while at + 12 <= len(png):
        (length,) = struct.unpack_from(">I", png, at)
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        at += 12 + length
