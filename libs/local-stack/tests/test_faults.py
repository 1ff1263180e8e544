"""What goes wrong on a laptop is told in a plain sentence, and mended where it can be."""

from __future__ import annotations

import ctypes
import ctypes.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cairn_stack import ProcessState, StackError, StackState, api
from cairn_stack.errors import means_full_disk
from cairn_stack.home import Home
from cairn_stack.keys import ensure_keys
from cairn_stack.leftovers import servers_running
from cairn_stack.options import Options
from cairn_stack.ports import Ports
from cairn_stack.processes import ProcessId, wait_for

if TYPE_CHECKING:
    from conftest import Stack


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_every_process_comes_back_after_kill_9(running: Stack) -> None:
    before = running.status()
    for name in ("consensus", "audit", "nats", "postgres"):
        died = api.kill(name, running.home)
        after = api.wait_until_ready(running.home, timeout=30).process(name)
        assert after.pid not in {None, died}
        assert after.restarts == before.process(name).restarts + 1
        assert after.address == before.process(name).address
    with pytest.raises(StackError, match="inference is none of"):
        api.kill("inference", running.home)


def test_servers_restart_and_the_bus_is_wiped_under_running_services(running: Stack) -> None:
    before = running.status()
    api.restart_postgres(running.home)
    stream = running.home / "nats" / "jetstream" / "anything"
    stream.parent.mkdir(exist_ok=True)
    stream.touch()
    api.wipe_jetstream(running.home)
    assert not stream.exists()
    after = api.wait_until_ready(running.home)
    for name in ("postgres", "nats"):
        assert after.pid(name) != before.pid(name)
    assert after.pid("consensus") == before.pid("consensus")
    said = api.run_in_services(running.home, "republish")
    assert said["audit"] == "audit sent its outbox again\n"


def test_a_stack_that_runs_does_not_pretend_to_have_become_more(running: Stack) -> None:
    with pytest.raises(StackError, match="To have 2, stop it first"):
        api.up(running.home, replicas=2)
    assert api.up(running.home).ready


def test_a_pinned_port_that_is_taken_is_refused_with_its_holder(stack: Stack, taken_port: int) -> None:
    with pytest.raises(StackError) as refusal:
        stack.up(ports={"audit": taken_port})
    assert f"Port {taken_port}, which was asked for audit, is taken by" in str(refusal.value)
    assert f"(pid {os.getpid()})" in str(refusal.value)
    assert stack.status().state is StackState.STOPPED
    with pytest.raises(StackError, match="There is no colour to give a port to"):
        stack.up(ports={"colour": 1})


def test_a_kept_port_that_is_taken_is_chosen_again(used: Stack) -> None:
    first = used.up(ports={})
    api.down(used.home)
    taken = [("127.0.0.1", int(first.process(name).address.split(":")[1])) for name in ("audit", "nats")]
    with socket.create_server(taken[0]), socket.create_server(taken[1]):
        second = used.up()
    assert second.ready
    assert second.addresses["audit"] != first.addresses["audit"]
    assert second.process("nats").address != first.process("nats").address
    assert second.addresses["consensus"] == first.addresses["consensus"]


def test_no_stack_chooses_what_another_has_chosen_though_nobody_listens_there(tmp_path: Path) -> None:
    first, second = (Home(tmp_path / name) for name in ("first", "second"))
    for home in (first, second):
        home.root.mkdir()
    ports = Ports.choose(first, Options(replicas=2))
    shutil.copy(first.ports, second.ports)

    others = Ports.choose(second, Options(replicas=2))
    assert not numbers(ports) & numbers(others)
    with pytest.raises(StackError, match=rf"asked for nats, is taken by .+ \(pid {os.getpid()}\)"):
        Ports.choose(second, Options(ports={"nats": ports.nats}))

    before = numbers(ports)
    del ports  # as the end of its supervisor does
    assert numbers(Ports.choose(first, Options(replicas=2))) == before


def numbers(ports: Ports) -> set[int]:
    return {ports.nats, *ports.grpc.values(), *ports.http.values()}


