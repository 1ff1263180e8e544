"""Events doubled, shuffled, early, and a process that dies: the same votes say the same in the end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from cairn.annotation.v1.annotation_store_pb2_grpc import AnnotationStoreServiceStub
from cairn.consensus.v1 import consensus_pb2 as pb
from cairn.consensus.v1.consensus_pb2_grpc import ConsensusServiceStub
from cairn.events.v1.annotation_store_events_pb2 import AnnotationSubmitted
from cairn.events.v1.consensus_events_pb2 import ConsensusReached, ReliabilitiesRefitted
from cairn_consensus import deciding, fitting
from cairn_consensus.__main__ import SERVICE
from cairn_consensus.asking import Asking
from cairn_consensus.computing import Computing
from cairn_consensus.config import ConsensusSettings
from cairn_consensus.deciding import Deciding
from cairn_consensus.fitting import Fitting, place_of
from cairn_consensus.handlers import Handlers
from cairn_consensus.mask_blobs import MaskBlobs
from cairn_consensus.omitted_answers import OmittedAnswers
from cairn_consensus.refits import Refits
from cairn_consensus.shares import Shares
from cairn_consensus.states import States
from cairn_consensus.store import ConsensusStore
from cairn_consensus.turns import Turns
from cairn_kit.events import Event
from cairn_kit.shares import SHARES, Lines
from cairn_kit.testing import RunningService, World, eventually
from cairn_kit.wakes import Wakes

ITEMS, LABELERS, EACH = 40, 12, 4


async def conclude(api: Any) -> Any:
    request = pb.ConcludeProjectRequest(project="projects/birds", expected_annotations=ITEMS * EACH)
    return await eventually(lambda: api.ConcludeProject(request), timeout=30)


async def everything(api: Any, words: Any) -> list[bytes]:
    """Every posterior and reliability, but for how often each item was decided."""
    asked = pb.BatchGetPosteriorsRequest(
        parent="projects/birds", question="species", items=[words.item(f"i{i:03d}") for i in range(ITEMS)]
    )
    posteriors = list((await api.BatchGetPosteriors(asked)).posteriors)
    for one in posteriors:
        one.ClearField("revision")
    listed = await api.ListReliabilities(pb.ListReliabilitiesRequest(parent="projects/birds"))
    return [m.SerializeToString(deterministic=True) for m in (*posteriors, *listed.reliabilities)]


async def outcome(world: World, service: RunningService[ConsensusSettings], words: Any) -> Any:
    """What everybody is told when the project is concluded."""
    refitted = await world.listen(ReliabilitiesRefitted)
    api = service.stub(ConsensusServiceStub)
    await conclude(api)
    said = await refitted.until(lambda heard: any(e.message.votes == ITEMS * EACH for e in heard))
    return await everything(api, words), said[-1].message.state_sha256


async def run_through(folder: Path, words: Any, events: Sequence[Event], copies: Sequence[int]) -> Any:
    async with World(folder) as world:
        world.peers["annotation-store"] = "127.0.0.1:1"  # asked for nothing: every answer fits into its event
        async with world.run(SERVICE) as service:
            for event, times in zip(events, copies, strict=True):
                await world.publish(event, copies=times)
            return await outcome(world, service, words)


async def test_doubled_and_shuffled_events_say_the_same_to_the_last_bit(tmp_path: Path, words: Any) -> None:
    events = [words.created(), *words.crowd(ITEMS, LABELERS, EACH)]
    chance = random.Random(1)
    shuffled = chance.sample(events, len(events))  # answers may come before their project
    once, often = [1] * len(events), [chance.randint(2, 5) for _ in events]
    plain = await run_through(tmp_path / "plain", words, events, once)
    assert await run_through(tmp_path / "shuffled", words, shuffled, often) == plain


async def scored_and_tested(folder: Path, words: Any, **settings: Any) -> Any:
    """The outcome with items whose truth is known, and a model that changes its mind."""
    items = [f"i{i:03d}" for i in range(ITEMS)]
    gold = [words.gold(item, words.choice("robin")) for item in items[::3]]
    first, second = (dict.fromkeys(items, p) for p in ((0.9, 0.1, 0.0), (0.2, 0.6, 0.2)))
    async with World(folder) as world:
        world.peers["annotation-store"] = "127.0.0.1:1"
        async with world.run(SERVICE, **settings) as service:
            say = service.database.fetchval
            await world.publish(words.created(), *gold, words.scored(first))
            await eventually(lambda: say("SELECT count(*) FROM truth"), len(gold))
            await eventually(lambda: say("SELECT count(*) FROM score"), ITEMS)
            await world.publish(*words.crowd(ITEMS, LABELERS, EACH), words.scored(second, 2))
            await eventually(lambda: say("SELECT min(revision) FROM score"), 2)
            return await outcome(world, service, words)


async def test_where_items_rest_and_who_fits_changes_nothing_of_what_is_said(
    tmp_path: Path, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = await scored_and_tested(tmp_path / "usual", words)
    monkeypatch.setattr(fitting, "LARGE", 0)
    monkeypatch.setattr(deciding, "AT_ONCE", 7)
    assert await scored_and_tested(tmp_path / "resting", words, room_for_items=0) == usual


async def test_a_restarted_process_goes_on_as_if_it_had_never_died(
    world: World, run: Any, words: Any
) -> None:
    events = words.crowd(ITEMS, LABELERS, EACH)
    half = len(events) * 3 // 4  # past the first refit: the fitted state must be kept, too

    async def votes(service: RunningService[ConsensusSettings]) -> int:
        return int(await service.database.fetchval("SELECT count(*) FROM vote"))

    async with run() as service:
        await world.publish(words.created(), *events[:half])
        await eventually(lambda: votes(service), half)
        await eventually(lambda: service.database.fetchval("SELECT count(*) FROM refitting"), 0)
        before = await everything(service.stub(ConsensusServiceStub), words)
    async with run() as service:
        api = service.stub(ConsensusServiceStub)
        assert await everything(api, words) == before
        await world.publish(*events[half:])
        concluded = await conclude(api)
        assert concluded.votes == len(events)


async def test_every_label_is_announced_once_for_each_revision(
    world: World, words: Any, consensus: RunningService[ConsensusSettings], api: Any
) -> None:
    heard = await world.listen(ConsensusReached)
    await world.publish(words.created(), *words.crowd(ITEMS, LABELERS, EACH), copies=2)
    await conclude(api)
    await heard.until(lambda events: len({e.message.item for e in events}) == ITEMS)
    revisions = [(e.message.item, e.message.revision) for e in heard.events]
    assert len(revisions) == len(set(revisions))


async def test_a_failed_transaction_leaves_no_trace_in_memory(world: World, run: Any, words: Any) -> None:
    async with run() as service:
        heard = await world.listen(AnnotationSubmitted)
        await world.publish(words.created(), words.answer("a", "ann", "wren"))
        [event] = await heard.count(1)
        await eventually(lambda: service.database.fetchval("SELECT count(*) FROM vote"), 1)
    async with SERVICE.open(await world.settings(SERVICE)) as chassis:
        store = chassis.peers.stub(AnnotationStoreServiceStub, "annotation-store")
        kept, database, settings = ConsensusStore(), chassis.database, chassis.settings
        shares = Shares(database, kept, Lines(chassis.bus, "consensus"))
        computing = Computing(kept, settings.statement_timeout)
        held, fits = (
            States(kept, computing, shares, settings.room_for_items),
            Fitting(kept, computing, place_of(settings)),
        )
        decides, wakes = Deciding(kept, computing, held), Wakes()
        turns = Turns(database, computing)
        refits = Refits(database, kept, turns, held, shares, decides, fits, wakes, settings)
        handlers = Handlers(
            database,
            kept,
            OmittedAnswers(store),
            MaskBlobs(store),
            shares,
            turns,
            held,
            computing,
            decides,
            refits,
            Asking(database, kept, turns, held, shares, refits, wakes, settings),
            settings.max_message_bytes,
        )
        keeping = asyncio.create_task(shares.run())
        await eventually(lambda: len(shares.kept), SHARES)
        await chassis.database.execute("DELETE FROM vote")

        async def fail_at_the_end() -> None:
            async with chassis.database.transaction() as tx:
                await handlers.on_annotations(tx, [event])
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail_at_the_end()

        assert await handlers.posteriors("acme", "birds", "species", ["a"]) == []
        keeping.cancel()


async def test_an_answer_that_names_a_new_class_waits_for_the_schema_that_has_it(
    world: World, words: Any, consensus: RunningService[ConsensusSettings], api: Any
) -> None:
    await world.publish(words.created(), words.answer("a", "ann", "wren"))
    get = pb.GetPosteriorRequest(item=words.item("a"), question="species")
    await eventually(lambda: api.GetPosterior(get))

    await world.publish(words.answer("a", "bob", "owl", schema_version=2))
    question = words.question()
    question.choice.classes.add(id="owl")
    await world.publish(words.extended(question))

    async def votes() -> int:
        return int((await api.GetPosterior(get)).votes)

    await eventually(votes, 2, timeout=30)
    found = await api.GetPosterior(get)
    assert {one.class_id for one in found.classes} >= {"wren", "owl"}
    assert await consensus.database.fetchval("SELECT count(*) FROM dead_letter") == 0
