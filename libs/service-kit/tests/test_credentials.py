"""A server of operators and accounts takes our credentials, and renewed ones when the first have expired."""

from __future__ import annotations

import binascii
import json
import subprocess
import time
from base64 import b32encode, urlsafe_b64encode
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nats.errors import Error as NatsError
from structlog.testing import capture_logs

from cairn_kit.embedded.nats_server import _binary
from cairn_kit.embedded.ports import hold_any
from cairn_kit.events.bus import Bus, BusAddress, BusError
from cairn_kit.events.credentials import signature, user_jwt
from cairn_kit.testing import eventually

OPERATOR, ACCOUNT, USER, SEED = (n << 3 for n in (14, 0, 20, 18))
UNLIMITED = dict.fromkeys(
    ("subs", "data", "payload", "imports", "exports", "conn", "leaf", "mem_storage", "disk_storage"), -1
)
CREDENTIALS = """-----BEGIN NATS USER JWT-----
{jwt}
------END NATS USER JWT------

************************* IMPORTANT *************************
NKEY Seed printed below can be used to sign and prove identity.

-----BEGIN USER NKEY SEED-----
{seed}
------END USER NKEY SEED------
"""


def encoded(*parts: bytes) -> str:
    body = b"".join(parts)
    return b32encode(body + binascii.crc_hqx(body, 0).to_bytes(2, "little")).decode().rstrip("=")


class Key:
    """A key of an operator, an account or a user."""

    def __init__(self, kind: int) -> None:
        self.kind = kind
        self.private = Ed25519PrivateKey.generate()

    @property
    def public(self) -> str:
        return encoded(bytes([self.kind]), self.private.public_key().public_bytes_raw())

    @property
    def seed(self) -> str:
        kind = bytes([SEED | self.kind >> 5, (self.kind & 31) << 3])
        return encoded(kind, self.private.private_bytes_raw())

    def says(self, of: Key, kind: str, lasts: float | None = None, **more: Any) -> str:
        """A JWT by this key of another, or of itself."""
        claims = {"jti": "-", "iat": int(time.time()), "iss": self.public, "sub": of.public, "name": kind}
        claims |= {"nats": {"type": kind, "version": 2, **more}}
        claims |= {} if lasts is None else {"exp": int(time.time() + lasts)}
        parts = ({"typ": "JWT", "alg": "ed25519-nkey"}, claims)
        signed = ".".join(_url(json.dumps(part).encode()) for part in parts)
        return f"{signed}.{_url(self.private.sign(signed.encode()))}"


def _url(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


class Account:
    """An account of a server that an operator runs."""

    def __init__(self, folder: Path) -> None:
        self.operator, self.key, self.user = Key(OPERATOR), Key(ACCOUNT), Key(USER)
        self.held = hold_any()
        self.port = self.held.number
        self.credentials = folder / "user.creds"
        self.configuration = folder / "nats.conf"
        account = self.operator.says(self.key, "account", limits=UNLIMITED | {"wildcards": True})
        self.configuration.write_text(
            f"""
            listen: "127.0.0.1:{self.port}"
            operator: "{self.operator.says(self.operator, "operator")}"
            resolver: MEMORY
            resolver_preload: {{ {self.key.public}: "{account}" }}
            """
        )

    def let_in(self, lasts: float | None = None) -> None:
        """Write credentials of the user."""
        jwt = self.key.says(self.user, "user", lasts, pub={}, sub={}, subs=-1, data=-1, payload=-1)
        self.credentials.write_text(CREDENTIALS.format(jwt=jwt, seed=self.user.seed))

    def bus(self) -> Bus:
        return Bus(BusAddress(f"nats://127.0.0.1:{self.port}", credentials=str(self.credentials)), "test")


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    made = Account(tmp_path)
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen([_binary(), "-c", made.configuration], stdout=log, stderr=log)
    try:
        yield made
    finally:
        server.kill()
        server.wait()


async def opened(account: Account) -> Bus:
    async def once_it_listens() -> Bus | None:
        bus = account.bus()
        try:
            await bus.open()
        except BusError:
            await bus.close()
            return None
        return bus

    return await eventually(once_it_listens)


async def test_who_has_credentials_is_let_in_and_nobody_else(account: Account) -> None:
    account.let_in()
    bus = await opened(account)
    assert bus.connected
    await bus.close()

    stranger = Account(account.credentials.parent)
    stranger.port = account.port
    stranger.let_in()
    refused = stranger.bus()
    with pytest.raises(BusError, match=r"(?i)authorization"):
        await refused.open()
    await refused.close()


@pytest.mark.parametrize(
    ("meanwhile", "why"),
    [("half written", "holds no USER NKEY SEED"), (CREDENTIALS, "holds no NATS USER JWT")],
)
async def test_credentials_that_are_renewed_are_used_when_the_first_have_expired(
    account: Account, meanwhile: str, why: str
) -> None:
    account.let_in()
    await (await opened(account)).close()  # it listens
    account.let_in(lasts=5.0)
    bus = await opened(account)
    damaged = meanwhile.format(jwt="\xff.\xff.\xff", seed=account.user.seed)
    account.credentials.write_text(damaged, encoding="latin-1")
    with capture_logs() as logged:
        await eventually(lambda: times_said(why, logged))
        assert not bus.connected
        account.let_in()
        await eventually(lambda: bus.generation, 1)
    assert bus.connected
    assert times_said(why, logged) == 1, "however often it was tried"
    await bus.close()


def times_said(why: str, logged: list[MutableMapping[str, Any]]) -> int:
    return sum(line["log_level"] == "warning" and why in line.get("error", "") for line in logged)


def test_what_a_file_does_not_hold_is_said_and_not_waited_for(tmp_path: Path) -> None:
    path, good = tmp_path / "user.creds", CREDENTIALS.format(jwt="eyJ0.eyJq-_.c2ln", seed=Key(USER).seed)
    path.write_text(good)
    assert user_jwt(path) == b"eyJ0.eyJq-_.c2ln"
    assert len(signature(path, "nonce")) == 88
    for broken in ("", good[:20], good[:40], good.replace("eyJ0", "eyJ\xff")):
        path.write_text(broken, encoding="latin-1")
        with pytest.raises(NatsError, match=r"user\.creds holds no NATS USER JWT"):
            user_jwt(path)
    user = Key(USER).seed
    misread = f"{user[:20]}{'A' if user[20] == 'B' else 'B'}{user[21:]}"
    for seed in ("SUAGRKOWQZIX", Key(ACCOUNT).seed, misread, user.lower()):
        path.write_text(CREDENTIALS.format(jwt="a.b.c", seed=seed))
        with pytest.raises(NatsError, match="holds no seed of a user's key"):
            signature(path, "nonce")
