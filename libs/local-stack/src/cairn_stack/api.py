"""Everything that others may do with a stack: the `cairn` command, tests and scripts call these and no more.

All functions block, take the stack's folder (`default_home()` when None), and raise StackError with one plain
sentence. None of them needs the stack to have been started by this process.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cairn_stack.catalog import SERVICES, ServiceSpec
from cairn_stack.control import ask
from cairn_stack.environment import environment_of, postgres_of
from cairn_stack.errors import ALREADY_SUPERVISED, StackError, means_full_disk
from cairn_stack.files import read_json
from cairn_stack.follow import follow_logs, last_lines
from cairn_stack.home import Home, default_home
from cairn_stack.lag import Lag, lag_at
from cairn_stack.lastwords import last_words
from cairn_stack.leftovers import last_state, leftovers, stop_leftovers
from cairn_stack.options import Options
from cairn_stack.ports import Ports
from cairn_stack.processes import ProcessId, wait_for
from cairn_stack.state import ProcessState, StackState, StackStatus

_STOP_TIMEOUT = 90.0  # services drain, PostgreSQL writes its last checkpoint
_UNSEEN = 10.0  # a supervisor that another `up` started shows itself sooner
_SETTLED = {ProcessState.READY, ProcessState.CRASHING, ProcessState.MISSING}

# Supervisors that this process started: kept so that they are reaped when they end before us.
_STARTED: dict[int, subprocess.Popen[bytes]] = {}


def up(
    home: Path | None = None,
    *,
    ports: Mapping[str, int] | None = None,
    durable: bool = True,
    trace_ratio: float = 1.0,
    environment: Mapping[str, str] | None = None,
    services: Sequence[ServiceSpec] = SERVICES,
    replicas: int = 1,
    owner: int | None = None,
    timeout: float = 120.0,
    progress: Callable[[str], None] | None = None,
) -> StackStatus:
    """Start the stack and wait until every installed service is ready; if it runs already, only wait.

    `ports` pins `nats` or a service (its gRPC port); others are chosen once and kept. `durable=False`
    switches fsync off. `trace_ratio` is the share of calls whose spans are kept (0: none). `environment` is
    added to that of each service. `replicas` of each service run on one database and bus; the first is called
    as the service is, the second `<service>-2`. `owner`: a pid; the stack ends when that process is gone. `progress` is
    called with each new stage. A service that is not installed is a problem in the status, not an error.
    Raises StackError when PostgreSQL, NATS or a service cannot start, in the last case the rest stays up; and when the
    stack runs already, with another number of replicas than the several that are asked for.
    """
    place = _home(home)
    watched = ProcessId.of(owner) if owner is not None else None
    options = Options(
        dict(ports or {}), durable, trace_ratio, dict(environment or {}), tuple(services), watched, replicas
    )
    child = None
    if not _supervisor(place):
        try:
            place.prepare()
            options.write(place)
            child = _spawn_supervisor(place)
        except OSError as error:
            raise StackError(_cannot_write(place, error)) from error
    elif replicas > 1 and (running := Options.read(place).replicas) != replicas:
        raise StackError(
            f"The stack runs already, with {running} of each service. To have {replicas}, stop it first: `cairn down`."
        )
    return _wait_until_settled(place, child, timeout, progress)


def down(home: Path | None = None, *, timeout: float = _STOP_TIMEOUT) -> bool:
    """Stop everything in order; data stay; True if something ran. Also after the supervisor was killed."""
    place = _home(home)
    supervisor = _supervisor(place)
    if supervisor is None:
        return bool(stop_leftovers(place))
    supervisor.send(signal.SIGTERM)
    if not wait_for(lambda: not _alive(supervisor), timeout):
        supervisor.send(signal.SIGKILL)
        wait_for(lambda: not _alive(supervisor), timeout=10)
        stop_leftovers(place)
    return True


def status(home: Path | None = None) -> StackStatus:
    """The stack as it is now. Never raises; a stack that was never started is simply stopped."""
    place = _home(home)
    supervisor = _supervisor(place)
    if supervisor is not None:
        answer = ask(place, do="status")
        return StackStatus.from_json(answer).checked() if answer else last_state(place)
    left = leftovers(place)
    problems = last_state(place).problems
    if left:
        named = ", ".join(f"{name} (pid {process.pid})" for name, process in left.items())
        problems = (
            f"The supervisor of {place.root} is gone, and left running: {named}. "
            "`cairn up` takes over; `cairn down` stops them.",
        )
    processes = tuple(
        replace(p, state=p.state if p.process else ProcessState.STOPPED) for p in last_state(place).processes
    )
    return StackStatus(place.root, StackState.STOPPED, processes=processes, problems=problems)


def lags(found: StackStatus) -> dict[str, Lag]:
    """How far behind its events each service of a stack is; those that do not answer are left out."""
    asked = {
        process.name: lag_at(process.http) for process in found.processes if process.http and process.pid
    }
    return {name: lag for name, lag in asked.items() if lag is not None}


def logs(
    home: Path | None = None, name: str | None = None, *, lines: int = 50, follow: bool = False
) -> Iterator[tuple[str, str]]:
    """The last `lines` of one log, or of each, as (name, line); with `follow`, what is added, for ever.

    Names are the services', `postgres`, `nats` and `supervisor`. Raises StackError for another name.
    """
    place = _home(home)
    names = ["supervisor", "postgres", "nats", *Options.read(place).processes]
    if name is not None and name not in names:
        raise StackError(f"There is no log of {name}; there are {', '.join(names)}.")
    chosen = {each: place.log(each) for each in ([name] if name else names)}
    yield from last_lines(chosen, lines)
    if follow:
        yield from follow_logs(chosen)


def wait_until_ready(home: Path | None = None, *, timeout: float = 60.0) -> StackStatus:
    """Wait until every installed process is ready. Raises StackError, with what is not, when time is out."""
    place = _home(home)

    def ready() -> bool:
        now = status(place.root)
        return now.running and all(
            p.state in {ProcessState.READY, ProcessState.MISSING} for p in now.processes
        )

    if not wait_for(ready, timeout, every=0.05):
        raise StackError(_not_ready(status(place.root), timeout, place))
    return status(place.root)


def profile(home: Path | None = None) -> dict[str, Any]:
    """What a client needs: `services` (name -> host:port), `issuer_key_file`, `jwks_file`, `tenant`, ..."""
    kept = read_json(_home(home).profile)
    if not kept:
        raise StackError(f"There is no stack in {_home(home).root}; `cairn up` makes one.")
    return kept


def kill(name: str, home: Path | None = None) -> int:
    """SIGKILL one process by its name, as the kernel would when memory is short; its pid. It comes back."""
    process = _running(name, home)
    process.send(signal.SIGKILL)
    wait_for(lambda: not process.alive, timeout=10)
    return process.pid


def restart(*names: str, home: Path | None = None, timeout: float = 120.0) -> None:
    """Have processes of services drain and end, as a rolling update does; returns when the next ones are ready.

    Raises StackError when there is no such process, or when a next one is not ready in time.
    """
    before = {name: _running(name, home) for name in names}
    for process in before.values():
        process.send(signal.SIGTERM)

    def others_are_ready() -> bool:
        now = {name: status(home).process(name) for name in names}
        return all(p.state is ProcessState.READY and p.process != before[name] for name, p in now.items())

    if not wait_for(others_are_ready, timeout, every=0.1):
        raise StackError(_not_ready(status(home), timeout, _home(home)))


def restart_in_turn(home: Path | None = None, *, timeout: float = 120.0) -> None:
    """Restart everything but the servers: of each service one replica after the other, as a rolling update does."""
    options = Options.read(_home(home))
    for number in range(1, options.replicas + 1):
        restart(*(spec.replica(number) for spec in options.services), home=home, timeout=timeout)


def restart_postgres(home: Path | None = None) -> None:
    """Stop PostgreSQL under the running services and start it again; returns when it answers."""
    _command(home, do="restart", name="postgres")


def restart_nats(home: Path | None = None) -> None:
    """Stop NATS under the running services and start it again; returns when it answers."""
    _command(home, do="restart", name="nats")


def wipe_jetstream(home: Path | None = None) -> None:
    """Delete every stream, message and consumer under the running services; `republish` makes good."""
    _command(home, do="restart", name="nats", wipe=True)


def republish(home: Path | None = None, *, timeout: float = 300.0) -> None:
    """Have every service send its outbox again; consumers ignore what they know. Raises StackError."""
    run_in_services(home, "republish", timeout=timeout)


def run_in_services(home: Path | None, *arguments: str, timeout: float = 300.0) -> dict[str, str]:
    """Run `python -m <service> <arguments>` with each service's settings; what each printed."""
    place = _home(home)
    options, ports = Options.read(place), Ports.read(place)
    started = {
        spec.name: subprocess.Popen(  # noqa: S603 - our own modules
            [sys.executable, "-m", spec.module, *arguments],
            env=environment_of(spec, place, options, ports),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        for spec in options.services
        if spec.installed
    }
    deadline = time.monotonic() + timeout
    said: dict[str, str] = {}
    try:
        for name, process in started.items():
            said[name] = process.communicate(timeout=max(0.1, deadline - time.monotonic()))[0]
            if process.returncode:
                words = said[name].strip().splitlines()[-1:] or ["it said nothing"]
                raise StackError(f"{' '.join(arguments)} failed for {name}: {words[0]}")
    except subprocess.TimeoutExpired:
        raise StackError(f"{' '.join(arguments)} took longer than {timeout:.0f} s.") from None
    finally:
        for process in started.values():
            if process.poll() is None:
                process.kill()
                process.wait()
    return said


def remove(home: Path | None = None) -> None:
    """Stop the stack and delete its folder with all data, keys and secrets."""
    place = _home(home)
    down(place.root)
    # Below root's closed folders the data are elsewhere, and below a long path the sockets.
    elsewhere = {
        place.postgres.resolve(),
        postgres_of(place, Options()).socket_folder(),
        place.control.parent,
    }
    for folder in elsewhere | {place.root}:
        shutil.rmtree(folder, ignore_errors=True)


def _running(name: str, home: Path | None) -> ProcessId:
    try:
        process = status(home).process(name).process
    except KeyError as error:
        raise StackError(str(error.args[0])) from error
    if process is None:
        raise StackError(f"{name} does not run.")
    return process


def _home(home: Path | None) -> Home:
    return Home(home.absolute() if home is not None else default_home())


def _supervisor(home: Home) -> ProcessId | None:
    """The living supervisor of this home, as the state file names it and its start time proves."""
    known = last_state(home).supervisor
    return known if known is not None and _alive(known) else None


def _alive(process: ProcessId) -> bool:
    child = _STARTED.get(process.pid)
    if child is not None and child.poll() is not None:  # reaps it
        del _STARTED[process.pid]
    return process.alive


def _spawn_supervisor(home: Home) -> subprocess.Popen[bytes]:
    with home.log("supervisor").open("ab") as log:
        child = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "cairn_stack", str(home.root)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=home.root,
            start_new_session=True,
        )
    _STARTED[child.pid] = child
    return child


