"""Real handwritten digits as image items: the 1,797 scans that come with scikit-learn, 8x8 pixels each."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cairn_client.errors import CairnError
from cairn_client.new_items import NewItem

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_DARKEST = 16


@dataclass(frozen=True, slots=True)
class Digits:
    """The items, and the digit that each one shows, by its key."""

    items: tuple[NewItem, ...]
    truth: dict[str, str]


def load_digits() -> Digits:
    """Read the digits. Raises CairnError when scikit-learn is not there."""
    try:
        from sklearn.datasets import load_digits as read
    except ImportError:
        raise CairnError("The demo's images come with scikit-learn: pip install scikit-learn.") from None
    found = read()
    items, truth = [], {}
    for place, (image, digit) in enumerate(zip(found.images, found.target, strict=True)):
        key = f"digit-{place:04d}"
        pixels = (image * (255 / _DARKEST)).round().astype("uint8")
        items.append(NewItem(key, data=png(pixels), media_type="image/png"))
        truth[key] = str(digit)
    return Digits(tuple(items), truth)


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """An 8-bit greyscale PNG of `(height, width)` pixels."""
    height, width = pixels.shape
    rows = b"".join(b"\x00" + pixels[row].tobytes() for row in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
