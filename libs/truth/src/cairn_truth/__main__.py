"""`python -m cairn_truth replay DIR...`: replay recorded crowds through the stop rule and print one table.

The only file of the library that reads anything: ``answers.csv`` (item,annotator,label) and ``truth.csv``
(item,label) of each folder. A name without a folder of that name is looked for in CAIRN_DATA.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .replay import Recorded, replay
from .stop_rule import StopPolicy
from .votes import Votes


def read_folder(folder: Path) -> Recorded:
    """Read a folder's ``answers.csv`` and ``truth.csv``. Raises ValueError naming a missing file or column."""
    answers = _rows(folder / "answers.csv", ("item", "annotator", "label"))
    truths = _rows(folder / "truth.csv", ("item", "label"))
    items = {key: i for i, key in enumerate(sorted({row[0] for row in answers}))}
    labelers = {key: i for i, key in enumerate(sorted({row[1] for row in answers}))}
    classes = {
        key: i for i, key in enumerate(sorted({row[2] for row in answers} | {row[1] for row in truths}))
    }
    truth = np.full(len(items), -1, dtype=np.int64)
    for item, label in truths:
        if item in items:
            truth[items[item]] = classes[label]
    votes = Votes.of(
        [items[row[0]] for row in answers],
        [labelers[row[1]] for row in answers],
        [classes[row[2]] for row in answers],
        classes=len(classes),
        items=len(items),
        labelers=len(labelers),
    )
    return Recorded(votes, truth)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="cairn_truth", description="Replay recorded crowds.")
    parser.add_argument("command", choices=["replay"])
    parser.add_argument("folders", nargs="+", metavar="DIR")
    parser.add_argument("--seeds", type=int, default=5, help="arrival orders, from 0 (default 5)")
    parser.add_argument("--lag", type=int, default=64, help="answers claimed at once (default 64)")
    parser.add_argument("--target", type=float, default=StopPolicy().target_confidence)
    parser.add_argument("--min-answers", type=int, default=StopPolicy().min_answers)
    parser.add_argument("--max-answers", type=int, default=20)
    chosen = parser.parse_args(arguments)
    data = Path(os.environ.get("CAIRN_DATA", "../shared/data"))
    policy = StopPolicy(chosen.target, chosen.min_answers, chosen.max_answers)
    print(
        "| data | accuracy (least) | majority of all | answers used (most) | ECE | stopped: said, was right |"
    )
    print("|---|---|---|---|---|---|")
    for name in chosen.folders:
        folder = Path(name) if Path(name).is_dir() else data / name
        try:
            recorded = read_folder(folder)
        except (OSError, ValueError) as problem:
            print(f"{folder}: {problem}", file=sys.stderr)
            return 1
        runs = [replay(recorded, seed=s, policy=policy, lag=chosen.lag) for s in range(chosen.seeds)]
        accuracy, used = [r.accuracy for r in runs], [r.used_share for r in runs]
        print(
            f"| {folder.name} | {np.mean(accuracy):.4f} ({min(accuracy):.4f}) | {runs[0].majority_accuracy:.4f} "
            f"| {np.mean(used):.1%} ({max(used):.1%}) | {np.mean([r.ece for r in runs]):.3f} "
            f"| {np.mean([r.stop_confidence for r in runs]):.3f}, {np.mean([r.stop_accuracy for r in runs]):.3f} |",
            flush=True,
        )
    return 0


def _rows(file: Path, columns: Sequence[str]) -> list[tuple[str, ...]]:
    with file.open(newline="", encoding="utf-8-sig") as opened:
        reader = csv.DictReader(opened)
        missing = [c for c in columns if c not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"{file.name} has no column {', '.join(missing)}")
        return [tuple(row[c] for c in columns) for row in reader]


if __name__ == "__main__":
    sys.exit(main())
