"""Fixtures: `from cairn_kit.testing.fixtures import *` in a conftest.py.

Each test process has one PostgreSQL; each test has its own databases and its own nats-server, so that tests can run in
any order, at the same time, and may do to the bus what they like.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from cairn_kit.testing.world import World

__all__ = ["world"]


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A fresh world."""
    async with World(tmp_path) as fresh:
        yield fresh
