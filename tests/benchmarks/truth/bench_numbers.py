"""Numbers: error beside the plain mean on recorded and made crowds, honesty of intervals, speed."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cairn_truth import LiveNumbers, expected_calibration_error
from cairn_truth.measured.score_numbers import METHODS, judge
from cairn_truth.values.numbers import probability_within
from cairn_truth.values.ordinals import LiveRatings
from tests.benchmarks.rows import Absent, Row, Rows, folder, seconds

Answers = dict[str, dict[str, float]]

RECORDED = ("snow_anger", "snow_valence", "web", "s_rel")
"""Real numbers, and steps of scales taken for numbers."""

SCALES = {"web": (0, 4), "s_rel": (0, 3)}
"""Those that are steps, with the ends of their scales."""


def rows(data: Path) -> Rows:
    """Yield the rows; what is not in ``data`` is passed over."""
    found = 0
    for name in RECORDED:
        try:
            answers, truth = _recorded(folder(data, name))
        except Absent:
            continue
        found += 1
        yield from _errors(name, answers, truth)
        if name in SCALES:
            yield from _steps(name, answers, truth)
    if (data / "lidc_nodule_polygons").is_dir():
        yield _held_out_reader(data / "lidc_nodule_polygons" / "polygons.csv")
    yield from _made()
    yield _one_posterior()
    if not found:
        raise Absent(f"no recorded numbers in {data}")


def _errors(name: str, answers: Answers, truth: Mapping[str, float]) -> Rows:
    plain = judge(METHODS["Mean"](answers), truth)["rmse"]
    live = LiveNumbers()
    found = live.fit(answers)
    ours = judge({item: one.value for item, one in found.items()}, truth)["rmse"]
    yield Row(f"{name}: RMSE of numbers", "", ours, plain, "plain mean", most=1.02 * plain)
    for method in ("Median", "LFC-N", "CATD"):
        theirs = judge(METHODS[method](answers), truth)["rmse"]
        yield Row(f"{name}: RMSE over the plain mean's, {method}", "", theirs / plain, ours / plain, "ours")
    both = [item for item in found if item in truth]
    error = np.array([abs(found[item].value - truth[item]) for item in both])
    for what in ("sd", "truth_sd"):
        sd = np.array([getattr(found[item], what) for item in both])
        yield Row(f"{name}: truth within 1.96 {what}", "", float(np.mean(error < 1.96 * sd)))
    # One tolerance says little of a set: several, from a quarter of the values' spread to twice as much.
    said: list[float] = []
    right: list[bool] = []
    for share in (0.25, 0.5, 1.0, 2.0):
        near = share * live.value_sd
        said.extend(probability_within(found[item], near) for item in both)
        right.extend((error <= near).tolist())
    yield Row(f"{name}: calibration error of confidence", "", expected_calibration_error(said, right))


def _steps(name: str, answers: Answers, truth: Mapping[str, float]) -> Rows:
    steps = {item: {who: int(v) for who, v in votes.items()} for item, votes in answers.items()}
    found = LiveRatings(*SCALES[name]).fit(steps)
    plain = METHODS["Mean"](answers)
    both = [item for item in found if item in truth]
    right = [found[item].value == truth[item] for item in both]
    rounded = float(np.mean([round(plain[item]) == truth[item] for item in both]))
    yield Row(
        f"{name}: steps that are right", "", float(np.mean(right)), rounded, "rounded mean", least=rounded
    )
    error = judge({item: found[item].expected for item in both}, truth)["rmse"]
    theirs = judge(plain, truth)["rmse"]
    yield Row(f"{name}: RMSE of expected steps", "", error, theirs, "plain mean", most=theirs)
    said = [found[item].confidence for item in both]
    yield Row(f"{name}: calibration error of steps", "", expected_calibration_error(said, right))


def _held_out_reader(file: Path) -> Row:
    """Ratings of nodules by all readers but one, against that one; readers are no two times the same."""
    answers: Answers = {}
    with file.open(newline="", encoding="utf-8-sig") as opened:
        for row in csv.DictReader(opened):
            answers.setdefault(row["item"], {})[row["annotator"]] = float(row["malignancy"])
    ours, plain = [], []
    for reader in ("reader1", "reader2", "reader3", "reader4"):
        held = {item: votes[reader] for item, votes in answers.items() if reader in votes and len(votes) > 1}
        rest = {item: {who: v for who, v in answers[item].items() if who != reader} for item in held}
        ours.append(judge(METHODS["Congeneric"](rest), held)["rmse"])
        plain.append(judge(METHODS["Mean"](rest), held)["rmse"])
    return Row(
        "lidc ratings: RMSE to the reader held out",
        "",
        float(np.mean(ours)),
        float(np.mean(plain)),
        "plain mean",
        most=1.02 * float(np.mean(plain)),
    )


def _made() -> Rows:
    kinds: dict[str, dict[str, Any]] = {
        "alike": {},
        "alike, 1 answer an item": {"each": 1},
        "of different care": {"care": 0.8},
        "of different level": {"bias": 8.0},
        "of different scale": {"slope": 0.3},
        "one in five constant": {"constant": 0.2},
        "one in fifty times 1000": {"slips": 0.02},
        "one in thirty times 10": {"slips": 0.03, "slip": 10.0},
        "right to 20 % of log-normal values": {"share": 0.2},
        "right to 20 % of log-normal values, 2 answers an item": {"share": 0.2, "each": 2},
    }
    for name, kind in kinds.items():
        ours, plain, held = [], [], []
        for seed in range(10):
            answers, truth = _crowd(seed, **kind)
            found = LiveNumbers().fit(answers)
            ours.append(judge({item: one.value for item, one in found.items()}, truth)["rmse"])
            plain.append(judge(METHODS["Mean"](answers), truth)["rmse"])
            held.append(np.mean([abs(found[i].value - x) < 1.96 * found[i].sd for i, x in truth.items()]))
        yield Row(
            f"made, labelers {name}: RMSE",
            "",
            float(np.mean(ours)),
            float(np.mean(plain)),
            "plain mean",
            most=1.02 * float(np.mean(plain)),
            spread=max(ours) - min(ours),
        )
        yield Row(f"made, labelers {name}: truth within 1.96 sd", "", float(np.mean(held)))


def _crowd(
    seed: int,
    *,
    each: int = 5,
    bias: float = 0.0,
    slope: float = 0.0,
    care: float = 0.0,
    constant: float = 0.0,
    slips: float = 0.0,
    slip: float = 1000.0,
    share: float = 0.0,
) -> tuple[Answers, dict[str, float]]:
    chance, people = np.random.default_rng(seed), 30
    x = 50.0 + 15.0 * chance.normal(size=200)
    x = np.exp(x / 10.0 - 3.0) if share else x
    biases, slopes = bias * chance.normal(size=people), 1.0 + slope * chance.normal(size=people)
    spreads = 5.0 * np.exp(care * chance.normal(size=people))
    answers: Answers = {}
    for i, truth in enumerate(x):
        for who in chance.choice(people, each, replace=False):
            size = spreads[who] * (share * truth / 5.0 or 1.0)
            said = 50.0 + biases[who] + slopes[who] * (truth - 50.0) + size * chance.normal()
            said = 50.0 if who < constant * people else said
            answers.setdefault(f"i{i}", {})[f"l{who}"] = float(
                said * (slip if chance.random() < slips else 1.0)
            )
    return answers, {f"i{i}": float(truth) for i, truth in enumerate(x)}


def _one_posterior() -> Row:
    answers, _ = _crowd(0, each=10)
    live = LiveNumbers()
    live.fit(answers)
    last = max(answers["i0"])

    def one() -> None:
        live.update("i0", last, answers["i0"][last])

    taken = seconds(one, 201)
    return Row(
        "posterior of 10 numbers", "ms", 1e3 * taken[100], most=1.0, spread=1e3 * (taken[-1] - taken[0])
    )


def _recorded(found: Path) -> tuple[Answers, dict[str, float]]:
    answers: Answers = {}
    with (found / "answers.csv").open(newline="", encoding="utf-8-sig") as opened:
        for row in csv.DictReader(opened):
            answers.setdefault(row["item"], {})[row["annotator"]] = float(row["label"])
    with (found / "truth.csv").open(newline="", encoding="utf-8-sig") as opened:
        return answers, {row["item"]: float(row["label"]) for row in csv.DictReader(opened)}
