"""Ports: chosen once, kept, and chosen again only when somebody else has taken one that nobody asked for."""

from __future__ import annotations

import socket
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import psutil

from cairn_kit.embedded.ports import HeldPort, hold, hold_any, port_is_free, ports_of_servers
from cairn_stack.errors import StackError
from cairn_stack.files import read_json, write_json
from cairn_stack.home import Home
from cairn_stack.options import Options


@dataclass(frozen=True, slots=True)
class Ports:
    """`grpc` and `http` by the name of a service's process; `nats` is the client port."""

    nats: int
    grpc: Mapping[str, int]
    http: Mapping[str, int]
    held: Sequence[HeldPort | None] = field(default=(), repr=False, compare=False)
    """What keeps other stacks from choosing them, while it is kept; nothing where they were only read."""

    @classmethod
    def choose(cls, home: Home, options: Options) -> Ports:
        """Keep what was chosen before where it is still free, and remember the result.

        To be called when nothing of this stack runs. Raises StackError when a pinned port is taken.
        """
        kept = read_json(home.ports)
        services = list(options.processes)
        wanted = {"nats": kept.get("nats")}
        wanted |= {f"grpc/{name}": kept.get("grpc", {}).get(name) for name in services}
        wanted |= {f"http/{name}": kept.get("http", {}).get(name) for name in services}
        chosen: dict[str, int] = {}
        held: list[HeldPort | None] = []
        for key in wanted:
            name = key.removeprefix("grpc/")
            if name in options.ports:
                held.append(_pinned(name, options.ports[name], chosen.values()))
                chosen[key] = options.ports[name]
        for key, before in wanted.items():
            if key not in chosen:
                own = (hold(before) if before else None) or hold_any()
                held.append(own)
                chosen[key] = own.number
        ports = cls(
            nats=chosen["nats"],
            grpc={name: chosen[f"grpc/{name}"] for name in services},
            http={name: chosen[f"http/{name}"] for name in services},
            held=held,
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


def _pinned(name: str, port: int, chosen: Collection[int]) -> HeldPort | None:
    """The port that was asked for, held where others might choose it by chance."""
    if port in chosen:
        raise StackError(f"Port {port} was asked for twice; {name} needs one of its own.")
    held = hold(port)
    if held is None and (port in ports_of_servers() or not port_is_free(port)):
        raise StackError(
            f"Port {port}, which was asked for {name}, is taken by {_holder(port)}. "
            "Stop that program, or ask for another port."
        )
    return held


def _holder(port: int) -> str:
    """Who listens on a port, or holds it for a server that restarts, as far as we may know it."""
    try:
        for connection in psutil.net_connections("inet"):
            there = psutil.CONN_LISTEN if connection.type == socket.SOCK_STREAM else psutil.CONN_NONE
            if connection.status == there and connection.laddr[1:] == (port,) and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        pass  # others' connections are not ours to see on every system
    return "another program"
