"""`python -m cairn_truth COMMAND DIR...`: labels from a folder's answers, and recorded crowds measured.

Only this command reads anything: ``answers.csv`` (item,annotator,label), and where there is one ``truth.csv`` or
``gold.csv`` (item,label). Tables and labels go to stdout, notes and errors to stderr. Where CAIRN_DATA is set, a name
without a folder of that name is looked for there.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from .measured.agreements import agreements
from .measured.joins import JoinedTable, Known, joined
from .measured.kinds import CLASSES, KINDS, UnknownKindError
from .measured.recorded import Table, read_folder, read_table, recorded_of
from .measured.replay import Recorded, replay
from .measured.score import Score
from .measured.score_kinds import score_any
from .measured.shown import Shown
from .measured.tables import GOLD, read_truth
from .routing.stop_rule import StopPolicy

__all__ = ["main", "read_folder"]


def _put(line: str) -> None:
    print(line, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    chosen = parser.parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = chosen.run
    try:
        return run(chosen)
    except BrokenPipeError:
        # Whoever read has seen enough; nothing may be left to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cairn_truth", description="Labels from many people's answers, and recorded crowds measured."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, run, told in (
        ("join", _join, "labels as csv: item,label,confidence,answers"),
        ("labelers", _labelers, "how reliable each labeler is, and who does not look at the items"),
        ("agreement", _agreement, "how far labelers agree, beyond chance and at all"),
        ("score", _score, "every aggregation method against truth.csv"),
        ("replay", _replay, "answers bought by the stop rule, and the accuracy reached"),
    ):
        command = commands.add_parser(name, help=told, description=told)
        command.set_defaults(run=run)
        command.add_argument("folders", nargs="+", metavar="DIR", help="a folder with answers.csv")
        command.add_argument("--kind", choices=KINDS, help="what the answers are (default: told from them)")
        if name != "replay":
            command.add_argument("--json", action="store_true", help="one JSON object a line")
        if name in {"join", "labelers"}:
            command.add_argument(
                "--gold", type=Path, help=f"known labels of one DIR, item,label (default: DIR/{GOLD}, if any)"
            )
        if name == "score":
            command.add_argument("--memory", action="store_true", help="fit again for the memory a fit holds")
        if name == "replay":
            _add_replay(command)
    return parser


def _add_replay(command: argparse.ArgumentParser) -> None:
    usual = StopPolicy()
    command.add_argument("--seeds", type=_count, default=5, help="arrival orders, from 0 (default 5)")
    command.add_argument("--lag", type=_count, default=64, help="answers claimed at once (default 64)")
    command.add_argument(
        "--target", type=_share, default=usual.target_confidence, help="confidence to reach (default .95)"
    )
    command.add_argument("--min-answers", type=_count, default=usual.min_answers, help="(default 2)")
    command.add_argument("--max-answers", type=_count, default=20, help="(default 20)")


def _count(text: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number, at least 1")
    return int(text)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0.0 < value < 1.0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number between 0 and 1")
    return value


# --- folders


def _each(chosen: argparse.Namespace, show: Callable[[str, Path], None]) -> int:
    """Show each folder; what cannot be read is told and fails at the end, what has no kind is told and left out."""
    failed = 0
    for given in chosen.folders:
        folder = _folder(given)
        try:
            show(folder.resolve().name or given, folder)
        except UnknownKindError as unknown:
            print(f"{given}: {unknown}; left out", file=sys.stderr)
        except BrokenPipeError:
            raise
        except (OSError, ValueError) as problem:
            print(f"{given}: {problem}", file=sys.stderr)
            failed = 1
    return failed


def _folder(name: str) -> Path:
    data = os.environ.get("CAIRN_DATA")
    return Path(data) / name if data and not Path(name).is_dir() else Path(name)


def _told(name: str, table: Table) -> Table:
    """Say of which kind a table is and why, and what may be a slip."""
    print(f"{name}: {table.kind} ({table.why})", file=sys.stderr)
    for note in table.notes:
        print(f"{name}: note: {note}", file=sys.stderr)
    return table


# --- join and labelers


def _joined(chosen: argparse.Namespace, name: str, folder: Path) -> JoinedTable:
    path = chosen.gold if chosen.gold is not None else folder / GOLD
    gold = read_truth(path) if chosen.gold is not None or path.exists() else ()
    table = _told(name, read_table(folder, chosen.kind, truths=gold))
    found = joined(table, gold)
    known = f"{found.known} known {'label' if found.known == 1 else 'labels'}"
    print(f"{name}: joined by {found.method}, {known}", file=sys.stderr)
    return found


def _join(chosen: argparse.Namespace) -> int:
    several = len(chosen.folders) > 1
    rows = csv.writer(sys.stdout, lineterminator="\n")
    titles = [*(["dataset"] if several else []), "item", "label", "confidence", "answers"]

    def show(name: str, folder: Path) -> None:
        labels = _joined(chosen, name, folder).labels
        of = {"dataset": name} if several else {}
        if chosen.json:
            for one in labels:
                print(json.dumps({**of, **asdict(one)}, ensure_ascii=False))
            return
        if titles:
            rows.writerow(titles)
            titles.clear()
        rows.writerows(
            [*of.values(), one.item, one.label, f"{one.confidence:.4f}", one.answers] for one in labels
        )

    return _each_with_its_gold(chosen, show)


def _labelers(chosen: argparse.Namespace) -> int:
    several = len(chosen.folders) > 1

    def show(name: str, folder: Path) -> None:
        labelers = _joined(chosen, name, folder).labelers
        of = {"dataset": name} if several else {}
        if chosen.json:
            for one in labelers:
                told = {**of, "labeler": one.labeler, "answers": one.answers, **_finite(one.measures)}
                print(json.dumps({**told, "found": list(one.found)}, ensure_ascii=False))
            return
        _show_labelers(labelers, of)

    return _each_with_its_gold(chosen, show)


def _each_with_its_gold(chosen: argparse.Namespace, show: Callable[[str, Path], None]) -> int:
    """Show each folder, unless one table of known labels is given for several: items of the same name are not the same."""
    if chosen.gold is not None and len(chosen.folders) > 1:
        print(f"--gold is of one DIR, not of {len(chosen.folders)}; expected {GOLD} in each", file=sys.stderr)
        return 2
    return _each(chosen, show)


def _show_labelers(labelers: Sequence[Known], of: Mapping[str, str]) -> None:
    """Print the labelers ``of`` a dataset, if it is one of several, the most answers first; what somebody is found to do
    comes last, if anybody is.
    """
    named = [name for name in labelers[0].measures if name not in {"low", "high"}]
    ended = {"low", "high"} <= labelers[0].measures.keys()
    found = any(one.found for one in labelers)
    columns = [(title, max(len(title), len(name))) for title, name in of.items()]
    columns += [("labeler", max(len("labeler"), *(len(one.labeler) for one in labelers))), ("answers", 7)]
    columns += [(name, max(9, len(name))) for name in named]
    columns += [("95 % interval", 16)] if ended else []
    table = Shown(_put, [*columns, *([("found", 5)] if found else [])], words=len(of) + 1)
    for one in sorted(labelers, key=lambda one: (-one.answers, one.labeler)):
        cells = [f"{one.measures[name]:.3f}" for name in named]
        if ended:
            cells.append(f"{one.measures['low']:.3f} to {one.measures['high']:.3f}")
        table.row(
            *of.values(), one.labeler, str(one.answers), *cells, *(["; ".join(one.found)] if found else [])
        )


# --- score


_MEASURES = {
    "accuracy": "share of items right",
    "macro_f1": "mean over classes of F1",
    "ece": "how far confidence is from the share right (less is better)",
    "rmse": "root mean square error, in the labels' unit (less is better)",
    "mae": "mean absolute error, in the labels' unit (less is better)",
    "correlation": "with the truth",
    "wer": "share of words that are wrong (less is better)",
    "exact": "share of items without a wrong word",
    "side_accuracy": "share of true preferences whose side is right",
    "log_loss": "in nats (less is better)",
    "f1": "of what was marked",
    "f1_mean": "the same, by item",
    "span_exact": "F1 of spans with the same ends and class",
    "span_overlap": "F1 of spans that meet one of the class",
    "iou": "area shared over area covered, by item",
    "seconds": "of the fit, on this machine",
    "peak MB": "held at most by the fit, in 10^6 bytes",
}


def _score(chosen: argparse.Namespace) -> int:
    by_method = defaultdict[tuple[str, str], list[Score]](list)
    tables: dict[str, Shown] = {}
    explained: set[str] = set()

    def show(name: str, folder: Path) -> None:
        recorded = recorded_of(_told(name, read_table(folder, chosen.kind)))
        tables.clear()
        for one in score_any(recorded, memory=chosen.memory):
            by_method[one.kind, one.method].append(one)
            if chosen.json:
                print(json.dumps({"dataset": name, **_flat(one)}), flush=True)
            else:
                if one.kind not in explained:
                    explained.add(one.kind)
                    _explain([*one.measures, "seconds", *([] if one.peak_mb is None else ["peak MB"])])
                _show_scores(tables.setdefault(one.kind, _score_table(one)), name, [one])

    failed = _each(chosen, show)
    means: dict[str, Shown] = {}
    for (kind, _), scores in by_method.items():
        if len(scores) > 1 and not chosen.json:
            _show_scores(means.setdefault(kind, _score_table(scores[0])), f"mean of {len(scores)}", scores)
    return failed


def _explain(measures: Sequence[str]) -> None:
    told = "; ".join(f"{name}: {_MEASURES[name]}" for name in measures if name in _MEASURES)
    print(f"{told} (items with answers and a truth; the first measure is the main one)", file=sys.stderr)


def _flat(one: Score) -> Mapping[str, object]:
    """Return the score as one JSON object; a measure of which nothing can be said is null."""
    named = {"kind": one.kind, "method": one.method, "default": one.default}
    held = {} if one.peak_mb is None else {"peak_mb": one.peak_mb}
    return {**named, **_finite(one.measures), "seconds": one.seconds, **held}


def _finite(measures: Mapping[str, float]) -> Mapping[str, float | None]:
    return {name: value if np.isfinite(value) else None for name, value in measures.items()}


def _score_table(one: Score) -> Shown:
    """Return the table of one kind's scores; the main measure is the first."""
    held = [] if one.peak_mb is None else ["peak MB"]
    return Shown(
        _put,
        [
            (one.kind, 22),
            ("method (* default)", 30),
            *((name, 13) for name in (*one.measures, "seconds", *held)),
        ],
    )


