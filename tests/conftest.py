"""A whole stack of its own for each module that asks for one."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from cairn_client import AsyncCairn
from cairn_stack import PrivateStack


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateStack]:
    with PrivateStack(tmp_path_factory.mktemp("stack")) as running:
        yield running


@pytest_asyncio.fixture
async def client(stack: PrivateStack) -> AsyncIterator[AsyncCairn]:
    async with AsyncCairn(home=stack.home) as connected:
        yield connected


@pytest.fixture
def project(request: pytest.FixtureRequest) -> str:
    """An id that no other test of the module uses."""
    words = "".join(c if c.isalnum() else "-" for c in request.node.name.lower())
    return "t-" + "-".join(part for part in words.split("-") if part)[:56].strip("-")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share a stack run on one worker, so that a session starts as few stacks as it can."""
    for item in items:
        if "stack" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group(Path(str(item.fspath)).stem))
