"""Pids that can be trusted: a pid alone may by now belong to somebody else."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import psutil

# The kernel's start time is exact to a clock tick; the boot time it is counted from is read in seconds.
_SAME_START = 2.0


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A pid with the time its process started (seconds since the epoch), so that a reused pid is noticed."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        """The live process with this pid, or None."""
        try:
            return cls(pid, psutil.Process(pid).create_time())
        except psutil.Error:
            return None

    @property
    def alive(self) -> bool:
        """Whether this very process lives; a zombie does not."""
        return self.psutil() is not None

    def psutil(self) -> psutil.Process | None:
        """A handle on this very process while it lives."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < _SAME_START
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None

    def send(self, signum: signal.Signals) -> bool:
        """Signal it; False if it was gone already."""
        process = self.psutil()
        if process is None:
            return False
        try:
            process.send_signal(signum)
        except psutil.NoSuchProcess:
            return False
        return True


def wait_for(condition: Callable[[], bool], timeout: float, every: float = 0.02) -> bool:
    """Poll until the condition holds; False when `timeout` seconds have passed without it."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True


def stop_all(processes: Iterable[ProcessId], signum: signal.Signals, timeout: float) -> None:
    """Ask all of them to end, wait, and kill those that did not."""
    asked = [process for process in processes if process.send(signum)]
    if not wait_for(lambda: not any(process.alive for process in asked), timeout):
        for process in asked:
            process.send(signal.SIGKILL)
        wait_for(lambda: not any(process.alive for process in asked), timeout=10)
