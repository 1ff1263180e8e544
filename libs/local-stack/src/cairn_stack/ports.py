"""Ports: chosen once, kept, and chosen again only when somebody else has taken one that nobody asked for."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

import psutil

from cairn_kit.embedded.process import port_is_free
from cairn_stack.errors import StackError
from cairn_stack.files import read_json, write_json
from cairn_stack.home import Home
from cairn_stack.options import Options

# Below the range from which systems give ports to outgoing connections: while a service restarts, no client's
# connection can land on its port (or, reconnecting, on itself).
_FIRST, _LAST = 20_000, 31_999
_TRIES = 200


@dataclass(frozen=True, slots=True)
class Ports:
    """`grpc` and `http` by the name of a service's process; `nats` is the client port."""

    nats: int
    grpc: Mapping[str, int]
    http: Mapping[str, int]

    @classmethod
    def choose(cls, home: Home, options: Options) -> Ports:
        """Keep what was chosen before where it is still free, and remember the result.

        To be called when nothing of this stack runs. Raises StackError when a pinned port is taken.
        """
        kept = read_json(home.ports)
        taken: set[int] = set()
        services = list(options.processes)
        wanted = {"nats": kept.get("nats")}
        wanted |= {f"grpc/{name}": kept.get("grpc", {}).get(name) for name in services}
        wanted |= {f"http/{name}": kept.get("http", {}).get(name) for name in services}
        chosen = {
            key: _pinned(key, options.ports[key.removeprefix("grpc/")], taken)
            for key in wanted
            if key.removeprefix("grpc/") in options.ports
        }
        for key, before in wanted.items():
            if key not in chosen:
                chosen[key] = _free(before, taken)
        ports = cls(
            nats=chosen["nats"],
            grpc={name: chosen[f"grpc/{name}"] for name in services},
            http={name: chosen[f"http/{name}"] for name in services},
        )
        write_json(home.ports, {"nats": ports.nats, "grpc": ports.grpc, "http": ports.http})
        return ports

    @classmethod
    def read(cls, home: Home) -> Ports:
        """What was chosen. Raises StackError when the stack was never started."""
        kept = read_json(home.ports)
        if not kept:
            raise StackError(f"There is no stack in {home.root}; `cairn up` makes one.")
        return cls(kept["nats"], kept["grpc"], kept["http"])


def _pinned(key: str, port: int, taken: set[int]) -> int:
    name = key.removeprefix("grpc/")
    if port in taken:
        raise StackError(f"Port {port} was asked for twice; {name} needs one of its own.")
    if not port_is_free(port):
        raise StackError(
            f"Port {port}, which was asked for {name}, is taken by {_holder(port)}. "
            "Stop that program, or ask for another port."
        )
    taken.add(port)
    return port


def _free(before: int | None, taken: set[int]) -> int:
    candidates = [before] if before else []
    candidates += random.sample(range(_FIRST, _LAST + 1), _TRIES)
    for port in candidates:
        if port not in taken and port_is_free(port):
            taken.add(port)
            return port
    raise StackError(f"No free port was found between {_FIRST} and {_LAST}.")


def _holder(port: int) -> str:
    """Who listens on a port, as far as we may know it."""
    try:
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,)
            if listens and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        pass  # others' connections are not ours to see on every system
    return "another program"