def test_a_port_is_pinned_whatever_has_the_same_number_of_another_protocol(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
        connection.bind(("127.0.0.1", 0))
        port = connection.getsockname()[1]
        assert Ports.choose(home, Options(ports={"audit": port})).grpc["audit"] == port


def test_a_pid_that_now_belongs_to_another_program_is_noticed(used: Stack) -> None:
    used.up()
    api.down(used.home)
    with subprocess.Popen(["sleep", "60"]) as somebody:
        # Their pids are now in our files, as after a reboot.
        state = json.loads((used.home / "state.json").read_text())
        state |= {"state": "ready", "supervisor": {"pid": somebody.pid, "started": 1_000_000_000.0}}
        for process in state["processes"]:
            process |= {"state": "ready", "process": {"pid": somebody.pid, "started": 1_000_000_000.0}}
        (used.home / "state.json").write_text(json.dumps(state))
        (used.home / "nats" / "nats.pid").write_text(f"{somebody.pid}\n")
        try:
            assert used.status().state is StackState.STOPPED
            assert not api.down(used.home)
            assert used.up().ready
            assert somebody.poll() is None, "a stranger's process is not ours to stop"
        finally:
            somebody.kill()


def test_a_crash_loop_is_told_with_the_last_words_and_the_rest_stays_up(used: Stack) -> None:
    with pytest.raises(StackError) as told:
        used.up(environment={"TINY_BREAK": "audit"})
    sentence = str(told.value)
    assert "audit cannot start: it ended with exit code 1" in sentence
    assert "saying: audit: CAIRN_COLOUR is 'mauve'; it must be red or blue." in sentence
    assert str(used.home / "logs" / "audit.log") in sentence

    now = used.status()
    assert now.state is StackState.DEGRADED
    assert now.process("audit").state is ProcessState.CRASHING
    assert now.process("consensus").state is ProcessState.READY
    assert any("CAIRN_COLOUR" in problem for problem in now.problems)
    with pytest.raises(StackError, match="audit is crashing"):
        api.wait_until_ready(used.home, timeout=0.1)

    api.down(used.home)
    assert used.up().ready, "once mended it starts"


def test_what_a_killed_supervisor_leaves_is_stopped_or_taken_over(used: Stack) -> None:
    def kill_the_supervisor() -> list[ProcessId]:
        running = used.up()
        assert running.supervisor is not None
        os.kill(running.supervisor.pid, signal.SIGKILL)
        assert wait_for(lambda: used.status().state is StackState.STOPPED, 30)
        orphans = [p.process for p in running.processes if p.process]
        assert all(orphan.alive for orphan in orphans)
        [problem] = used.status().problems
        assert "is gone, and left running: " in problem
        assert "postgres (pid " in problem
        return orphans

    orphans = kill_the_supervisor()
    second = used.up()
    assert second.ready
    assert not any(orphan.alive for orphan in orphans)

    orphans = kill_the_supervisor()
    assert api.down(used.home)
    assert not any(orphan.alive for orphan in orphans)
    assert servers_running(Home(used.home)) == {}
    assert used.status().problems == ()


def test_two_calls_of_up_at_once_make_one_stack(used: Stack) -> None:
    script = (
        "from cairn_stack import ServiceSpec, api; from pathlib import Path; import sys;"
        "print(api.up(Path(sys.argv[1]), services=[ServiceSpec('audit', 'tiny_service')]).supervisor.pid)"
    )
    python = str(Path(os.sys.executable))
    both = [
        subprocess.Popen([python, "-c", script, str(used.home)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=60)[0] for process in both]
    assert said[0] == said[1] != ""


@pytest.fixture
def small_disk(short_folder: Path) -> Iterator[Path]:
    """A real file system of its own with 260 MB."""
    libc = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)
    place = short_folder / "disk"
    place.mkdir()
    if libc.mount(b"tmpfs", os.fsencode(place), b"tmpfs", 0, b"size=260m,mode=755"):
        pytest.skip(f"this user may not mount a small disk: {os.strerror(ctypes.get_errno())}")
    yield place
    api.remove(place / "home")
    assert libc.umount2(os.fsencode(place), 0) == 0, "something of the stack still runs"


def fill(disk: Path, leave: int) -> Path:
    """Write a file until only `leave` bytes are free."""
    filler = disk / "filler"
    with filler.open("wb") as file:
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        os.posix_fallocate(file.fileno(), 0, free - leave)
    return filler


def test_a_full_disk_is_told_at_the_start_and_while_running(small_disk: Path, stack: Stack) -> None:
    stack = type(stack)(small_disk / "home", stack.services)
    for leave in (0, 20 * 2**20):
        filler = fill(small_disk, leave)
        with pytest.raises(StackError, match=r"The disk that holds .*disk/home.* is full") as told:
            stack.up()
        assert "\n" not in str(told.value)
        filler.unlink()

    assert stack.up().ready
    filler = fill(small_disk, leave=0)
    assert wait_for(lambda: any("is full" in problem for problem in stack.status().problems), 30)
    api.kill("consensus", stack.home)
    filler.unlink()
    assert wait_for(lambda: stack.status().ready and not stack.status().problems, 30)
    api.down(stack.home)
    assert stack.up().ready


def test_data_that_vanish_are_missed_and_not_replaced_by_an_empty_database(stack: Stack) -> None:
    stack.up()
    data = (stack.home / "postgres").resolve()
    away = data.with_name(f"{data.name}-away")
    data.rename(away)
    try:
        api.kill("postgres", stack.home)
        told = r"The data of postgres are gone from .*/postgres"
        assert wait_for(lambda: any(re.match(told, p) for p in stack.status().problems), 30)
        assert not data.exists()
    finally:
        away.rename(data)
    assert api.wait_until_ready(stack.home).process("postgres").problem == ""


def test_a_stack_whose_folder_was_deleted_ends(stack: Stack) -> None:
    everything = [p.process for p in stack.up().processes if p.process]
    real = (stack.home / "postgres").resolve()
    away = stack.home.with_name(
        "away"
    )  # at once, or what still runs writes into the folder while it is emptied
    stack.home.rename(away)
    shutil.rmtree(away, ignore_errors=True)
    assert wait_for(lambda: not any(process.alive for process in everything), 40)
    shutil.rmtree(real, ignore_errors=True)


def test_the_ledger_key_is_never_silently_replaced(stack: Stack) -> None:
    home = Home(stack.home)
    home.prepare()
    ensure_keys(home.keys, ["audit"])
    home.ledger_key.unlink()
    with pytest.raises(StackError, match=r"ledger.pem is gone; .* Restore it from a backup"):
        stack.up()


def test_a_home_that_cannot_be_made_is_told(short_folder: Path, used: Stack) -> None:
    (short_folder / "file").touch()
    with pytest.raises(StackError, match="cannot be used"):
        api.up(short_folder / "file" / "home")


@pytest.mark.parametrize("words", ["PANIC: could not write: No space left on device", "Disk quota exceeded"])
def test_the_words_for_a_full_disk_are_known(words: str) -> None:
    assert means_full_disk(words)
