"""`make truth-plots`: measure on recorded crowds (CAIRN_DATA) and by simulation, and draw the README's pictures as SVG.

``--only NAME`` draws some of them; ``--scores FILE`` takes the lines of `python -m cairn_truth score --json` instead of
scoring anew.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cairn_truth import (
    BlockDawidSkene,
    DawidSkene,
    MajorityVote,
    StopPolicy,
    Votes,
    choose_threshold,
    reliability_diagram,
)
from cairn_truth.measured.recorded import read_folder
from cairn_truth.measured.replay import Recorded, replay
from cairn_truth.measured.score import DEFAULT, score

HERE = Path(__file__).parent
SETS = (
    "d_possent", "dog", "labelme", "music_genre", "rte", "s_rel", "sentiment_text", "snow_temp", "web", "zencrowd_us",
)  # fmt: skip
SEEDS = 2
OURS, PEER, PLAIN, LINE = "#1f5f8b", "#c8862c", "#8a8a8a", "#333333"


def accuracy(chosen: argparse.Namespace) -> Figure:
    """Draw the accuracy of the default, of majority vote and of every other published method, a set a row."""
    rows = list(_scores(chosen))
    figure, axes = _axes(7.0, 3.6)
    for place, data in enumerate(reversed(SETS)):
        of = {row["method"]: row["accuracy"] for row in rows if row["dataset"] == data}
        others = [value for method, value in of.items() if method not in {DEFAULT, "MajorityVote"}]
        axes.plot([min(others), max(others)], [place, place], color="#dddddd", linewidth=5, zorder=1)
        axes.scatter(
            others,
            [place] * len(others),
            s=14,
            color=PEER,
            zorder=2,
            label="other methods" if not place else None,
        )
        for method, colour, mark in (("MajorityVote", PLAIN, "|"), (DEFAULT, OURS, "D")):
            axes.scatter(of[method], place, s=60 if mark == "|" else 26, color=colour, marker=mark, zorder=3,
                         label=method if not place else None)  # fmt: skip
    axes.set_yticks(range(len(SETS)), reversed(SETS))
    axes.set_xlim(0.38, 1.0)
    axes.set_xlabel("accuracy (a method below .38 is not shown)")
    axes.legend(loc="lower left", frameon=False)
    return figure


def calibration(chosen: argparse.Namespace) -> Figure:
    """Draw what three methods said of their labels on all ten sets, and how often they were right."""
    figure, axes = _axes(4.2, 3.8)
    axes.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1)
    crowds = [read_folder(chosen.data / name) for name in SETS]
    methods: Mapping[str, tuple[Callable[[Votes], Any], str]] = {
        DEFAULT: (BlockDawidSkene().fit, OURS),
        "DawidSkene": (DawidSkene().fit, PEER),
        "MajorityVote": (MajorityVote().fit, PLAIN),
    }
    for name, (fit, colour) in methods.items():
        said, right = zip(*(_said(recorded, fit) for recorded in crowds), strict=True)
        told = reliability_diagram(np.concatenate(said), np.concatenate(right))
        some = told.items >= 50
        spread = np.abs(np.stack([told.lower, told.upper])[:, some] - told.accuracy[some])
        axes.errorbar(told.confidence[some], told.accuracy[some], spread, color=colour, marker="o", markersize=4,
                      linewidth=1.2, elinewidth=0.8, label=name)  # fmt: skip
    axes.set(
        xlim=(0.25, 1.02),
        ylim=(0.0, 1.02),
        xlabel="confidence in the label",
        ylabel="share of labels that are right",
    )
    axes.legend(loc="upper left", frameon=False)
    return figure


def stopping(chosen: argparse.Namespace) -> Figure:
    """Draw accuracy over answers bought: asking until a target, and a fixed number of answers an item."""
    figure, both = pyplot.subplots(1, 2, figsize=(7.0, 3.0), layout="constrained")
    for axes, name in zip(both, ("d_possent", "rte"), strict=True):
        recorded = read_folder(chosen.data / name)
        targets = [StopPolicy(target, 2, 20) for target in (0.8, 0.9, 0.95, 0.99)]
        fixed = [
            StopPolicy(max_answers=n, fixed=True)
            for n in (2, 3, 5, 10, 20)
            if n <= len(recorded.votes) / recorded.votes.items
        ]
        for policies, colour, label in (
            (targets, OURS, "until a target"),
            (fixed, PLAIN, "the same number for all"),
        ):
            runs = [
                [replay(recorded, seed=seed, policy=policy) for seed in range(SEEDS)] for policy in policies
            ]
            used = [100.0 * np.mean([run.used_share for run in each]) for each in runs]
            right = [np.mean([run.accuracy for run in each]) for each in runs]
            axes.plot(used, right, color=colour, marker="o", markersize=4, linewidth=1.2, label=label)
            for at, accuracy_there, policy in zip(used, right, policies, strict=True):
                if not policy.fixed:
                    axes.annotate(f"{policy.target_confidence:.3g}"[1:], (at, accuracy_there), (3, -9),
                                  textcoords="offset points", fontsize=7, color=colour)  # fmt: skip
        axes.set(title=name, xlabel="answers used, %", ylabel="accuracy of all labels")
        _plain(axes)
    both[0].legend(loc="lower right", frameon=False)
    return figure


def guarantee(_: argparse.Namespace) -> Figure:
    """Draw the true error of what a simulated model is let answer alone, over 400 validation samples."""
    chance, alpha, delta = np.random.default_rng(0), 0.05, 0.1
    ours, plugged = [], []
    for _run in range(400):
        confidence = chance.beta(6.0, 0.8, 20_000)
        wrong = chance.random(confidence.size) < 1.0 - confidence
        sample, pool = slice(0, 1_000), slice(1_000, None)
        found = choose_threshold(
            confidence[sample], wrong[sample].astype(float), alpha=alpha, delta=delta, pool_items=19_000
        )
        ours.append(_let_through(confidence[pool], wrong[pool], found.threshold))
        plugged.append(
            _let_through(confidence[pool], wrong[pool], _plug_in(confidence[sample], wrong[sample], alpha))
        )
    figure, axes = _axes(4.6, 3.0)
    bins = np.arange(0.01, 0.0701, 0.0025)
    for errors, colour, label in (
        (plugged, PEER, "error seen at most alpha"),
        (ours, OURS, "choose_threshold"),
    ):
        true, share = np.array(errors).T
        told = f"{label}: broken in {np.mean(true > alpha):.1%}, lets {np.mean(share):.0%} through"
        axes.hist(true, bins=bins, color=colour, alpha=0.65, label=told)
    axes.axvline(alpha, color=LINE, linewidth=1)
    axes.set(xlabel="true error of what is let through (alpha .05, delta .1)", ylabel="runs")
    axes.set_ylim(0, axes.get_ylim()[1] * 1.35)
    axes.legend(loc="upper left", frameon=False)
    return figure


def _scores(chosen: argparse.Namespace) -> Iterable[Mapping[str, Any]]:
    if chosen.scores:
        yield from (json.loads(line) for line in chosen.scores.read_text(encoding="utf-8").splitlines())
        return
    for name in SETS:
        for one in score(read_folder(chosen.data / name)):
            yield {"dataset": name, "method": one.method, **one.measures}


def _said(recorded: Recorded, fit: Callable[[Votes], Any]) -> tuple[Sequence[float], Sequence[bool]]:
    judged = recorded.truth >= 0
    posterior = fit(recorded.votes).posterior[judged]
    return np.minimum(posterior.max(axis=1), 1.0), posterior.argmax(axis=1) == recorded.truth[judged]


def _plug_in(confidence: np.ndarray, wrong: np.ndarray, alpha: float) -> float:
    order = np.argsort(-confidence)
    seen = np.cumsum(wrong[order]) / np.arange(1, order.size + 1)
    fine = np.flatnonzero(seen <= alpha)
    return float(confidence[order][fine[-1]]) if fine.size else float("inf")


def _let_through(confidence: np.ndarray, wrong: np.ndarray, threshold: float) -> tuple[float, float]:
    """Return the error and the share of what is let through."""
    taken = confidence >= threshold
    return (float(wrong[taken].mean()) if taken.any() else 0.0), float(taken.mean())


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure, axes = pyplot.subplots(figsize=(width, height), layout="constrained")
    _plain(axes)
    return figure, axes


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)


PICTURES: Mapping[str, Callable[[argparse.Namespace], Figure]] = {
    "accuracy": accuracy,
    "calibration": calibration,
    "stopping": stopping,
    "guarantee": guarantee,
}


def main() -> None:
    """Draw the pictures asked for beside this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("CAIRN_DATA", "../shared/data")))
    parser.add_argument("--only", nargs="+", choices=PICTURES, default=list(PICTURES))
    parser.add_argument("--scores", type=Path)
    chosen = parser.parse_args()
    mpl.use("svg")
    mpl.rcParams.update(
        {"svg.fonttype": "none", "svg.hashsalt": "cairn", "font.size": 8.5, "font.family": "sans-serif"}
    )
    for name in chosen.only:
        figure = PICTURES[name](chosen)
        figure.savefig(HERE / f"{name}.svg", metadata={"Date": None, "Creator": None}, facecolor="white")
        pyplot.close(figure)


if __name__ == "__main__":
    main()
