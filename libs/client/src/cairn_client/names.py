"""Resource names (AIP-122), and how item keys and labelers of any spelling fit into them.

An item key may be any text: what a name cannot hold is percent-encoded as UTF-8 (RFC 3986), and decoded
when read.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from cairn_client.errors import InputError
from cairn_client.words import quoted

_PROJECT_ID = re.compile(r"[a-z][a-z0-9-]{0,62}")
_LONGEST_KEY = 256
_LONGEST_LABELER = 128


def project_name(project: str) -> str:
    """`projects/{id}` from an id or a name. Raises InputError when it can be neither."""
    ident = project.removeprefix("projects/")
    if not _PROJECT_ID.fullmatch(ident):
        raise InputError(
            f"{quoted(project)} cannot be a project's id: use 1 to 63 of a-z, 0-9 and -, beginning with a letter."
        )
    return f"projects/{ident}"


def item_id(key: str) -> str:
    """An item's key as it stands in names: letters, digits and `._~-` as they are, all else
    percent-encoded."""
    try:
        encoded = quote(key, safe="")
    except UnicodeEncodeError:
        raise InputError(f"The item key {quoted(key)} is not valid Unicode.") from None
    if not 1 <= len(encoded) <= _LONGEST_KEY:
        raise InputError(f"An item key must have 1 to {_LONGEST_KEY} characters, but {quoted(key)} does not.")
    return encoded


def item_key(name: str) -> str:
    """The caller's own key, from an item's name, a label's name, or an encoded key."""
    if "/items/" in name:
        name = name.split("/items/", 1)[1].split("/", 1)[0]
    return unquote(name)


def item_name(project: str, key: str) -> str:
    """`projects/{project}/items/{item}`. A full name is returned as it is."""
    if key.startswith("projects/") and "/items/" in key:
        return key
    return f"{project_name(project)}/items/{item_id(key)}"


def labeler_name(labeler: str) -> str:
    """`labelers/{labeler}`, with what a name cannot hold percent-encoded; empty stays empty (the caller)."""
    if not labeler or labeler.startswith("labelers/"):
        return labeler
    try:
        encoded = quote(labeler, safe="@+")
    except UnicodeEncodeError:
        raise InputError(f"The labeler {quoted(labeler)} is not valid Unicode.") from None
    if len(encoded) > _LONGEST_LABELER:
        raise InputError(f"A labeler's id must have at most {_LONGEST_LABELER} characters: {quoted(labeler)}")
    return f"labelers/{encoded}"


def labeler_id(name: str) -> str:
    """The labeler's own id, from `labelers/{labeler}`; a model's name keeps its last part."""
    return unquote(name.removeprefix("labelers/"))


def question_of(label_name: str) -> str:
    """The question of a label, from `projects/{project}/items/{item}/labels/{question}`."""
    return label_name.rsplit("/labels/", 1)[1].split("@", 1)[0]


def last_part(name: str) -> str:
    """The id at the end of a name."""
    return name.rsplit("/", 1)[-1]