def _wait_until_settled(
    home: Home, child: subprocess.Popen[bytes] | None, timeout: float, progress: Callable[[str], None] | None
) -> StackStatus:
    told = ""
    last_seen = time.monotonic()
    deadline = last_seen + timeout
    while True:
        if child is not None and child.poll() == ALREADY_SUPERVISED:
            del _STARTED[child.pid]
            child = None  # somebody else's `up` was faster; theirs is as good as ours
        if child is not None and child.poll() is not None:
            raise StackError(_why_it_ended(home, child))
        answer = ask(home, do="status")
        if (
            answer is None
            and child is None
            and time.monotonic() - last_seen > _UNSEEN
            and not _supervisor(home)
        ):
            raise StackError(" ".join(["The stack ended while it was starting.", *last_state(home).problems]))
        if answer is not None:
            last_seen = time.monotonic()
            now = StackStatus.from_json(answer)
            if progress and now.stage not in {told, ""}:
                told = now.stage
                progress(told)
            if now.state in {StackState.READY, StackState.DEGRADED} and _settled(now):
                return _refuse_crashes(now)
        if time.monotonic() > deadline:
            raise StackError(_not_ready(status(home.root), timeout, home))
        with contextlib.suppress(subprocess.TimeoutExpired):
            # Returns at once when it ends, and is the pause between two looks while it lives.
            child.wait(0.05) if child is not None else time.sleep(0.05)


