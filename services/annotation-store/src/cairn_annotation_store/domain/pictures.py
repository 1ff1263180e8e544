"""Width and height from the first bytes of a PNG or a JPEG, without decoding (so without decompression bombs)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

_PNG = b"\x89PNG\r\n\x1a\n"
_GREY = 0
_MAX_SEGMENTS = 2_000
"""JPEG segments walked through before giving up: real files have a few dozen."""

_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
"""Markers SOF0 to SOF15 (ITU-T T.81, table B.1), without DHT, JPG and DAC, which share their range."""

_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})
"""Markers without a length: TEM and RST0 to RST7."""


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """What a header says. Pixels as stored, before any rotation that EXIF asks for."""

    width: int
    height: int
    grey_bits: int = 0
    """8 or 16 for a PNG of one grey channel of that depth, which may be a mask; else 0."""


def picture_facts(file: BinaryIO) -> PictureFacts | None:
    """What the header of a PNG or JPEG says, or None when it is neither, or broken. Reads from the start."""
    file.seek(0)
    head = file.read(26)
    if head[:8] == _PNG and head[12:16] == b"IHDR" and len(head) == 26:
        width, height, depth, colour = struct.unpack(">IIBB", head[16:26])
        grey = depth if colour == _GREY and depth in (8, 16) else 0
        return PictureFacts(width, height, grey) if width and height else None
    if head[:3] == b"\xff\xd8\xff":
        return _jpeg(file)
    return None


def _jpeg(file: BinaryIO) -> PictureFacts | None:
    file.seek(2)
    for _ in range(_MAX_SEGMENTS):
        marker = _next_marker(file)
        if marker is None:
            return None
        if marker in _ALONE:
            continue
        length = file.read(2)
        if len(length) < 2:
            return None
        (size,) = struct.unpack(">H", length)
        if marker in _FRAMES:
            body = file.read(5)
            if len(body) < 5:
                return None
            _, height, width = struct.unpack(">BHH", body)
            return PictureFacts(width, height) if width and height else None
        if marker == 0xDA or size < 2:  # the picture's data begin: no frame header came
            return None
        file.seek(size - 2, 1)
    return None


def _next_marker(file: BinaryIO) -> int | None:
    if file.read(1) != b"\xff":
        return None
    code = b"\xff"
    while code == b"\xff":  # any number of fill bytes may precede a marker
        code = file.read(1)
    return code[0] if code else None
