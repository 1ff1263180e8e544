"""Speed and memory: Dawid-Skene beside Crowd-Kit's on a million and ten million votes, the default, and one vote live.

Seconds are of the process, not of the wall: the machine may be busy. Memory is what a child process holds at most
beyond what it held before the fit, with NumPy, SciPy or pandas already imported and the votes in its hands. Crowd-Kit's
ten million are not run: a round of it takes some ten seconds there and several gigabytes.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cairn_truth import BlockDawidSkene, DawidSkene, LiveClasses, Votes
from tests.benchmarks.rows import Absent, Row, Rows

_ROUNDS = 10
_CLASSES, _EACH, _LABELERS = 4, 5, 5_000
_MILLION = 200_000
_SAME = 1e-6

Columns = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int16]]


def rows(data: Path) -> Rows:
    """Yield times and memory; ``data`` is not looked at: the votes are drawn."""
    yield from _beside_crowd_kit()
    yield from _ten_million()
    yield from _default()
    yield from _one_vote()


# --- Dawid & Skene


def _beside_crowd_kit() -> Rows:
    with tempfile.TemporaryDirectory() as home:
        ordered = _write(_MILLION, Path(home))
        ours, theirs = (_in_a_child(who, Path(home)) for who in ("ours", "crowd_kit"))
        gap = float(np.abs(np.load(ours["posterior"]) - np.load(theirs["posterior"])).max())
    what = f"DawidSkene, 1M votes, {_ROUNDS} rounds"
    yield Row(f"{what}: times as fast", "x", theirs["seconds"] / ours["seconds"], least=20.0)
    yield Row(what, "s", ours["seconds"], theirs["seconds"], "Crowd-Kit", spread=ours["spread"])
    yield Row(f"{what}: share of the memory", "", ours["peak_mb"] / theirs["peak_mb"], most=1 / 3)
    yield Row(f"{what}: memory", "MB", ours["peak_mb"], theirs["peak_mb"], "Crowd-Kit")
    yield Row(f"{what}: largest difference of posteriors", "", gap, most=_SAME)
    yield Row("1M votes checked and put in order", "s", ordered)


def _ten_million() -> Rows:
    with tempfile.TemporaryDirectory() as home:
        ordered = _write(10 * _MILLION, Path(home))
        ours = _in_a_child("ours", Path(home))
    what = f"DawidSkene, 10M votes, {_ROUNDS} rounds"
    yield Row(what, "s", ours["seconds"], spread=ours["spread"])
    yield Row(f"{what}: memory", "MB", ours["peak_mb"])
    yield Row("10M votes checked and put in order", "s", ordered)


def _write(items: int, home: Path) -> float:
    """Draw votes and write them down; return the seconds that putting them in order took."""
    columns = drawn(items)
    started = process_time()
    votes = Votes.of(*columns, classes=_CLASSES, items=items, labelers=_LABELERS)
    taken = process_time() - started
    np.savez(home / "votes.npz", item=votes.item, labeler=votes.labeler, choice=votes.choice)
    return taken


def _in_a_child(who: str, home: Path) -> dict[str, Any]:
    """Run `measured` in a process of its own, so that nothing else counts to its peak. Raises Absent without the peer."""
    command = [sys.executable, "-W", "ignore", "-m", __name__, who, str(home)]
    ran = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    if ran.returncode:
        raise Absent(f"{who} did not run: {ran.stderr.strip().splitlines()[-1]}")
    return {"posterior": home / f"{who}.npy", **json.loads(ran.stdout)}


def measured(who: str, home: Path) -> dict[str, float]:
    """Fit once for memory, and ours twice more for time; save the posterior."""
    with np.load(home / "votes.npz") as columns:
        item, labeler, choice = (columns[name] for name in ("item", "labeler", "choice"))
    votes = Votes(item, labeler, choice, int(item.max()) + 1, _LABELERS, _CLASSES)
    fit = _ours(votes) if who == "ours" else _theirs(votes)
    before = _resident_mb()
    started = process_time()
    posterior = fit()
    taken = [process_time() - started]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6 - before
    np.save(home / f"{who}.npy", posterior)
    if who == "ours":
        taken += [_seconds(fit) for _ in range(2)]
    return {"seconds": median(taken), "spread": max(taken) - min(taken), "peak_mb": peak}


def _resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def _ours(votes: Votes) -> Callable[[], NDArray[np.float64]]:
    DawidSkene(iterations=1).fit(Votes.of([0, 1], [0, 0], [0, 1], classes=2))
    return lambda: DawidSkene(iterations=_ROUNDS, tolerance=0.0).fit(votes).posterior


def _theirs(votes: Votes) -> Callable[[], NDArray[np.float64]]:
    import pandas
    from crowdkit.aggregation import DawidSkene as Theirs

    def table(votes: Votes) -> pandas.DataFrame:
        columns = {"task": votes.item, "worker": votes.labeler, "label": votes.choice.astype(np.int64)}
        return pandas.DataFrame(columns)

    Theirs(n_iter=1).fit(table(Votes.of([0, 1], [0, 0], [0, 1], classes=2)))
    whole = table(votes)

    def fit() -> NDArray[np.float64]:
        found = Theirs(n_iter=_ROUNDS, tol=-np.inf).fit_predict_proba(whole)
        return np.asarray(found.sort_index().sort_index(axis=1))

    return fit


def drawn(items: int) -> Columns:
    """Draw ``_EACH`` votes an item, in an order of no use; labelers are right 50 to 95 % of the time."""
    chance = np.random.default_rng(0)
    truth = chance.integers(0, _CLASSES, items, dtype=np.int16)
    accuracy = chance.uniform(0.5, 0.95, _LABELERS)
    item = chance.permutation(np.repeat(np.arange(items, dtype=np.int32), _EACH))
    labeler = chance.integers(0, _LABELERS, item.size, dtype=np.int32)
    slip = chance.integers(1, _CLASSES, item.size, dtype=np.int16)
    slip[chance.random(item.size) < accuracy[labeler]] = 0
    return item, labeler, ((truth[item] + slip) % _CLASSES).astype(np.int16)


# --- the default, and live


def _default() -> Rows:
    votes = Votes.of(*drawn(_MILLION), classes=_CLASSES, items=_MILLION, labelers=_LABELERS)
    pairs = [
        (_seconds(lambda: BlockDawidSkene().fit(votes)), _seconds(lambda: DawidSkene().fit(votes)))
        for _ in range(3)
    ]
    ours, plain = (median(taken) for taken in zip(*pairs, strict=True))
    spread = max(a / b for a, b in pairs) - min(a / b for a, b in pairs)
    yield Row("the default, 1M votes", "s", ours, plain, "our DawidSkene")
    yield Row(
        "the default, 1M votes: times DawidSkene's time",
        "x",
        median(a / b for a, b in pairs),
        most=3.0,
        spread=spread,
    )


def _one_vote() -> Rows:
    """One vote on an item with twenty, each of another labeler; a sum of twenty by ten is the machine's own pace."""
    chance = np.random.default_rng(0)
    live = LiveClasses(classes=10)
    for item in range(200):
        for labeler in range(20):
            live.update(f"item-{item}", f"labeler-{labeler}", int(chance.integers(10)))
    live.refit()
    said = chance.random((20, 10))
    turns = 2_000
    updates, sums = [], []
    for _ in range(5):
        updates.append(_seconds(lambda: _again(live, turns)) / turns)
        sums.append(_seconds(lambda: _sums(said, turns)) / turns)
    each, reference = 1e6 * median(updates), 1e6 * median(sums)
    spread = 1e6 * (max(updates) - min(updates))
    yield Row(
        "LiveClasses.update, 10 classes, 20 votes",
        "us",
        each,
        reference,
        "np.add.reduce of them",
        most=100.0,
        spread=spread,
    )


def _again(live: LiveClasses, turns: int) -> None:
    for turn in range(turns):
        live.update(f"item-{turn % 200}", f"labeler-{turn % 20}", turn % 10)


def _sums(said: NDArray[np.float64], turns: int) -> None:
    for _ in range(turns):
        np.add.reduce(said, axis=0)


def _seconds(work: Callable[[], object]) -> float:
    started = process_time()
    work()
    return process_time() - started


def main(arguments: Sequence[str]) -> None:
    """Measure in this process, for `_in_a_child`."""
    who, home = arguments
    print(json.dumps(measured(who, Path(home))))


if __name__ == "__main__":
    main(sys.argv[1:])
