"""`make truth-docs`: write api.md, the reference of every public name, from signatures and docstrings."""

from __future__ import annotations

import inspect
import re
from collections import defaultdict
from enum import Enum
from pathlib import Path
from typing import Any

import cairn_truth

FILE = Path(__file__).with_name("api.md")

ROOMS = {
    "live_answers": "What all live states share",
    "classes": "Classes",
    "values": "Numbers, ratings, texts, preferences, rankings",
    "stretches": "Spans, segments, relations",
    "shapes": "Shapes",
    "routing": "When to stop, what to ask next, when a model may answer alone",
    "quality": "Agreement, audits, forensics",
}


def reference() -> str:
    """Return the whole reference as Markdown."""
    rooms: dict[str, list[str]] = defaultdict(list)
    for name in cairn_truth.__all__:
        rooms[getattr(cairn_truth, name).__module__.split(".")[1]].append(name)
    lines = [
        "# Reference of cairn_truth",
        "",
        "Made from the docstrings by `make truth-docs`. All names are imported from `cairn_truth`.",
    ]
    for room, title in ROOMS.items():
        lines += ["", f"## {title}"]
        for name in sorted(rooms.pop(room), key=str.lower):
            lines += ["", *_entry(name, getattr(cairn_truth, name))]
    if rooms:
        raise ValueError(f"no title for {', '.join(rooms)}; expected one in ROOMS")
    return "\n".join(lines) + "\n"


def _entry(name: str, thing: Any) -> list[str]:
    lines = [f"### `{name}`", "", *_signature(name, thing), _doc(thing)]
    if inspect.isclass(thing) and not issubclass(thing, Enum):
        for method, function in _methods(thing):
            lines += ["", f"- **`{method}`**`{_arguments(function)}`  ", f"  {_doc(function, first=True)}"]
    return lines


def _signature(name: str, thing: Any) -> list[str]:
    if inspect.isclass(thing) and issubclass(thing, Enum):
        return [f"One of {', '.join(f'`{member.name}`' for member in thing)}.", ""]
    try:
        return ["```", f"{name}{_arguments(thing)}", "```", ""]
    except ValueError:
        return []


def _arguments(thing: Any) -> str:
    """Return the signature, without the quotes of annotations (defaults keep theirs) and what a class returns."""
    told = str(inspect.signature(thing)).replace("(self, ", "(").replace("(self)", "()")
    told = re.sub(r"(= '[^']*')|'([^']*)'", lambda quoted: quoted.group(1) or quoted.group(2), told)
    told = re.sub(r"<function (?:\S+\.)?(\S+) at 0x[0-9a-f]+>", r"\1", told)
    told = re.sub(r"<class (?:\S+\.)?(\w+)>", r"\1", told)
    return told.removesuffix(" -> None") if inspect.isclass(thing) else told


def _methods(thing: type[Any]) -> list[tuple[str, Any]]:
    """Return public methods by name: the class's own, and those of ours that it inherits, except in every live state."""
    live = cairn_truth.LiveAnswers
    shared = live.__mro__ if issubclass(thing, live) and thing is not live else ()
    found = {}
    for owner in reversed(thing.__mro__):
        if not owner.__module__.startswith("cairn_truth"):
            continue
        if owner in shared:
            continue
        for name, member in vars(owner).items():
            plain = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
            if not name.startswith("_") and inspect.isfunction(plain) and plain.__doc__:
                found[name] = getattr(thing, name)
    return sorted(found.items())


def _doc(thing: Any, *, first: bool = False) -> str:
    doc = inspect.cleandoc(thing.__doc__ or "")
    if inspect.isclass(thing) and doc.startswith(f"{thing.__name__}("):
        return ""  # a dataclass's own signature, not a docstring
    return re.sub(r"\s*\n\s*", " ", doc.split("\n\n")[0]) if first else doc


if __name__ == "__main__":
    FILE.write_text(reference(), encoding="utf-8")
