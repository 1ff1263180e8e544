"""What a supervisor that was killed left running: found by pid files that can be trusted, and stopped."""

from __future__ import annotations

import signal

from cairn_kit.embedded.process import process_of
from cairn_stack.files import read_json
from cairn_stack.home import Home
from cairn_stack.processes import ProcessId, stop_all
from cairn_stack.state import StackState, StackStatus


def last_state(home: Home) -> StackStatus:
    """The state as last written, with the dead shown as dead; a stopped stack when nothing can be read."""
    try:
        return StackStatus.from_json(read_json(home.state)).checked()
    except (KeyError, TypeError, ValueError):
        return StackStatus(home.root, StackState.STOPPED)


def servers_running(home: Home) -> dict[str, ProcessId]:
    """PostgreSQL and NATS of this home, by their own pid files, if they live."""
    data = str(home.postgres.resolve())
    found = {
        "nats": process_of(home.nats / "nats.pid", "nats-server", str(home.nats / "nats.conf")),
        "postgres": process_of(home.postgres / "postmaster.pid", "postgres", data),
    }
    ids = {name: ProcessId.of(process.pid) for name, process in found.items() if process is not None}
    return {name: process for name, process in ids.items() if process is not None}


def leftovers(home: Home) -> dict[str, ProcessId]:
    """Every process of this stack that lives, by name. To be asked when no supervisor lives."""
    services = {p.name: p.process for p in last_state(home).processes if p.process is not None}
    return {**services, **servers_running(home)}


def stop_leftovers(home: Home) -> list[str]:
    """Stop them in the order of a clean end, services before what they lean on; their names."""
    found = leftovers(home)
    services = [process for name, process in found.items() if name not in {"nats", "postgres"}]
    stop_all(services, signal.SIGTERM, timeout=15)
    for name, signum in (("nats", signal.SIGTERM), ("postgres", signal.SIGINT)):
        if name in found:  # SIGINT is PostgreSQL's fast shutdown: sessions end, a checkpoint is written
            stop_all([found[name]], signum, timeout=30)
    return list(found)
