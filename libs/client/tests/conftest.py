"""A client on the stack that the tests of one process share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from cairn_client import AsyncCairn
from cairn_stack import PrivateStack
from cairn_stack.testing import shared_stack


@pytest.fixture
def stack() -> PrivateStack:
    return shared_stack()


@pytest.fixture
async def cairn(stack: PrivateStack) -> AsyncIterator[AsyncCairn]:
    async with AsyncCairn(home=stack.home) as client:
        yield client
