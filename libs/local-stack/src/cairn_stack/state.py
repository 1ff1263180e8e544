"""What a stack says of itself: the state of each process and of the whole."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from cairn_stack.processes import ProcessId


class ProcessState(StrEnum):
    """The state of one process.

    STARTING -> READY <-> NOT_READY; any of them -> RESTARTING -> STARTING, or CRASHING when it ends again and
    again without ever being ready; CRASHING -> READY. MISSING and STOPPED stay.
    """

    MISSING = "missing"
    STARTING = "starting"
    READY = "ready"
    NOT_READY = "not ready"
    RESTARTING = "restarting"
    CRASHING = "crashing"
    STOPPED = "stopped"


class StackState(StrEnum):
    """The state of the whole: DEGRADED is up, but not every process is ready."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    DEGRADED = "degraded"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """One process: `address` is where it serves (gRPC of a service), `http` its health and metrics."""

    name: str
    state: ProcessState
    process: ProcessId | None = None
    address: str = ""
    http: str = ""
    restarts: int = 0
    problem: str = ""

    @property
    def pid(self) -> int | None:
        """Its pid while it runs."""
        return self.process.pid if self.process else None


@dataclass(frozen=True, slots=True)
class StackStatus:
    """A stack as it is now. `problems` are plain sentences, worst first; none when all is well."""

    home: Path
    state: StackState
    supervisor: ProcessId | None = None
    stage: str = ""
    processes: tuple[ProcessStatus, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether every process of the stack is ready."""
        return self.state is StackState.READY

    @property
    def running(self) -> bool:
        """Whether a supervisor lives."""
        return self.state is not StackState.STOPPED

    @property
    def addresses(self) -> dict[str, str]:
        """Where each service serves gRPC: `{"consensus": "127.0.0.1:21345", ...}`."""
        return {p.name: p.address for p in self.processes if p.http and p.address}

    def process(self, name: str) -> ProcessStatus:
        """One process by its name: a service, `postgres` or `nats`. Raises KeyError."""
        for process in self.processes:
            if process.name == name:
                return process
        raise KeyError(f"{name} is none of {', '.join(p.name for p in self.processes) or 'no processes'}")

    def pid(self, name: str) -> int | None:
        """The pid of one process by its name, or None when it does not run. Raises KeyError."""
        return self.process(name).pid

    def checked(self) -> StackStatus:
        """The same, with processes that died since it was written shown as restarting."""
        return replace(self, processes=tuple(_checked(process) for process in self.processes))

    def to_json(self) -> dict[str, Any]:
        """As an object for the state file, the control socket, or `cairn status --json`."""
        return {**asdict(self), "home": str(self.home)}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> StackStatus:
        """Back from `to_json`. Raises KeyError, TypeError or ValueError when it is not that."""
        return cls(
            home=Path(content["home"]),
            state=StackState(content["state"]),
            supervisor=_process_id(content.get("supervisor")),
            stage=str(content.get("stage", "")),
            processes=tuple(
                ProcessStatus(
                    **{**p, "state": ProcessState(p["state"]), "process": _process_id(p.get("process"))}
                )
                for p in content.get("processes", ())
            ),
            problems=tuple(content.get("problems", ())),
        )


def _process_id(content: dict[str, Any] | None) -> ProcessId | None:
    return ProcessId(int(content["pid"]), float(content["started"])) if content else None


def _checked(process: ProcessStatus) -> ProcessStatus:
    if process.process is None or process.process.alive:
        return process
    return replace(process, state=ProcessState.RESTARTING, process=None)
