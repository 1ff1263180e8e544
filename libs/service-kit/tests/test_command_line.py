"""What an operator sees: a service as a process, and plain sentences when it cannot run."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cairn_kit.testing import World, eventually

PROGRAM = """
import sys
sys.path.insert(0, {folder!r})
from conftest import Sample
Sample().service.main()
"""


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


class Program:
    """The sample service as a command."""

    def __init__(self, service: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
        self._service = service
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def set(self, changes: dict[str, str | None]) -> None:
        for name, value in changes.items():
            if value is None:
                self._monkeypatch.delenv(name)
            else:
                self._monkeypatch.setenv(name, value)

    async def run(self, *arguments: str) -> Done:
        """Run it in a thread of its own, as a process would, without the second that Python takes to start."""
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            await asyncio.to_thread(self._service.main, arguments)
        captured = self._capsys.readouterr()
        return Done(int(ended.value.code or 0), captured.out, captured.err)


@pytest.fixture
async def program(
    world: World, sample: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> AsyncIterator[Program]:
    settings = await world.settings(sample.service)
    made = Program(sample.service, monkeypatch, capsys)
    for name in [name for name in os.environ if name.startswith("CAIRN_")]:
        monkeypatch.delenv(name)
    made.set(
        {
            "CAIRN_POSTGRES_DSN": settings.postgres_dsn.get_secret_value(),
            "CAIRN_NATS_URL": world.bus.url,
            "CAIRN_NATS_TOKEN": world.bus.token,
            "CAIRN_JWKS_FILE": str(settings.jwks_file),
            "CAIRN_SERVICE_KEY_FILE": str(settings.service_key_file),
            "CAIRN_BOUND_FILE": str(world.folder / "bound.json"),
        }
    )
    handlers = logging.getLogger().handlers
    yield made
    logging.getLogger().handlers = handlers


async def test_it_migrates_serves_tells_where_and_stops_when_told(world: World, program: Program) -> None:
    assert (await program.run("migrate")).code == 0
    script = world.folder / "program.py"
    script.write_text(PROGRAM.format(folder=str(Path(__file__).parent)))
    process = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, str(script)], stderr=subprocess.PIPE, text=True
    )
    try:
        bound = await eventually(lambda: json.loads((world.folder / "bound.json").read_text()))
        assert bound["pid"] == process.pid

        def get(path: str) -> tuple[int, str]:
            try:
                with urllib.request.urlopen(f"http://{bound['http']}{path}", timeout=5) as answer:
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as error:
                return error.code, error.read().decode()

        await eventually(lambda: get("/readyz"), (200, "ready\n"))
        assert get("/livez")[0] == 200
        assert "cairn_outbox_waiting 0.0" in get("/metrics")[1]
        assert get("/secrets")[0] == 404
    finally:
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)
    assert process.returncode == 0
    events = [json.loads(line)["event"] for line in log.splitlines()]
    assert events[0] == "service.ready"
    assert events[-1] == "service.stopped"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"CAIRN_POSTGRES_DSN": None}, "The settings are wrong. CAIRN_POSTGRES_DSN: is missing."),
        ({"CAIRN_LISTEN": "nowhere"}, "CAIRN_LISTEN: 'nowhere' is not host:port"),
        (
            {"CAIRN_PEERS__AUDIT": "a:1,b:2"},
            "'a:1,b:2' is neither host:port nor, for several replicas, ip:port",
        ),
        ({"CAIRN_POSTGRES_DSN": "postgresql://x@127.0.0.1:1/x"}, "PostgreSQL cannot be used: "),
        ({"CAIRN_NATS_URL": "nats://127.0.0.1:1"}, "NATS cannot be reached at nats://127.0.0.1:1"),
        ({"CAIRN_NATS_TOKEN": "wrong"}, "Authorization Violation"),
        ({"CAIRN_JWKS_FILE": "/nowhere.json"}, "The key set /nowhere.json cannot be read"),
        ({"CAIRN_SERVICE_NAME": "stranger"}, "Schema stranger lacks "),
    ],
)
async def test_what_an_operator_can_mend_is_one_sentence(
    program: Program, changes: dict[str, str | None], sentence: str
) -> None:
    program.set(changes)
    done = await program.run()
    assert done.code == 1
    assert sentence in done.err
    assert len(done.err.strip().splitlines()) == 1


async def test_a_misspelt_setting_is_told_with_the_nearest_one(program: Program) -> None:
    program.set({"CAIRN_TLS_CERTIFICAT": "x", "CAIRN_POSTGRE_DSN": "x", "CAIRN_PEERS__AUDIT": "audit:1"})
    done = await program.run("dead-letters", "list")
    assert done.code == 0, "another service's settings may stand in the same environment"
    assert [json.loads(line)["why"] for line in done.err.splitlines()] == [
        "CAIRN_POSTGRE_DSN is no setting of sample and is ignored; the nearest is CAIRN_POSTGRES_DSN.",
        "CAIRN_TLS_CERTIFICAT is no setting of sample and is ignored; the nearest is CAIRN_TLS_CERTIFICATE.",
    ]


async def test_a_taken_address_is_one_sentence(program: Program) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        program.set({"CAIRN_LISTEN": f"127.0.0.1:{taken.getsockname()[1]}"})
        done = await program.run()
    assert done.code == 1
    assert done.err.strip().splitlines()[-1].endswith("the address is taken.")


async def test_dead_letters_and_republishing_have_commands(program: Program) -> None:
    assert (await program.run("dead-letters", "list")).out == ""
    assert (await program.run("dead-letters", "replay", "--all")).out.startswith("0 dead letters")
    assert (await program.run("republish", "--since", "2026-01-31T00:00Z")).out.startswith("0 events")
    assert (await program.run("dead-letters", "replay")).code == 2
