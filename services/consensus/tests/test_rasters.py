"""Masks kept as PNG: whatever way they were written, their pixels are those of the mask."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cairn_consensus.domain.rasters import NotReadable, runs_of

Raster = NDArray[np.int64]


def png(pixels: Raster, filters: Sequence[int], depth: int = 8, interlace: int = 0) -> bytes:
    """The raster as a PNG whose rows have these filters, one after the other and again."""
    height, width = pixels.shape
    wide = depth // 8
    rows = pixels.astype(f">u{wide}").view(np.uint8).reshape(height, width * wide).astype(int)
    packed = b""
    for y in range(height):
        kind = filters[y % len(filters)]
        out = bytearray([kind])
        for x in range(width * wide):
            left = rows[y, x - wide] if x >= wide else 0
            above = rows[y - 1, x] if y else 0
            corner = rows[y - 1, x - wide] if y and x >= wide else 0
            guess = left + above - corner
            nearest = min((left, above, corner), key=lambda one: abs(guess - one))
            out.append((rows[y, x] - (0, left, above, (left + above) // 2, nearest)[kind]) % 256)
        packed += bytes(out)
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, interlace)
    halves = zlib.compress(packed)
    parts = [
        (b"IHDR", header),
        (b"tEXt", b"by hand"),
        (b"IDAT", halves[:9]),
        (b"IDAT", halves[9:]),
        (b"IEND", b""),
    ]
    chunks = (
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@st.composite
def rasters(draw: st.DrawFn) -> tuple[Raster, int]:
    depth = draw(st.sampled_from([8, 16]))
    height, width = draw(st.integers(1, 7)), draw(st.integers(1, 9))
    values = st.integers(0, 2**depth - 1) | st.integers(0, 2)
    pixels = draw(st.lists(values, min_size=height * width, max_size=height * width))
    return np.array(pixels).reshape(height, width), depth


@given(rasters(), st.lists(st.integers(0, 4), min_size=1, max_size=7))
@settings(max_examples=60, deadline=None)
def test_the_runs_of_a_png_are_its_pixels(raster: tuple[Raster, int], filters: list[int]) -> None:
    pixels, depth = raster
    height, width = pixels.shape
    runs = runs_of(png(pixels, filters, depth), width, height)
    assert np.repeat(runs.class_indices, runs.lengths).tolist() == pixels.ravel().tolist()
    assert 0 not in runs.lengths
    assert all(a != b for a, b in zip(runs.class_indices, runs.class_indices[1:], strict=False))


SMALL = np.array([[0, 1], [1, 1]])


@pytest.mark.parametrize(
    ("data", "width", "height", "why"),
    [
        (b"GIF89a", 2, 2, "no PNG"),
        (png(SMALL, [0])[:20], 2, 2, "no header"),
        (png(SMALL, [0]), 3, 2, "2 x 2"),
        (png(SMALL, [0], interlace=1), 2, 2, "interlaced"),
        (png(SMALL, [0]).replace(b"IDAT", b"iDAT", 1), 2, 2, "broken"),
        (png(SMALL, [0]).replace(b"IDAT", b"iDAT"), 2, 2, "0 bytes"),
        (png(SMALL, [0]), 65_535, 65_535, "pixels"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_reason(
    data: bytes, width: int, height: int, why: str
) -> None:
    with pytest.raises(NotReadable, match=why):
        runs_of(data, width, height)
