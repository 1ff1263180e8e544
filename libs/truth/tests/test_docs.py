"""What the README shows runs and says what it is said to say, and the reference is that of these docstrings."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

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


def test_type_checkers_read_the_same_names_of_the_same_modules() -> None:
    stub = ast.parse(Path(cairn_truth.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    imports = [line for line in stub.body if isinstance(line, ast.ImportFrom)]
    told = {line.module: " ".join(name.name for name in line.names) for line in imports}
    assert told == cairn_truth._HOMES
    (names,) = (ast.literal_eval(line.value) for line in stub.body if isinstance(line, ast.Assign))
    assert sorted(names) == cairn_truth.__all__


def test_what_is_not_asked_for_is_not_waited_for() -> None:
    look = "import sys, cairn_truth; print([m for m in sys.modules if m.split('.')[0] in ('numpy', 'scipy')])"
    asked = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert asked.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="cairn_truth' has no attribute 'LiveCircles'"):
        _ = cairn_truth.LiveCircles


def test_links_in_the_readme_lead_somewhere() -> None:
    headings = [line.lstrip("# ") for line in README.splitlines() if line.startswith("#")]
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert target[1:] in anchors if target.startswith("#") else (HOME / target).exists(), target
