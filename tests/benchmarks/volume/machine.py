"""What processes cost, and what machine this is."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib.metadata import version

import psutil

_AFTER_OTHERS = 10
"""A tenth of the processor that others get, while those want all of it (`nice`)."""
_TOLD = ("grpcio", "protobuf", "asyncpg", "nats-py", "numpy", "onnxruntime")


def give_way(pids: Iterable[int]) -> None:
    """Have processes and all below them run after others, for good: as if those were on machines of their own."""
    for pid in pids:
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            for thread in process.threads():  # Linux gives each its own
                os.setpriority(os.PRIO_PROCESS, thread.id, _AFTER_OTHERS)


def processor_seconds(pids: Iterable[int]) -> float:
    """Return the processor time of processes and all below them, so far; a child that has ended counts to its parent."""
    total = 0.0
    for pid in pids:
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            try:
                used = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += used.user + used.system + used.children_user + used.children_system
    return total


def resident_mb(pid: int) -> float:
    """Return the memory that a process holds."""
    return float(psutil.Process(pid).memory_info().rss) / 1e6


def description() -> dict[str, str]:
    """Return the machine and the versions that a measurement was made with."""
    said = {"cores": str(os.cpu_count()), "machine": platform.platform(), "python": platform.python_version()}
    return said | {name: version(name) for name in _TOLD}
