"""`python -m cairn_inference.model_trial DIM CLASSES SECONDS`: run the model on standard input, print what is wrong.

A model is a stranger's program, and a small file may loop for ever or ask for any amount of memory. So it is first
run here, in a process of its own, which the kernel ends when it takes too long, whatever has become of its parent.
"""

from __future__ import annotations

import resource
import signal
import sys

import numpy as np
from numpy.typing import NDArray

from cairn_inference.loaded_model import MAX_BATCH, LoadedModel

MEMORY = 1 << 30
"""Bytes of addresses, the runtime's own 200 MiB among them; the largest file allowed needs half of it."""


def limit_this_process(seconds: int) -> None:
    """Have the kernel see to it: a stranger's code asks Python for nothing."""
    signal.alarm(seconds)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def problem_with(data: bytes, dim: int, classes: int) -> str:
    """Why the model may not serve; empty when it may.

    It is run on as many rows as it will ever be given at once, for shapes may be left open in the file, and
    probabilities must be probabilities.
    """
    rows = np.zeros((MAX_BATCH, dim), dtype=np.float32)
    rows[1::2] = 0.1
    try:
        answer = LoadedModel(data, 1).run(rows)
    except Exception as error:
        # onnxruntime raises classes of its own that share no ancestor; whatever it is, the model does not run.
        words = str(error).splitlines() or [type(error).__name__]
        return f"The model does not run: {words[0][:500]}"
    return _problem_with_answer(answer, classes)


def _problem_with_answer(answer: NDArray[np.float32], classes: int) -> str:
    expected = (MAX_BATCH, classes)
    if answer.shape != expected:
        return f"For {MAX_BATCH} rows the model answers {answer.shape}; expected {expected}."
    sums = answer.sum(axis=1)
    if not np.isfinite(answer).all() or (answer < -1e-6).any() or np.abs(sums - 1.0).max() > 1e-3:
        return "The model's outputs are not probabilities: each row must be 0 to 1 and sum to 1."
    return ""


if __name__ == "__main__":
    model = sys.stdin.buffer.read()
    dim, classes, seconds = map(int, sys.argv[1:])
    limit_this_process(seconds)
    sys.stdout.write(problem_with(model, dim, classes))
