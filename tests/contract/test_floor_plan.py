"""Every service stands on the same floor plan, and data flows one way through it."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVICES = sorted(path.parent for path in ROOT.glob("services/*/pyproject.toml"))
ROOMS = (
    "__main__.py",
    "config.py",
    "domain",
    "handlers.py",
    "rpc.py",
    "subscriptions.py",
    "store.py",
)


def package(service: Path) -> Path:
    return service / "src" / f"cairn_{service.name.replace('-', '_')}"


def modules(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def imports(module: Path) -> set[str]:
    """Full names of everything that a module imports."""
    names = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def reads_environment(module: Path) -> bool:
    return any(
        isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"}
        for node in ast.walk(ast.parse(module.read_text()))
    )


@pytest.mark.parametrize("service", SERVICES, ids=lambda path: path.name)
def test_every_service_has_the_same_rooms(service: Path) -> None:
    # A room that has outgrown one file is a folder of the same name.
    missing = [
        room
        for room in ROOMS
        if not (package(service) / room).exists()
        and not (package(service) / room.removesuffix(".py")).is_dir()
    ]
    assert not missing, f"{service.name} has no {', '.join(missing)}"
    assert sorted((package(service) / "sql").glob("*.sql")), f"{service.name} names no queries"
    assert sorted((package(service) / "sql/migrations").glob("0001_*.sql"))
    assert (service / "README.md").exists()


@pytest.mark.parametrize("service", SERVICES, ids=lambda path: path.name)
def test_only_the_store_speaks_sql(service: Path) -> None:
    callers = {
        str(module.relative_to(package(service)))
        for module in modules(package(service))
        if any(
            name == "asyncpg" or name.startswith("asyncpg.") or name.endswith("database.Queries")
            for name in imports(module)
        )
    }
    assert callers <= {"store.py"} | {c for c in callers if c.startswith("store/")}, (
        f"SQL outside the store: {callers}"
    )


@pytest.mark.parametrize("service", SERVICES, ids=lambda path: path.name)
def test_only_the_wiring_reads_the_environment(service: Path) -> None:
    readers = {module.name for module in modules(package(service)) if reads_environment(module)}
    assert readers <= {"__main__.py", "config.py"}


def test_truth_is_numbers_alone() -> None:
    allowed = set(sys.stdlib_module_names) | {"numpy", "scipy", "cairn_truth"}
    for module in modules(ROOT / "libs/truth/src"):
        foreign = {name.split(".")[0] for name in imports(module)} - allowed
        assert not foreign, f"{module.relative_to(ROOT)} imports {foreign}"


@pytest.mark.parametrize("service", SERVICES, ids=lambda path: path.name)
def test_grpc_is_told_before_it_is_imported_that_nothing_forks(service: Path) -> None:
    told = """
import importlib, os, sys

def look(event, details):
    if event == "import" and details[0] == "grpc":
        print(os.environ.get("GRPC_ENABLE_FORK_SUPPORT"), flush=True)
        os._exit(0)

sys.addaudithook(look)
importlib.import_module(sys.argv[1])
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GRPC_")}
    done = subprocess.run(
        [sys.executable, "-c", told, f"{package(service).name}.__main__"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "0", done.stderr
