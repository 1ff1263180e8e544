"""`python -m cairn_truth score DIR...` and `replay DIR...`: every method, or the stop rule, on recorded crowds.

The only file of the library that reads anything: ``answers.csv`` (item,annotator,label) and ``truth.csv``
(item,label) of each folder. A name without a folder of that name is looked for in CAIRN_DATA.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from .classes.votes import Votes
from .measured.replay import Recorded, replay
from .measured.score import Score, score
from .routing.stop_rule import StopPolicy


class NoClassesError(ValueError):
    """A folder whose answers are of another kind than classes."""


def read_folder(folder: Path) -> Recorded:
    """Read a folder's ``answers.csv`` and ``truth.csv``.

    Raises ValueError naming a missing file or column, and NoClassesError saying what the answers are instead.
    """
    answers = _rows(folder / "answers.csv", ("item", "annotator", "label"))
    truths = _rows(folder / "truth.csv", ("item", "label"))
    other = _other_kind(answers, truths)
    if other:
        raise NoClassesError(f"holds no classes but {other}")
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
    parser = argparse.ArgumentParser(prog="cairn_truth", description="Measure on recorded crowds.")
    commands = parser.add_subparsers(dest="command", required=True)
    scoring = commands.add_parser("score", help="every aggregation method against the truth")
    scoring.add_argument("--json", action="store_true", help="one JSON object a line, not a table")
    scoring.set_defaults(run=_score)
    replaying = commands.add_parser(
        "replay", help="answers bought by the stop rule, and the accuracy reached"
    )
    replaying.add_argument("--seeds", type=int, default=5, help="arrival orders, from 0 (default 5)")
    replaying.add_argument("--lag", type=int, default=64, help="answers claimed at once (default 64)")
    replaying.add_argument("--target", type=float, default=StopPolicy().target_confidence)
    replaying.add_argument("--min-answers", type=int, default=StopPolicy().min_answers)
    replaying.add_argument("--max-answers", type=int, default=20)
    replaying.set_defaults(run=_replay)
    for command in (scoring, replaying):
        command.add_argument("folders", nargs="+", metavar="DIR")
    chosen = parser.parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = chosen.run
    return run(chosen)


def _score(chosen: argparse.Namespace) -> int:
    failed, by_method = 0, defaultdict[str, list[Score]](list)
    if not chosen.json:
        print(_SCORE_ROW.format("data", "method", "accuracy", "macro F1", "ECE", "seconds", "peak MB"))
        print(_SCORE_ROW.format(*("-" * width for width in (14, 24, 8, 8, 6, 8, 8))))
    for name in chosen.folders:
        folder = _folder(name)
        try:
            recorded = read_folder(folder)
        except NoClassesError as other:
            print(f"{folder}: {other}; not scored", file=sys.stderr)
            continue
        except (OSError, ValueError) as problem:
            print(f"{folder}: {problem}", file=sys.stderr)
            failed = 1
            continue
        for one in score(recorded):
            by_method[one.method].append(one)
            if chosen.json:
                print(json.dumps({"dataset": folder.name, **asdict(one)}), flush=True)
            else:
                _print_scores(folder.name, [one])
    if not chosen.json and len(chosen.folders) > 1:
        for scores in by_method.values():
            _print_scores("mean", scores)
    return failed


_SCORE_ROW = "| {:14} | {:24} | {:>8} | {:>8} | {:>6} | {:>8} | {:>8} |"


def _print_scores(data: str, scores: Sequence[Score]) -> None:
    """Print one row: the mean of one method's scores. The default is starred."""
    mean = np.mean([(s.accuracy, s.macro_f1, s.ece, s.seconds, s.peak_mb) for s in scores], axis=0)
    method = scores[0].method + (" *" if scores[0].default else "")
    shown = (f"{mean[0]:.4f}", f"{mean[1]:.4f}", f"{mean[2]:.3f}", f"{mean[3]:.2f}", f"{mean[4]:.1f}")
    print(_SCORE_ROW.format(data, method, *shown), flush=True)


def _replay(chosen: argparse.Namespace) -> int:
    policy = StopPolicy(chosen.target, chosen.min_answers, chosen.max_answers)
    print(
        "| data | accuracy (least) | majority of all | answers used (most) | ECE | stopped: said, was right |"
    )
    print("|---|---|---|---|---|---|")
    for name in chosen.folders:
        folder = _folder(name)
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


def _folder(name: str) -> Path:
    data = Path(os.environ.get("CAIRN_DATA", "../shared/data"))
    return Path(name) if Path(name).is_dir() else data / name


def _other_kind(answers: Sequence[tuple[str, ...]], truths: Sequence[tuple[str, ...]]) -> str | None:
    """Say what kind of answer a folder holds if not classes; None if classes, as whole numbers without wide gaps are."""
    labels = {row[2] for row in answers}
    if answers and all("|" in row[0] for row in answers):
        return "preferences between the things that each item names"
    if labels and all(label[:1] in {"[", "{"} for label in labels):
        return "spans or shapes"
    numbers = [_number(label) for label in labels | {row[1] for row in truths}]
    if None not in numbers:
        values = [value for value in map(_number, labels) if value is not None]
        whole = all(value is not None and value >= 0 and value == int(value) for value in numbers)
        if values and not (whole and 2 * len(values) >= max(values) - min(values) + 1):
            return "numbers"
    elif len(labels) > max(20, len(answers) / 4):
        return "text"
    return None


def _number(label: str) -> float | None:
    try:
        value = float(label)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _rows(file: Path, columns: Sequence[str]) -> list[tuple[str, ...]]:
    with file.open(newline="", encoding="utf-8-sig") as opened:
        reader = csv.DictReader(opened)
        missing = [c for c in columns if c not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"{file.name} has no column {', '.join(missing)}")
        return [tuple(row[c] for c in columns) for row in reader]


if __name__ == "__main__":
    sys.exit(main())
