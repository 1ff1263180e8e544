"""The process that fits many votes."""

from __future__ import annotations

import asyncio
import pickle
import socket
import sys
from asyncio.subprocess import PIPE
from typing import Any

import pytest

from cairn_consensus import fitting
from cairn_consensus.__main__ import SERVICE
from cairn_consensus.computing import Computing
from cairn_consensus.domain.project_state import Fit, ProjectState
from cairn_consensus.fitting import Fitting, FittingDied, Place, _Asked
from cairn_consensus.store import ConsensusStore, ProjectKey, is_lost
from cairn_kit.testing import World

BIRDS = ProjectKey("acme", "birds")


@pytest.fixture
def silent() -> Any:
    """A DSN under which somebody listens who never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"postgresql://cairn@127.0.0.1:{server.getsockname()[1]}/cairn"


async def test_it_ends_with_the_one_who_asked(words: Any, silent: str) -> None:
    asked = _Asked(Place(silent, "consensus", 30.0), BIRDS, words.project().SerializeToString(), 0)
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", fitting.__name__, stdin=PIPE)
    assert process.stdin is not None
    process.stdin.write(pickle.dumps(asked))
    await process.stdin.drain()
    process.stdin.close()
    async with asyncio.timeout(30):
        assert await process.wait() == 1


@pytest.fixture
async def making(world: World, words: Any) -> Any:
    """Has fits made by a process, of what is at a place."""
    database, store = await world.database("consensus", SERVICE.migrations), ConsensusStore()

    async def make(place: Place) -> Fit:
        fits = Fitting(store, Computing(store, 30.0), place)
        async with database.transaction() as tx:
            making = await fits.begin(tx, BIRDS, ProjectState(words.project()))
        return await making()

    return make


@pytest.mark.parametrize("limit", ["LARGE", "LARGE_BYTES"])
async def test_of_one_that_died_it_is_said_so(
    world: World, making: Any, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    """Which makes the fits of many answers, and of large ones."""
    monkeypatch.setattr(fitting, limit, 0)
    with pytest.raises(FittingDied, match="exit status"):
        await making(Place(await world.dsn("consensus"), "nowhere", 30.0))


async def test_one_that_lost_its_server_is_no_failure_of_the_fit(
    making: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "LARGE", 0)
    with pytest.raises(ConnectionError) as lost:
        await making(Place("postgresql://cairn@127.0.0.1:1/cairn", "consensus", 30.0))
    assert is_lost(lost.value)
