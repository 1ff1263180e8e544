"""Stacks of two tiny services: everything else (PostgreSQL, NATS, the supervisor, the ports) is real."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cairn_kit.testing.scratch import scratch_folder
from cairn_stack import ServiceSpec, StackStatus, api

TINY = Path(__file__).parent / "tiny"


@dataclass(frozen=True)
class Stack:
    """One home and the calls of the API on it."""

    home: Path
    services: tuple[ServiceSpec, ...]

    def up(self, **asked: Any) -> StackStatus:
        # The owner: a test run that is killed leaves nothing running.
        return api.up(self.home, **{"services": self.services, "owner": os.getpid(), "timeout": 40, **asked})

    def status(self) -> StackStatus:
        return api.status(self.home)

    def log(self, name: str) -> str:
        return "\n".join(line for _, line in api.logs(self.home, name, lines=1000))


@pytest.fixture(scope="module", autouse=True)
def _tiny_service_is_importable() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TINY)
        patch.setenv("PYTHONPATH", f"{TINY}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        yield


@pytest.fixture(scope="module")
def services() -> tuple[ServiceSpec, ...]:
    """Two tiny services under the names of real ones."""
    return (ServiceSpec("consensus", "tiny_service"), ServiceSpec("audit", "tiny_service"))


@pytest.fixture
def short_folder() -> Iterator[Path]:
    with scratch_folder() as folder:
        yield folder


@pytest.fixture
def stack(short_folder: Path, services: tuple[ServiceSpec, ...]) -> Iterator[Stack]:
    """A stack that was never started."""
    home = short_folder / "home"
    yield Stack(home, services)
    api.remove(home)


@pytest.fixture(scope="module")
def _used_home(services: tuple[ServiceSpec, ...]) -> Iterator[Stack]:
    with scratch_folder() as folder:
        stack = Stack(folder / "home", services)
        yield stack
        api.remove(stack.home)


@pytest.fixture
def used(_used_home: Stack) -> Iterator[Stack]:
    """A stack that is stopped, and may have been up before: making a database takes the longest."""
    api.down(_used_home.home)
    yield _used_home
    api.down(_used_home.home)


@pytest.fixture
def running(_used_home: Stack) -> Stack:
    """A stack that is ready, for tests that leave it so."""
    _used_home.up()
    return _used_home
