"""PostgreSQL and NATS from wheels, as a laptop runs them."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from cairn_kit.embedded import EmbeddedError, EmbeddedNats, EmbeddedPostgres
from cairn_kit.embedded.process import free_port, port_is_free
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
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = iter([taken.getsockname()[1], free_port(), free_port(), free_port()])
        monkeypatch.setattr("cairn_kit.embedded.nats_server.free_port", lambda: next(ports))
        seen = iter([True, True])  # it was free when it was looked at
        monkeypatch.setattr(
            "cairn_kit.embedded.nats_server.port_is_free", lambda port: next(seen, None) or port_is_free(port)
        )
        server = EmbeddedNats(folder / "nats")
        server.start()
        try:
            assert server.port != taken.getsockname()[1]
        finally:
            server.stop()


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
