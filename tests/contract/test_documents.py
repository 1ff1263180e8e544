"""What the documents point at is there, and they give away nothing of where they were written."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TRACKED = [
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split("\0")
    if name
]
DOCUMENTS = [path for path in TRACKED if path.suffix == ".md" and "third_party" not in path.parts]
LINK = re.compile(r"\]\((?!https?://|mailto:|#)([^)#\s]+)(#[^)]*)?\)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    dead = [
        target for target, _ in LINK.findall(document.read_text()) if not (document.parent / target).exists()
    ]
    assert not dead, f"dead links: {dead}"


def test_nothing_names_a_package_index() -> None:
    index = re.compile(r"pypi\.org|pythonhosted|--(extra-)?index-url|registry\.npmjs")
    own = Path(__file__).resolve()
    naming = [
        path
        for path in TRACKED
        if path.resolve() != own
        and path.suffix in {".md", ".txt", ".lock", ".toml", ".in", ".py", ".sh", ""}
        and path.is_file()
        and index.search(path.read_text(errors="ignore").replace("--no-emit-index-url", ""))
    ]
    assert not naming