def _show_scores(table: Shown, name: str, scores: Sequence[Score]) -> None:
    """Print one row: the mean of one method's scores. The default is starred."""
    measures = np.mean([list(one.measures.values()) for one in scores], axis=0)
    seconds = float(np.mean([one.seconds for one in scores]))
    held = [one.peak_mb for one in scores if one.peak_mb is not None]
    shown = [*(f"{value:.4f}" for value in measures), f"{seconds:.2f}"]
    method = scores[0].method + (" *" if scores[0].default else "")
    table.row(name, method, *shown, *([f"{np.mean(held):.1f}"] if held else []))


# --- agreement and replay


def _agreement(chosen: argparse.Namespace) -> int:
    counts = ("value", "low 95 %", "high 95 %", "items", "labelers", "answers")
    shown = Shown(_put, [("data", 22), ("statistic", 30), *((name, 13) for name in counts)])

    def show(name: str, folder: Path) -> None:
        table = _told(name, read_table(folder, chosen.kind))
        for one in agreements(table.kind, table.answers):
            if isinstance(one, ValueError):
                print(f"{name}: note: {one}", file=sys.stderr)
            elif chosen.json:
                print(json.dumps({"dataset": name, "kind": table.kind, **asdict(one)}), flush=True)
            else:
                ends = [f"{value:.4f}" for value in (one.value, one.low, one.high)]
                shown.row(
                    name, one.statistic, *ends, *(str(n) for n in (one.items, one.labelers, one.answers))
                )

    return _each(chosen, show)


