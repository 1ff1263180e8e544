"""What the README shows runs and says what it is said to say, and the reference is that of these docstrings."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import cairn_truth

HOME = Path(__file__).parents[1]
README = (HOME / "README.md").read_text(encoding="utf-8")


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_every_example_runs_and_gives_what_it_says() -> None:
    names: dict[str, Any] = {}
    said = 0
    for block in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL):
        exec(compile(block, "README.md", "exec"), names)
        for expression, value in re.findall(r"^(\S.*?) +# -> (.+)$", block, flags=re.MULTILINE):
            assert repr(eval(expression, names)) == value, expression
            said += 1
    assert said >= 10


def test_the_reference_is_of_these_docstrings() -> None:
    written = (HOME / "docs" / "api.md").read_text(encoding="utf-8")
    assert written == module(HOME / "docs" / "reference.py").reference(), "stale: run make truth-docs"


def test_every_public_name_is_told_of() -> None:
    assert sorted(cairn_truth.__all__) == sorted(set(cairn_truth.__all__))
    undocumented = [name for name in cairn_truth.__all__ if not getattr(cairn_truth, name).__doc__]
    assert undocumented == []


def test_links_in_the_readme_lead_somewhere() -> None:
    headings = [line.lstrip("# ") for line in README.splitlines() if line.startswith("#")]
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert target[1:] in anchors if target.startswith("#") else (HOME / target).exists(), target
