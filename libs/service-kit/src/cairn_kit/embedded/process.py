"""What both embedded servers share: pids that outlive their starter, and signals that are waited for."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from cairn_kit.private_files import write_private

__all__ = [
    "EmbeddedError",
    "process_of",
    "reap",
    "send",
    "tail",
    "wait_until",
    "write_private",
]


class EmbeddedError(Exception):
    """An embedded server could not start or stop; the text says what was wrong and what to do."""


def process_of(pid_file: Path, executable: str, marker: str) -> psutil.Process | None:
    """The live process that a pid file names, if it still is that program working on `marker`.

    A stale pid file may name a pid that now belongs to somebody else: hence the look at the command line.
    """
    try:
        pid = int(pid_file.read_text().split()[0])
        process = psutil.Process(pid)
        alive = process.status() != psutil.STATUS_ZOMBIE
        line = process.cmdline()
    except (OSError, ValueError, IndexError, psutil.Error):
        return None
    return process if alive and executable in " ".join(line[:1]) and marker in " ".join(line) else None


def reap(process: psutil.Process, child: subprocess.Popen[bytes] | None, timeout: float) -> bool:
    """Wait until the process is gone; True if it is."""
    if child is not None:
        try:
            child.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True
    try:
        process.wait(timeout)
    except psutil.TimeoutExpired:
        return False
    return True


def send(process: psutil.Process, signum: signal.Signals) -> None:
    """Signal a process that may already be gone."""
    try:
        process.send_signal(signum)
    except psutil.NoSuchProcess:
        return


def wait_until(
    ready: Callable[[], bool],
    alive: Callable[[], bool],
    timeout: float,
    failed: Callable[[str], EmbeddedError],
) -> None:
    """Poll `ready` until it holds; raise `failed(why)` when the process dies or time is out."""
    deadline = time.monotonic() + timeout
    while not ready():
        if not alive():
            raise failed("it exited")
        if time.monotonic() > deadline:
            raise failed(f"it was not ready within {timeout:.0f} s")
        time.sleep(0.02)


def tail(log: Path, lines: int = 5) -> str:
    """The last lines of a log file, on one line, for an error message."""
    try:
        text = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        return "no log"
    return " | ".join(text[-lines:]) or "empty log"
