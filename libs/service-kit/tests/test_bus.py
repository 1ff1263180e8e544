"""The line to the bus comes back, whatever the server said when it hung up."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from cairn_kit.events.bus import Bus, _Client
from cairn_kit.testing import World, eventually

CREDENTIALS = """-----BEGIN NATS USER JWT-----
eyJ0eXAi.eyJqdGk-_.c2ln
------END NATS USER JWT------

************************* IMPORTANT *************************
NKEY Seed printed below can be used to sign and prove identity.

-----BEGIN USER NKEY SEED-----
SUAGRKOWQZIX
------END USER NKEY SEED------
"""


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


async def test_credentials_that_cannot_be_used_now_are_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus, prove, still_bad = await world.connection(), Client._connect_command, [True, True]

    def prove_at_last(client: Client) -> bytes:
        if still_bad:
            still_bad.pop()
            raise ValueError("no seed")
        return prove(client)

    monkeypatch.setattr(Client, "_connect_command", prove_at_last)
    await bus.client._process_err("'user authentication expired'")

    await eventually(lambda: bus.generation, 1)
    assert not still_bad


async def test_a_line_on_which_something_is_not_permitted_goes_on(world: World) -> None:
    bus = await world.connection()
    await bus.client._process_err("'permissions violation for publish to \"here\"'")
    await bus.client.flush()
    assert bus.connected
    assert bus.generation == 0


def test_credentials_are_read_as_they_are_now_and_not_waited_for(tmp_path: Path) -> None:
    path, client = tmp_path / "user.creds", _Client()
    path.write_text(CREDENTIALS)
    assert client._read_creds_user_jwt(str(path)) == b"eyJ0eXAi.eyJqdGk-_.c2ln"
    assert client._read_creds_user_nkey(str(path)) == b"SUAGRKOWQZIX"

    path.write_text(CREDENTIALS.replace("eyJ0eXAi", "eyJnew"))
    assert client._read_creds_user_jwt(str(path)) == b"eyJnew.eyJqdGk-_.c2ln"

    for half_written in ("", CREDENTIALS[:20], CREDENTIALS[:40]):
        path.write_text(half_written)
        with pytest.raises(NatsError, match=r"user\.creds holds no NATS USER JWT"):
            client._read_creds_user_jwt(str(path))
