"""What `up` asks of the supervisor, carried in a file because the supervisor outlives its starter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from cairn_stack.catalog import SERVICES, ServiceSpec
from cairn_stack.errors import StackError
from cairn_stack.files import read_json, write_json
from cairn_stack.home import Home
from cairn_stack.processes import ProcessId


@dataclass(frozen=True, slots=True)
class Options:
    """How a stack is to run.

    `ports` pins ports by name (`nats`, or a service's process: its gRPC port); instead of a pinned one no other is
    ever chosen. `environment` is added to that of every service, of which there are `replicas` processes each.
    `owner`: the stack ends when it is gone.
    """

    ports: Mapping[str, int] = field(default_factory=dict)
    durable: bool = True
    trace_ratio: float = 1.0
    environment: Mapping[str, str] = field(default_factory=dict)
    services: tuple[ServiceSpec, ...] = SERVICES
    owner: ProcessId | None = None
    replicas: int = 1

    def __post_init__(self) -> None:
        if self.replicas < 1:
            raise StackError(f"There can be no {self.replicas} of each service; one at least.")
        known = {"nats", *self.processes}
        for name, port in self.ports.items():
            if name not in known:
                raise StackError(
                    f"There is no {name} to give a port to; there are {', '.join(sorted(known))}."
                )
            if not 0 < port < 65536:
                raise StackError(f"{port} is not a port; {name} needs one from 1 to 65535.")

    @property
    def processes(self) -> dict[str, tuple[ServiceSpec, int]]:
        """Every process of a service by its name: which service, and the number of the replica from 1."""
        return {
            spec.replica(number): (spec, number)
            for number in range(1, self.replicas + 1)
            for spec in self.services
        }

    def write(self, home: Home) -> None:
        """Keep them in the stack's folder, for the supervisor."""
        write_json(home.options, asdict(self))

    @classmethod
    def read(cls, home: Home) -> Options:
        """What the last `up` asked for; the defaults when there was none."""
        kept: dict[str, Any] = read_json(home.options)
        if "services" in kept:
            kept["services"] = tuple(ServiceSpec(**spec) for spec in kept["services"])
        if kept.get("owner"):
            kept["owner"] = ProcessId(**kept["owner"])
        return cls(**kept)
