"""The stack that tests of a worker share, and a project of each test's own."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from cairn_client import AsyncCairn
from cairn_stack import PrivateStack
from cairn_stack.testing import shared_stack


@pytest.fixture
def stack() -> PrivateStack:
    return shared_stack()


@pytest_asyncio.fixture
async def client(stack: PrivateStack) -> AsyncIterator[AsyncCairn]:
    async with AsyncCairn(home=stack.home) as connected:
        yield connected


@pytest.fixture
def project(request: pytest.FixtureRequest) -> str:
    """An id that no other test of the module uses."""
    words = "".join(c if c.isalnum() else "-" for c in request.node.name.lower())
    return "t-" + "-".join(part for part in words.split("-") if part)[:56].strip("-")
