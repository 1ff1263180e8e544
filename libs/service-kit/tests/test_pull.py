"""What is taken at once, and what waits, is bounded in bytes; also what other replicas send on, which nobody asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, cast

import pytest
from nats.aio.msg import Msg

from cairn_kit.events.bus import Bus
from cairn_kit.events.pull import Pull
from cairn_kit.events.subscription import Subscription
from cairn_kit.events.topology import ensure_consumer
from cairn_kit.shares import EventsForKeepers
from cairn_kit.testing import World, eventually

LARGE = 200 * 1024


class Others:
    """Replicas that send on what they like. All that the stream gives stays here, if it is `wanted`."""

    wanted = False

    async def sent_on(self, message: Msg) -> bool:
        return False

    def bind(self, receive: Callable[[Msg], object], changed: Callable[[], object]) -> None:
        self.send = receive


@pytest.fixture
async def bus(world: World) -> Bus:
    return await world.connection()


def pulling(bus: Bus, others: Others, batch: int = 500) -> Pull:
    return Pull(bus, "sample", batch, cast(EventsForKeepers, others))


def message(bus: Bus, size: int, reply: str = "") -> Msg:
    return Msg(bus.client, "cairn.v1.acme.birds.test.large", reply, bytes(size), {})


async def test_what_was_sent_on_is_taken_two_megabytes_at_a_time(bus: Bus) -> None:
    others = Others()
    pull = pulling(bus, others)
    for size in [LARGE] * 25 + [3 * 1024 * 1024] + [1] * 10:
        others.send(message(bus, size))

    taken = [[len(one.data) for one in await pull.next(1.0)] for _ in range(5)]

    assert taken == [[LARGE] * 10, [LARGE] * 10, [LARGE] * 5, [3 * 1024 * 1024], [1] * 10]


async def test_the_stream_is_asked_for_nothing_while_two_megabytes_wait(world: World, bus: Bus) -> None:
    await ensure_consumer(bus.jetstream, "sample", [Subscription.everything(unused)])
    await world.publish_raw([("cairn.v1.acme.birds.test.small", {}, b"small")])
    others = Others()
    others.wanted = True
    pull = pulling(bus, others)
    for _ in range(25):
        others.send(message(bus, LARGE))

    assert len(await pull.next(1.0)) == 10
    await bus.client.flush()
    asked = await bus.jetstream.consumer_info("CAIRN", "sample")
    assert (asked.num_waiting, asked.num_pending) == (0, 1)

    taken: list[bytes] = []
    while b"small" not in taken:
        taken += [one.data for one in await pull.next(60.0)]
    assert len(taken) == 15 + 1


async def test_who_has_stopped_asking_and_asks_again_need_not_wait_for_the_request_of_before(
    world: World, bus: Bus
) -> None:
    await ensure_consumer(bus.jetstream, "sample", [Subscription.everything(unused)])
    pull = Pull(bus, "sample", 10)
    assert await pull.next(0.0) == []
    await pull.close()

    await world.publish_raw([("cairn.v1.acme.birds.test.small", {}, b"small")])

    assert [one.data for one in await pull.next(5.0)] == [b"small"], "silence is noticed after 7.5 s"


async def unused(*_: object) -> None:
    raise AssertionError("nothing is handled here")


async def test_small_messages_are_taken_by_number(bus: Bus) -> None:
    others = Others()
    pull = pulling(bus, others, batch=3)
    for _ in range(4):
        others.send(message(bus, 1))
    assert [len(await pull.next(1.0)) for _ in range(2)] == [3, 1]


async def test_what_is_sent_on_when_too_much_waits_already_comes_again_a_second_later(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cairn_kit.events.pull._MOST_FORWARDED", 3 * LARGE)
    others, refused = Others(), []
    pull = pulling(bus, others)

    async def on_answer(answer: Any) -> None:
        refused.append((answer.subject, answer.data))

    await bus.client.subscribe("answers.*", cb=on_answer)
    for number in range(5):
        others.send(message(bus, LARGE, f"answers.{number}"))

    a_second = b"-NAK " + json.dumps({"delay": 1_000_000_000}).encode()
    await eventually(lambda: sorted(refused), [("answers.3", a_second), ("answers.4", a_second)])
    assert len(await pull.next(1.0)) == 3

    others.send(message(bus, LARGE, "answers.5"))
    assert len(await pull.next(1.0)) == 1, "there is room again"
