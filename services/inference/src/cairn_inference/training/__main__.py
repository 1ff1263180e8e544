"""`python -m cairn_inference.training REQUEST.npz OUT_DIR`: train one head and leave its files in the folder.

`python -m cairn_inference.training --serve` does so for each line `REQUEST<tab>OUT_DIR` of its standard input and
answers with a line, the code: importing what a training needs costs more than most trainings. It dies as soon as
its standard input is closed, which the kernel does when the parent is gone.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import warnings
from pathlib import Path

THREADS = "1"
"""A training takes one core, so that labeling stays quick beside it."""

TRAINED, UNTRAINABLE = 0, 2


def prepare() -> None:
    """Take one thread; NumPy reads these when it is first imported, hence the late imports."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = THREADS
    warnings.filterwarnings("ignore", category=UserWarning)  # lbfgs at its cap of rounds is good enough


def train_files(request_file: Path, folder: Path) -> int:
    """TRAINED when the folder holds an outcome, UNTRAINABLE when it holds the reason why not."""
    from cairn_inference.training.exchange import ERROR_FILE, read_request, write_outcome
    from cairn_inference.training.head import train

    folder.mkdir(parents=True, exist_ok=True)
    try:
        outcome = train(read_request(request_file))
    except ValueError as error:
        (folder / ERROR_FILE).write_text(str(error))
        return UNTRAINABLE
    write_outcome(folder, outcome)
    return TRAINED


def serve() -> None:
    """Train what standard input asks for, until it is closed."""
    wanted: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            wanted.put(line)
        os._exit(3)

    threading.Thread(target=read, daemon=True).start()
    while True:
        request_file, _, folder = wanted.get().rstrip("\n").partition("\t")
        sys.stdout.write(f"{train_files(Path(request_file), Path(folder))}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    prepare()
    if sys.argv[1:] == ["--serve"]:
        serve()
    sys.exit(train_files(Path(sys.argv[1]), Path(sys.argv[2])))
