"""When a project's state in memory is made anew."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from cairn.consensus.v1 import consensus_pb2 as pb
from cairn_consensus import states
from cairn_kit.testing import World, eventually


async def test_a_refusal_leaves_the_state_in_memory_as_it_is(
    world: World, words: Any, api: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody may ask for what is not there: it must not cost a look at every vote of the project."""
    rebuilt: list[str] = []
    rebuild = states.rebuild

    def counted(project: Any, kept: Any) -> Any:
        rebuilt.append(project.name)
        return rebuild(project, kept)

    monkeypatch.setattr(states, "rebuild", counted)
    await world.publish(words.created(), words.answer("a", "ann", "wren"))
    get = pb.GetPosteriorRequest(item=words.item("a"), question="species")
    await eventually(lambda: api.GetPosterior(get))
    before = list(rebuilt)

    for refused in (
        api.GetPosterior(pb.GetPosteriorRequest(item=words.item("a"), question="bogus")),
        api.ConcludeProject(pb.ConcludeProjectRequest(project="projects/birds", expected_annotations=2)),
    ):
        with pytest.raises(grpc.aio.AioRpcError):
            await refused

    assert (await api.GetPosterior(get)).votes == 1
    assert rebuilt == before
