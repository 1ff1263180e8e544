"""`python -m cairn_truth score`, `agreement` and `replay DIR...`: recorded crowds, measured.

Only this command reads anything: ``answers.csv`` (item,annotator,label) and ``truth.csv`` (item,label) of each folder.
A name without a folder of that name is looked for in CAIRN_DATA.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from .measured.agreements import agreements
from .measured.kinds import UnknownKindError, kind_of
from .measured.recorded import read_any, read_cells, read_folder
from .measured.replay import replay
from .measured.score import Score
from .measured.score_kinds import score_any
from .routing.stop_rule import StopPolicy


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="cairn_truth", description="Measure on recorded crowds.")
    commands = parser.add_subparsers(dest="command", required=True)
    scoring = commands.add_parser("score", help="every aggregation method against the truth")
    agreeing = commands.add_parser("agreement", help="how far labelers agree, beyond chance and at all")
    for command, shown in ((scoring, _score), (agreeing, _agreement)):
        command.add_argument("--json", action="store_true", help="one JSON object a line, not a table")
        command.set_defaults(run=shown)
    replaying = commands.add_parser(
        "replay", help="answers bought by the stop rule, and the accuracy reached"
    )
    replaying.add_argument("--seeds", type=int, default=5, help="arrival orders, from 0 (default 5)")
    replaying.add_argument("--lag", type=int, default=64, help="answers claimed at once (default 64)")
    replaying.add_argument("--target", type=float, default=StopPolicy().target_confidence)
    replaying.add_argument("--min-answers", type=int, default=StopPolicy().min_answers)
    replaying.add_argument("--max-answers", type=int, default=20)
    replaying.set_defaults(run=_replay)
    for command in (scoring, agreeing, replaying):
        command.add_argument("folders", nargs="+", metavar="DIR")
    chosen = parser.parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = chosen.run
    return run(chosen)


def _each(chosen: argparse.Namespace, show: Callable[[Path], None]) -> int:
    """Show each folder; what cannot be read is told and fails at the end, what has no kind is told and left out."""
    failed = 0
    for name in chosen.folders:
        folder = _folder(name)
        try:
            show(folder)
        except UnknownKindError as unknown:
            print(f"{folder}: {unknown}; left out", file=sys.stderr)
        except (OSError, ValueError) as problem:
            print(f"{folder}: {problem}", file=sys.stderr)
            failed = 1
    return failed


def _score(chosen: argparse.Namespace) -> int:
    by_method = defaultdict[tuple[str, str], list[Score]](list)

    def show(folder: Path) -> None:
        for one in score_any(read_any(folder)):
            kind = by_method[one.kind, one.method]
            if not chosen.json and one.default:
                _print_titles(one)
            kind.append(one)
            if chosen.json:
                print(json.dumps({"dataset": folder.name, **_flat(one)}), flush=True)
            else:
                _print_scores(folder.name, [one])

    failed = _each(chosen, show)
    if not chosen.json:
        _print_means(by_method)
    return failed


def _flat(one: Score) -> Mapping[str, object]:
    """Return the score as one JSON object; a measure of which nothing can be said is null."""
    told = {name: value if np.isfinite(value) else None for name, value in one.measures.items()}
    named = {"kind": one.kind, "method": one.method, "default": one.default}
    return {**named, **told, "seconds": one.seconds, "peak_mb": one.peak_mb}


def _print_titles(one: Score) -> None:
    print(_row(one.kind, "method", [*one.measures, "seconds", "peak MB"]))
    print(_row("-" * _WIDTHS[0], "-" * _WIDTHS[1], ["-" * _WIDTHS[2]] * (len(one.measures) + 2)))


def _print_scores(data: str, scores: Sequence[Score]) -> None:
    """Print one row: the mean of one method's scores. The default is starred."""
    measures = np.mean([list(s.measures.values()) for s in scores], axis=0)
    seconds, megabytes = np.mean([(s.seconds, s.peak_mb) for s in scores], axis=0)
    method = scores[0].method + (" *" if scores[0].default else "")
    shown = [*(f"{value:.4f}" for value in measures), f"{seconds:.2f}", f"{megabytes:.1f}"]
    print(_row(data, method, shown), flush=True)


def _print_means(by_method: Mapping[tuple[str, str], Sequence[Score]]) -> None:
    for scores in by_method.values():
        if len(scores) > 1:
            if scores[0].default:
                _print_titles(scores[0])
            _print_scores(f"mean of {len(scores)}", scores)


_WIDTHS = (22, 30, 13)


def _row(first: str, second: str, rest: Sequence[str]) -> str:
    cells = [first.ljust(_WIDTHS[0]), second.ljust(_WIDTHS[1]), *(cell.rjust(_WIDTHS[2]) for cell in rest)]
    return "| " + " | ".join(cells) + " |"


def _agreement(chosen: argparse.Namespace) -> int:
    if not chosen.json:
        print(_row("data", "statistic", ["value", "low", "high", "items", "labelers", "answers"]))
        print(_row("-" * _WIDTHS[0], "-" * _WIDTHS[1], ["-" * _WIDTHS[2]] * 6))

    def show(folder: Path) -> None:
        cells = read_cells(folder)
        kind = kind_of(cells)
        for one in agreements(kind, cells):
            if isinstance(one, ValueError):
                print(f"{folder}: {one}", file=sys.stderr)
            elif chosen.json:
                print(json.dumps({"dataset": folder.name, "kind": kind, **asdict(one)}), flush=True)
            else:
                counts = [str(n) for n in (one.items, one.labelers, one.answers)]
                values = [f"{value:.4f}" for value in (one.value, one.low, one.high)]
                print(_row(folder.name, one.statistic, [*values, *counts]), flush=True)

    return _each(chosen, show)


def _replay(chosen: argparse.Namespace) -> int:
    policy = StopPolicy(chosen.target, chosen.min_answers, chosen.max_answers)
    print(
        "| data | accuracy (least) | majority of all | answers used (most) | ECE | stopped: said, was right |"
    )
    print("|---|---|---|---|---|---|")

    def show(folder: Path) -> None:
        recorded = read_folder(folder)
        runs = [replay(recorded, seed=s, policy=policy, lag=chosen.lag) for s in range(chosen.seeds)]
        accuracy, used = [r.accuracy for r in runs], [r.used_share for r in runs]
        print(
            f"| {folder.name} | {np.mean(accuracy):.4f} ({min(accuracy):.4f}) | {runs[0].majority_accuracy:.4f} "
            f"| {np.mean(used):.1%} ({max(used):.1%}) | {np.mean([r.ece for r in runs]):.3f} "
            f"| {np.mean([r.stop_confidence for r in runs]):.3f}, {np.mean([r.stop_accuracy for r in runs]):.3f} |",
            flush=True,
        )

    return _each(chosen, show)


def _folder(name: str) -> Path:
    data = Path(os.environ.get("CAIRN_DATA", "../shared/data"))
    return Path(name) if Path(name).is_dir() else data / name


if __name__ == "__main__":
    sys.exit(main())