def _settled(now: StackStatus) -> bool:
    return all(process.state in _SETTLED for process in now.processes)


def _refuse_crashes(now: StackStatus) -> StackStatus:
    crashing = [p.problem for p in now.processes if p.state is ProcessState.CRASHING]
    if crashing:
        raise StackError("\n".join([*crashing, "The rest is up; `cairn down` stops it."]))
    return now


def _why_it_ended(home: Home, child: subprocess.Popen[bytes]) -> str:
    said = child.stdout.read().decode(errors="replace").strip() if child.stdout else ""
    _STARTED.pop(child.pid, None)
    return said or (
        f"The supervisor ended with exit code {child.returncode}: "
        f"{last_words(home.log('supervisor')) or 'it said nothing'}"
    )


def _not_ready(now: StackStatus, timeout: float, home: Home) -> str:
    if not now.running:
        return f"The stack in {home.root} does not run. " + " ".join(now.problems)
    waiting = [f"{p.name} is {p.state.value}" for p in now.processes if p.state is not ProcessState.READY]
    told = "; ".join(waiting) or now.stage or "it is still starting"
    return f"The stack is not ready after {timeout:.0f} s: {told}. {' '.join(now.problems)}".strip()


def _cannot_write(home: Home, error: OSError) -> str:
    if means_full_disk(error):
        return f"The disk that holds {home.root} is full. Free some space. ({error})"
    return f"The stack's folder {home.root} cannot be used: {error}"


def _command(home: Path | None, **question: Any) -> None:
    place = _home(home)
    if ask(place, timeout=120.0, **question) is None:
        raise StackError(f"The stack in {place.root} does not run; `cairn up` starts it.")


__all__ = [
    "Lag",
    "ProcessState",
    "StackError",
    "StackState",
    "StackStatus",
    "default_home",
    "down",
    "kill",
    "lags",
    "logs",
    "profile",
    "remove",
    "republish",
    "restart",
    "restart_in_turn",
    "restart_nats",
    "restart_postgres",
    "run_in_services",
    "status",
    "up",
    "wait_until_ready",
    "wipe_jetstream",
]