_REPLAYED = (
    ("data", 22), ("accuracy (least)", 17), ("default on all answers", 22), ("majority of all", 15),
    ("answers used (most)", 19), ("ECE", 5), ("stopped: said, was right", 24),
)  # fmt: skip


def _replay(chosen: argparse.Namespace) -> int:
    if chosen.min_answers > chosen.max_answers:
        print(
            f"--min-answers is {chosen.min_answers}, --max-answers {chosen.max_answers}; expected no more than that",
            file=sys.stderr,
        )
        return 2
    policy = StopPolicy(chosen.target, chosen.min_answers, chosen.max_answers)
    shown = Shown(_put, _REPLAYED, words=1)

    def show(name: str, folder: Path) -> None:
        table = _told(name, read_table(folder, chosen.kind))
        recorded = recorded_of(table) if table.kind == CLASSES else None
        if not isinstance(recorded, Recorded):
            kind = table.kind if recorded is None else recorded.kind
            raise ValueError(f"holds no classes but {kind}; only classes are replayed")
        runs = [replay(recorded, seed=s, policy=policy, lag=chosen.lag) for s in range(chosen.seeds)]
        accuracy, used = [r.accuracy for r in runs], [r.used_share for r in runs]
        shown.row(
            name,
            f"{np.mean(accuracy):.4f} ({min(accuracy):.4f})",
            f"{runs[0].default_accuracy:.4f}",
            f"{runs[0].majority_accuracy:.4f}",
            f"{np.mean(used):.1%} ({max(used):.1%})",
            f"{np.mean([r.ece for r in runs]):.3f}",
            f"{np.mean([r.stop_confidence for r in runs]):.3f}, {np.mean([r.stop_accuracy for r in runs]):.3f}",
        )

    return _each(chosen, show)


if __name__ == "__main__":
    sys.exit(main())
