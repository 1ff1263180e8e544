"""One model in memory: few threads, no copy of its input, and an end to a run that has none."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from cairn_kit.errors import FailedPrecondition

Floats = NDArray[np.float32]

MAX_BATCH = 512
"""Rows of one run; a power of two."""

_LONGEST_RUN = 10.0
"""Seconds of one run. A model that was let in in time may still loop on other inputs."""


def cpu_limit() -> int:
    """Processors this process may use: the control group's quota, where there is one, else the affinity mask."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(available, int(quota) // int(period)))
    except (OSError, ValueError):  # no control group of version 2, or no quota ("max")
        return available


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """Options of every session: the default pool is as wide as the host, not as the container.

    Its threads do not spin while they wait for work: of runs that come one by one a spinning thread took as much processor
    time as all the rest of the calls.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options


def parted(rows: Floats, lengths: Sequence[int]) -> list[Floats]:
    """Cut rows into parts of these lengths (`np.split` takes ten times as long)."""
    parts, start = [], 0
    for length in lengths:
        parts.append(rows[start : start + length])
        start += length
    return parts


class LoadedModel:
    """One model in memory. `run` is thread-safe and blocks: call it in a thread."""

    def __init__(self, data: bytes, threads: int) -> None:
        self._session = onnxruntime.InferenceSession(
            data, session_options(threads), providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name

    def run(self, features: Floats) -> Floats:
        """Probabilities ``(n, classes)`` of features ``(n, dim)``, in runs of at most MAX_BATCH rows.

        The rows of a run are a power of two, for each new shape would grow the runtime's arena: 300 rows are runs of 256,
        32, 8 and 4, each on a part of the input as it lies there. To fill them up to 512 would copy all of them and, of
        a model that is worth its name, cost more than three runs' beginnings (11 us each).

        Raises FailedPrecondition MODEL_TOO_SLOW.
        """
        if not len(features):  # its answer has as many columns as any
            return self._run(np.zeros((1, features.shape[1]), dtype=np.float32))[:0]
        parts, start = [], 0
        while (left := len(features) - start) > 0:
            size = min(1 << left.bit_length() - 1, MAX_BATCH)
            parts.append(self._run(features[start : start + size]))
            start += size
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def run_together(self, asked: list[Floats]) -> list[Floats]:
        """Probabilities of each of several inputs, as one."""
        if len(asked) == 1:
            return [self.run(asked[0])]
        return parted(self.run(np.concatenate(asked)), [len(features) for features in asked])

    def _run(self, rows: Floats) -> Floats:
        options = onnxruntime.RunOptions()
        _WATCH.begin(options)
        try:
            return np.asarray(self._session.run(None, {self._input: rows}, options)[0])
        except Exception as error:
            if not options.terminate:
                raise
            raise FailedPrecondition(
                "MODEL_TOO_SLOW", f"The model took more than {_LONGEST_RUN:.0f} s and was stopped."
            ) from error
        finally:
            _WATCH.end(options)


class _Watch:
    """Stops runs that take too long: one thread for all of them, where a timer each would cost more than a small run."""

    def __init__(self) -> None:
        self._began: dict[onnxruntime.RunOptions, float] = {}
        self._thread: threading.Thread | None = None

    def begin(self, options: onnxruntime.RunOptions) -> None:
        """A run with these options begins."""
        self._began[options] = time.monotonic()
        if self._thread is None:
            self._thread = threading.Thread(target=self._look, name="watch runs", daemon=True)
            self._thread.start()

    def end(self, options: onnxruntime.RunOptions) -> None:
        """It ended."""
        del self._began[options]

    def _look(self) -> None:
        while True:
            time.sleep(_LONGEST_RUN / 10.0)
            for options, began in list(self._began.items()):
                if time.monotonic() - began > _LONGEST_RUN:
                    options.terminate = True


_WATCH = _Watch()
