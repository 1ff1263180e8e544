"""What an operator sees: a service as a process, and plain sentences when it cannot run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
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


class Program:
    """The sample service as a process."""

    def __init__(self, world: World, environment: dict[str, str]) -> None:
        self.script = world.folder / "program.py"
        self.script.write_text(PROGRAM.format(folder=str(Path(__file__).parent)))
        self.environment = {**os.environ, **environment}

    def run(self, *arguments: str, **changes: str | None) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in (self.environment | changes).items() if v is not None}
        return subprocess.run(
            [sys.executable, str(self.script), *arguments],
            env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(self.script)],
            env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip


@pytest.fixture
async def program(world: World, sample: Any) -> Program:
    settings = await world.settings(sample.service)
    return Program(
        world,
        {
            "CAIRN_POSTGRES_DSN": settings.postgres_dsn.get_secret_value(),
            "CAIRN_NATS_URL": world.bus.url,
            "CAIRN_NATS_TOKEN": world.bus.token,
            "CAIRN_JWKS_FILE": str(settings.jwks_file),
            "CAIRN_SERVICE_KEY_FILE": str(settings.service_key_file),
            "CAIRN_BOUND_FILE": str(world.folder / "bound.json"),
        },
    )


async def test_it_migrates_serves_tells_where_and_stops_when_told(world: World, program: Program) -> None:
    assert program.run("migrate").returncode == 0
    process = program.start()
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
        ({"CAIRN_POSTGRES_DSN": "postgresql://x@127.0.0.1:1/x"}, "PostgreSQL cannot be used: "),
        ({"CAIRN_NATS_URL": "nats://127.0.0.1:1"}, "NATS cannot be reached at nats://127.0.0.1:1"),
        ({"CAIRN_NATS_TOKEN": "wrong"}, "NATS cannot be reached at "),
        ({"CAIRN_JWKS_FILE": "/nowhere.json"}, "The key set /nowhere.json cannot be read"),
        ({"CAIRN_SERVICE_NAME": "stranger"}, "Schema stranger lacks "),
    ],
)
async def test_what_an_operator_can_mend_is_one_sentence(
    program: Program, changes: dict[str, str | None], sentence: str
) -> None:
    done = program.run(**changes)  # type: ignore[arg-type]
    assert done.returncode == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


async def test_dead_letters_and_republishing_have_commands(program: Program) -> None:
    assert program.run("dead-letters", "list").stdout == ""
    assert program.run("dead-letters", "replay", "--all").stdout.startswith("0 dead letters")
    assert program.run("republish", "--since", "2026-01-31T00:00Z").stdout.startswith("0 events")
    assert program.run("dead-letters", "replay").returncode == 2
