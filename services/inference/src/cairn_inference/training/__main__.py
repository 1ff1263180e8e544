"""`python -m cairn_inference.training REQUEST.npz OUT_DIR [--die-with-parent]`: train one head, leave its files."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from pathlib import Path

THREADS = "1"
"""A training takes one core, so that labeling stays quick beside it."""


def _die_with_parent() -> None:
    """The parent holds the other end of our standard input: when it is gone, so are we."""

    def wait() -> None:
        sys.stdin.buffer.read()
        os._exit(3)

    threading.Thread(target=wait, daemon=True).start()


def main(arguments: list[str]) -> int:
    """Train as told; 0 when the folder holds an outcome, 2 when the request cannot be trained on."""
    request_file, folder = Path(arguments[0]), Path(arguments[1])
    if "--die-with-parent" in arguments:
        _die_with_parent()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = THREADS  # read when NumPy is first imported, hence the late imports
    from cairn_inference.training.exchange import ERROR_FILE, read_request, write_outcome
    from cairn_inference.training.head import train

    warnings.filterwarnings("ignore", category=UserWarning)  # lbfgs at its cap of rounds is good enough
    folder.mkdir(parents=True, exist_ok=True)
    try:
        outcome = train(read_request(request_file))
    except ValueError as error:
        (folder / ERROR_FILE).write_text(str(error))
        return 2
    write_outcome(folder, outcome)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
