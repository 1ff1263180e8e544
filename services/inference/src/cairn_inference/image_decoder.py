"""Bytes of a PNG or JPEG to a small RGB array, within limits that a hostile file cannot pass."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cairn_inference.domain.image_features import IMAGE_DIM, SIDE, image_features

Floats = NDArray[np.float32]

MAX_BYTES = 16 * 1024 * 1024
MAX_PIXELS = 40_000_000
"""A 40-megapixel photograph; a file of a few kilobytes can claim billions, which would fill memory when decoded."""

_FORMATS = ("PNG", "JPEG")


class NotAnImage(ValueError):
    """The bytes are not a PNG or JPEG image that can be read; the message says why."""


def decode(data: bytes) -> NDArray[np.uint8]:
    """Decode to RGB ``(SIDE, SIDE, 3)``. Raises NotAnImage."""
    from PIL import Image, UnidentifiedImageError

    if len(data) > MAX_BYTES:
        raise NotAnImage(f"The image has {len(data)} bytes; {MAX_BYTES} are read at most.")
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise NotAnImage(f"The image has {width} x {height} pixels; {MAX_PIXELS} are read at most.")
            image.draft("RGB", (SIDE, SIDE))  # a JPEG is then decoded at a fraction of its size
            small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            return np.asarray(small, dtype=np.uint8)
    except NotAnImage:
        raise
    except UnidentifiedImageError:
        raise NotAnImage("The bytes are neither a PNG nor a JPEG image.") from None
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError, Image.DecompressionBombError) as error:
        # Pillow tells of a broken file in any of these.
        raise NotAnImage(f"The image cannot be read: {error}.") from error


def features(images: Sequence[NDArray[np.uint8]]) -> Floats:
    """Feature vectors ``(n, IMAGE_DIM)`` of decoded images."""
    if not images:
        return np.zeros((0, IMAGE_DIM), dtype=np.float32)
    return image_features(np.stack(images))
