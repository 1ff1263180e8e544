"""Whether a picture's file is what its name says, by its first bytes."""

from __future__ import annotations

from pathlib import Path

from cairn_client.errors import InputError

_FORMATS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg"),
    "GIF": (".gif",),
    "WebP": (".webp",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
}
_FORMAT_OF = {suffix: name for name, suffixes in _FORMATS.items() for suffix in suffixes}
IMAGE_SUFFIXES = tuple(_FORMAT_OF)

_BEGINNINGS = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"II+\x00": "TIFF",  # BigTIFF
    b"MM\x00+": "TIFF",
}


def check_picture(file: Path, data: bytes) -> None:
    """Raise InputError when the file's name ends like a picture's and its content is not that."""
    named = _FORMAT_OF.get(file.suffix.lower())
    found = _format_of(data)
    if named is None or found == named:
        return
    content = "it is empty" if not data else f"it is a {found}" if found else "its content is no picture"
    raise InputError(f"{file} is not the {named} that its name says: {content}.")


def _format_of(data: bytes) -> str | None:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    return next((name for start, name in _BEGINNINGS.items() if data.startswith(start)), None)
