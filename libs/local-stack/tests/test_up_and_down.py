"""A stack starts, tells where it listens, keeps its data, and ends without a trace of a process."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest

if TYPE_CHECKING:
    from conftest import Stack

from cairn_kit.auth.keys import KeyRing
from cairn_stack import SERVICES, PrivateStack, ServiceSpec, StackError, StackState, api
from cairn_stack.catalog import SAMPLING_KEY
from cairn_stack.environment import environment_of, postgres_of
from cairn_stack.home import Home
from cairn_stack.options import Options
from cairn_stack.ports import Ports
from cairn_stack.processes import ProcessId


def dsn_of(stack: Stack, spec: ServiceSpec) -> str:
    home = Home(stack.home)
    return environment_of(spec, home, Options.read(home), Ports.read(home))["CAIRN_POSTGRES_DSN"]


def run_sql(dsn: str, statement: str) -> list[asyncpg.Record]:
    async def go() -> list[asyncpg.Record]:
        database = await asyncpg.connect(dsn)
        try:
            return await database.fetch(statement)
        finally:
            await database.close()

    return asyncio.run(go())


def test_up_is_ready_and_down_leaves_no_process(stack: Stack) -> None:
    told: list[str] = []
    up = stack.up(progress=told.append)
    assert up.ready
    assert up.problems == ()
    assert set(up.addresses) == {"consensus", "audit"}
    assert told[-1] == "applying migrations and starting the services"
    everything = [p.process for p in up.processes] + [up.supervisor]
    assert all(process is not None and process.alive for process in everything)

    assert api.down(stack.home)
    assert not any(process.alive for process in everything if process)
    assert stack.status().state is StackState.STOPPED
    assert "consensus drained" in stack.log("consensus"), "services are asked to end, not killed"
    assert not api.down(stack.home), "nothing runs any more"


def test_data_ports_and_keys_survive_a_restart(used: Stack) -> None:
    first = used.up()
    run_sql(dsn_of(used, used.services[0]), "INSERT INTO kept VALUES ('kept')")
    key = KeyRing(used.home / "keys").users_key().jwk.thumbprint()
    nats_token = (used.home / "nats" / "connection.json").read_text()
    api.down(used.home)

    second = used.up()
    assert second.addresses == first.addresses
    assert (used.home / "nats" / "connection.json").read_text() == nats_token
    assert KeyRing(used.home / "keys").users_key().jwk.thumbprint() == key
    assert run_sql(dsn_of(used, used.services[0]), "SELECT word FROM kept")[0]["word"] == "kept"


def test_up_twice_is_one_stack(running: Stack) -> None:
    first, second = running.up(), running.up()
    assert second.ready
    assert second.supervisor == first.supervisor


def test_it_is_durable_and_private(running: Stack) -> None:
    home = Home(running.home)
    for spec in running.services:
        dsn = dsn_of(running, spec)
        [durable] = run_sql(
            dsn, "SELECT current_setting('fsync') || current_setting('synchronous_commit') AS settings"
        )
        assert durable["settings"] == "onon"
    connection = json.loads((running.home / "nats" / "connection.json").read_text())
    with urllib.request.urlopen(f"http://127.0.0.1:{connection['monitor_port']}/jsz?config=1") as answer:
        assert json.load(answer)["config"]["sync_always"] is True
    for secret in (
        home.passwords,
        home.profile,
        home.options,
        home.ledger_key,
        home.keys / SAMPLING_KEY,
        *home.keys.glob("*.key.json"),
    ):
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600, secret
    for folder in (home.keys, home.nats, home.blobs, home.root / "logs", home.postgres.resolve()):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder


def test_inference_is_told_this_stacks_own_sampling_key(running: Stack) -> None:
    home = Home(running.home)
    [inference] = [spec for spec in SERVICES if spec.name == "inference"]
    spec = replace(inference, name=running.services[0].name)  # this stack runs tiny services under two names
    told = environment_of(spec, home, Options.read(home), Ports.read(home))
    assert told["CAIRN_SAMPLING_KEY"] == (home.keys / SAMPLING_KEY).read_text() != ""


def test_a_role_owns_its_schema_and_nothing_else(running: Stack) -> None:
    dsn = dsn_of(running, running.services[0])
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        run_sql(dsn, "SELECT * FROM audit.kept")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        run_sql(dsn, "CREATE TABLE public.mine (a int)")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        run_sql(dsn, "CREATE SCHEMA mine")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        run_sql(dsn.replace("/cairn?", "/postgres?"), "SELECT 1")
    postgres = postgres_of(Home(running.home), Options())
    for role in ("consensus", "postgres"):
        with pytest.raises(asyncpg.InvalidPasswordError):
            run_sql(postgres.dsn("cairn", role).replace("@", ":guessed@"), "SELECT 1")


def test_two_stacks_run_side_by_side(
    running: Stack, services: tuple[ServiceSpec, ...], tmp_path: Path
) -> None:
    ours = running.up()
    with PrivateStack(tmp_path, services=services) as other:
        theirs = other.status
        assert theirs.ready
        listening = [p.address for status in (ours, theirs) for p in status.processes]
        assert len(set(listening)) == len(listening)
        other.kill("consensus")
        other.wait_until_ready()
        assert running.status().ready
    assert not other.home.exists()
    assert running.status().ready


async def test_a_private_stack_is_gone_when_a_test_fails(
    services: tuple[ServiceSpec, ...], tmp_path: Path
) -> None:
    deep = tmp_path / ("long-" * 25)  # too long for a socket, which is no obstacle
    deep.mkdir()
    stack = PrivateStack(deep, services=services[:1])
    home = Home(stack.home)

    async def fail_inside() -> None:
        async with stack:
            assert stack.status.ready
            assert home.control.exists()
            running.append(stack.status.supervisor)
            _ = 1 / 0

    running: list[ProcessId | None] = []
    with pytest.raises(ZeroDivisionError):
        await fail_inside()
    assert isinstance(running[0], ProcessId)
    assert not running[0].alive
    assert not stack.home.exists()
    assert not home.control.parent.exists()


def test_a_service_that_is_not_installed_is_told_and_the_rest_runs(used: Stack) -> None:
    up = used.up(services=[used.services[0], ServiceSpec("inference", "cairn_not_there")])
    assert up.state is StackState.DEGRADED
    assert up.process("consensus").pid is not None
    assert up.problems == ("inference is missing: cairn_not_there is not installed here.",)


def test_a_stack_that_never_was_is_simply_stopped(tmp_path: Path) -> None:
    assert api.status(tmp_path / "none").state is StackState.STOPPED
    assert not api.down(tmp_path / "none")
    with pytest.raises(StackError, match="There is no stack"):
        api.profile(tmp_path / "none")
    with pytest.raises(StackError, match="does not run"):
        api.wipe_jetstream(tmp_path / "none")


def test_every_service_is_in_the_catalog_and_migrates_from_where_the_floor_plan_says() -> None:
    assert len(SERVICES) == 5
    for spec in SERVICES:
        assert spec.installed
        assert spec.migrations() is not None


def test_the_home_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CAIRN_HOME", str(tmp_path / "x"))
    assert api.default_home() == tmp_path / "x"
    monkeypatch.delenv("CAIRN_HOME")
    assert api.default_home() == Path.home() / ".cairn"


def test_it_ends_when_its_owner_is_gone(used: Stack) -> None:
    owner = os.fork()
    if owner == 0:
        os.read(os.pipe()[0], 1)  # until killed
    up = used.up(owner=owner)
    os.kill(owner, 9)
    os.waitpid(owner, 0)
    assert isinstance(up.supervisor, ProcessId)
    assert api.wait_for(lambda: not used.status().running, 20)


def test_replicas_run_side_by_side_and_are_restarted_in_turn(used: Stack) -> None:
    before = used.up(replicas=2)
    names = {"consensus", "consensus-2", "audit", "audit-2"}
    assert set(before.addresses) == names
    both = f"{before.addresses['consensus']},{before.addresses['consensus-2']}"
    assert api.profile(used.home)["services"]["consensus"] == both

    api.restart_in_turn(used.home)

    after = used.status()
    assert after.addresses == before.addresses
    assert not {after.pid(name) for name in names} & {before.pid(name) for name in names}
    for name in names:
        assert f"{name.removesuffix('-2')} drained" in used.log(name)


def test_fewer_than_one_replica_is_refused(stack: Stack) -> None:
    with pytest.raises(StackError, match="one at least"):
        stack.up(replicas=0)
