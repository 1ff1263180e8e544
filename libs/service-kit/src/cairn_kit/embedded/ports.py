"""TCP ports for servers of this machine, each held from its choice on: no two stacks ever choose the same.

To see that a port is free and to listen on it are two steps, and a server that restarts does not listen meanwhile:
whoever looked in between chose its port as well. So a port is chosen by taking the UDP port of the same number, which
none of our servers uses. The kernel gives it to one holder only, among all users of the machine (and as far as TCP
ports are shared: all that see one network), and takes it back when that process ends, however it ends.
"""

from __future__ import annotations

import random
import socket
from pathlib import Path

from cairn_kit.embedded.process import EmbeddedError

_HOST = "127.0.0.1"
_LOWEST, _HIGHEST = 20_000, 65_535  # well-known servers are mostly below
_ENOUGH = 1_000  # for dozens of stacks
_TRIES = 200
_GIVEN_OUT = Path("/proc/sys/net/ipv4/ip_local_port_range")
_MOSTLY_GIVEN_OUT = (32_768, 65_535)  # what Linux and macOS give out, if nobody changed it
_chosen_by = random.SystemRandom()


class HeldPort:
    """A TCP port of 127.0.0.1 that nobody else can hold while this object lives; processes started do not inherit it."""

    __slots__ = ("__weakref__", "_hold", "number")

    def __init__(self, number: int) -> None:
        """Raises OSError when somebody holds it."""
        self.number = number
        self._hold = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._hold.bind((_HOST, number))

    def __del__(self) -> None:
        self._hold.close()


def hold(number: int) -> HeldPort | None:
    """Hold this port; None when another stack holds it, or any program listens on it."""
    try:
        held = HeldPort(number)
    except OSError:
        return None
    return held if port_is_free(number) else None


def hold_any() -> HeldPort:
    """Hold a port on which a server can listen now and whenever it restarts. Raises EmbeddedError when there is none."""
    among = ports_of_servers()
    for number in _chosen_by.sample(among, _TRIES):
        if (held := hold(number)) is not None:
            return held
    raise EmbeddedError(f"No free port was found between {among[0]} and {among[-1]}.")


def port_is_free(number: int) -> bool:
    """Whether nobody listens on this port of 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, number))
        except OSError:
            return False
        return True


def ports_of_servers() -> range:
    """The ports to choose from: beside those that the system gives to outgoing connections, if it leaves enough.

    While a server restarts, no client's connection can land on its port (or, reconnecting, on itself).
    """
    try:
        first, last = map(int, _GIVEN_OUT.read_text().split())
    except (OSError, ValueError):
        first, last = _MOSTLY_GIVEN_OUT
    widest = max(range(_LOWEST, first), range(max(last + 1, _LOWEST), _HIGHEST + 1), key=len)
    return widest if len(widest) >= _ENOUGH else range(_LOWEST, _HIGHEST + 1)
