"""The line to the bus comes back, whatever the server said when it hung up."""

from __future__ import annotations

import os
import signal

import pytest
from nats.aio.msg import Msg

from cairn_kit.events.bus import Bus
from cairn_kit.testing import World, eventually


async def hears(bus: Bus, heard: list[bytes]) -> None:
    async def hear(message: Msg) -> None:
        heard.append(message.data)

    await bus.client.subscribe("here", cb=hear)


async def said(bus: Bus, heard: list[bytes]) -> bool:
    await bus.client.publish("here", b"again")
    return b"again" in heard


async def test_who_is_refused_while_the_server_loads_its_accounts_anew_comes_back(world: World) -> None:
    bus, heard = await world.connection(), list[bytes]()
    await hears(bus, heard)
    configuration = world.bus.home / "nats.conf"
    before = configuration.read_text()

    def load(text: str) -> None:
        configuration.write_text(text)
        assert world.bus.pid is not None
        os.kill(world.bus.pid, signal.SIGHUP)

    load(before.replace(world.bus.token, "another"))
    await eventually(lambda: not bus.connected)
    load(before)

    await eventually(lambda: bus.connected)
    await eventually(lambda: said(bus, heard))


@pytest.mark.parametrize(
    "says",
    [
        "'user authentication expired'",
        "'authorization violation'",
        "'maximum payload violation'",
        "'stale connection'",
    ],
)
async def test_the_line_is_made_anew_whatever_the_server_said(world: World, says: str) -> None:
    bus, heard = await world.connection(), list[bytes]()
    await hears(bus, heard)

    await bus.client._process_err(says)

    await eventually(lambda: bus.generation, 1)
    await eventually(lambda: said(bus, heard))


async def test_a_line_on_which_something_is_not_permitted_goes_on(world: World) -> None:
    bus = await world.connection()
    await bus.client._process_err("'permissions violation for publish to \"here\"'")
    await bus.client.flush()
    assert bus.connected
    assert bus.generation == 0
