"""PostgreSQL and NATS from wheels, as a laptop runs them."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from itertools import chain
from pathlib import Path
from subprocess import PIPE

import asyncpg
import pytest

from cairn_kit.embedded import EmbeddedError, EmbeddedNats, EmbeddedPostgres
from cairn_kit.embedded.ports import hold, hold_any, port_is_free, ports_of_servers
from cairn_kit.testing import eventually
from cairn_kit.testing.scratch import remove_what_was_left, scratch_folder


@pytest.fixture
def folder() -> Iterator[Path]:
    with scratch_folder() as made:
        yield made


async def ask(server: EmbeddedPostgres, question: str) -> str:
    connection = await asyncpg.connect(server.dsn())
    try:
        return str(await connection.fetchval(question))
    finally:
        await connection.close()


async def test_postgresql_is_durable_private_and_survives_a_kill(folder: Path) -> None:
    server = EmbeddedPostgres(folder / "pg")
    server.start()
    try:
        assert await ask(server, "SHOW fsync") == "on"
        assert await ask(server, "SHOW listen_addresses") == ""
        assert (folder / "pg" / "socket").stat().st_mode & 0o077 == 0
        await ask(server, "CREATE TABLE kept AS SELECT 1 AS n")

        again = EmbeddedPostgres(folder / "pg")
        again.start()
        assert again.pid == server.pid, "a second start adopts the server that runs"

        server.kill()
        assert not server.running
        server.start()
        assert await ask(server, "SELECT n FROM kept") == "1"
    finally:
        server.stop()
    assert not server.running


async def test_postgresql_finds_a_short_place_for_its_socket(folder: Path) -> None:
    deep = folder / ("long-" * 12) / ("folder-" * 8)
    server = EmbeddedPostgres(deep / "pg", durable=False)
    server.start()
    try:
        assert await ask(server, "SELECT 1") == "1"
    finally:
        server.kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root must change into another user")
async def test_started_by_root_below_a_closed_folder_it_runs_without_opening_that_folder(
    folder: Path,
) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    server = EmbeddedPostgres(closed / "pg", durable=False)
    server.start()
    real = (closed / "pg").resolve()
    try:
        assert await ask(server, "SELECT 1") == "1"
        assert closed.stat().st_mode & 0o777 == 0o700
        assert real.is_relative_to("/var/lib/cairn")
    finally:
        server.destroy()
    assert not real.exists()
    assert not any(closed.iterdir())


async def test_postgresql_caches_in_an_eighth_of_the_memory_that_its_container_may_take(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = folder / "memory.max"
    monkeypatch.setattr("cairn_kit.embedded.postgres_server._CGROUP_LIMIT", limit)
    limit.write_text(f"{2 << 30}\n")
    server = EmbeddedPostgres(folder / "pg")
    server.start()
    try:
        assert await ask(server, "SHOW shared_buffers") == "256MB"
    finally:
        server.kill()
    limit.write_text("max\n")
    server = EmbeddedPostgres(folder / "pg")
    server.start()
    try:
        cached = await ask(
            server, "SELECT setting::int8 * 8192 FROM pg_settings WHERE name = 'shared_buffers'"
        )
        assert 128 << 20 <= int(cached) <= 4 << 30
    finally:
        server.kill()


def test_nats_syncs_always_and_comes_back_where_it_was(folder: Path) -> None:
    server = EmbeddedNats(folder / "nats")
    server.start()
    try:
        assert server.syncs_always()
        assert (folder / "nats" / "connection.json").stat().st_mode & 0o777 == 0o600
        assert (folder / "nats" / "nats.conf").stat().st_mode & 0o777 == 0o600
        where = server.url, server.token
        server.kill()
        server.start()
        assert (server.url, server.token) == where
        with pytest.raises(EmbeddedError, match="must be stopped"):
            server.wipe()
    finally:
        server.stop()


def test_a_taken_port_is_a_plain_sentence(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(EmbeddedError, match=f"port {port} is taken by another program"):
            EmbeddedNats(folder / "nats", port=port).start()


def test_a_first_start_that_loses_its_port_to_another_program_takes_another(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = hold_any()
    with socket.create_server(("127.0.0.1", lost.number)):
        held = chain([lost], iter(hold_any, None))
        monkeypatch.setattr("cairn_kit.embedded.nats_server.hold_any", lambda: next(held))
        seen = iter([True, True])  # it was free when it was looked at
        monkeypatch.setattr(
            "cairn_kit.embedded.nats_server.port_is_free", lambda port: next(seen, None) or port_is_free(port)
        )
        server = EmbeddedNats(folder / "nats")
        server.start()
        try:
            assert server.port != lost.number
        finally:
            server.stop()


def test_a_server_that_rests_finds_its_port_again_and_another_monitor_where_that_was_taken(
    folder: Path,
) -> None:
    server = EmbeddedNats(folder / "nats")
    port = server.port
    assert hold(port) is None, "nobody else can choose it, though nobody listens"

    del server  # as with the process that chose it
    again = EmbeddedNats(folder / "nats")
    monitor = int(again.monitor_url.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", monitor)):
        again.start()
        try:
            assert again.port == port
            assert again.monitor_url != f"http://127.0.0.1:{monitor}"
            assert hold(port) is None
        finally:
            again.stop()


def test_another_object_on_the_same_folder_starts_the_server_that_the_first_has_stopped(folder: Path) -> None:
    first = EmbeddedNats(folder / "nats")
    first.start()
    port = first.port
    first.stop()
    second = EmbeddedNats(folder / "nats")
    second.start()
    try:
        assert second.port == port
        first.start()
        assert first.pid == second.pid, "a second start adopts the server that runs"
        del first
        second.kill()
        assert hold(port) is None, "nobody else can choose it yet"
        second.start()
    finally:
        second.stop()


CHOOSER = """
import sys
from cairn_kit.embedded.ports import hold_any
input()
held = [hold_any() for _ in range(200)]
print(*(port.number for port in held), flush=True)
input()
"""


def test_many_who_choose_at_once_choose_apart_and_what_a_killed_one_held_is_free_again() -> None:
    start = partial(subprocess.Popen, [sys.executable, "-c", CHOOSER], stdin=PIPE, stdout=PIPE, text=True)
    with ExitStack() as exits:
        choosers = [exits.enter_context(start()) for _ in range(6)]
        exits.callback(lambda: [chooser.kill() for chooser in choosers])
        for chooser in choosers:
            print(file=chooser.stdin, flush=True)
        chosen = [set(map(int, chooser.stdout.readline().split())) for chooser in choosers]
        assert len(set.union(*chosen)) == 6 * 200
        assert not any(map(hold, chosen[0])), "though nobody listens there"

        choosers[0].kill()
        choosers[0].wait()
        free = [hold(port) for port in chosen[0]]
        assert sum(port is not None for port in free) > 190, (
            "but for what others on the machine take at this moment"
        )
        assert not any(map(hold, chosen[1]))


@pytest.mark.parametrize(
    ("given_out", "among"),
    [
        ("32768\t60999\n", range(20_000, 32_768)),
        ("1024 40000", range(40_001, 65_536)),
        ("15000 64000", range(64_001, 65_536)),
        ("1024 65535", range(20_000, 65_536)),
        (None, range(20_000, 32_768)),
    ],
)
def test_ports_are_chosen_beside_those_that_outgoing_connections_get(
    folder: Path, monkeypatch: pytest.MonkeyPatch, given_out: str | None, among: range
) -> None:
    said = folder / "ip_local_port_range"
    if given_out is not None:
        said.write_text(given_out)
    monkeypatch.setattr("cairn_kit.embedded.ports._GIVEN_OUT", said)
    assert ports_of_servers() == among


async def test_what_a_killed_test_process_left_is_ended_and_removed_and_nobody_elses(folder: Path) -> None:
    gone = await asyncio.create_subprocess_exec("true")
    await gone.wait()
    left, used, other = (
        folder / name for name in (f"cairn-{gone.pid}-a", f"cairn-{os.getpid()}-b", "cairn-c")
    )
    for each in (left, used, other):
        each.mkdir()
    server = EmbeddedPostgres(left / "pg", durable=False)
    server.start()

    remove_what_was_left(folder)

    assert (left.exists(), used.exists(), other.exists()) == (False, True, True)
    await eventually(lambda: not server.running)
