"""Spans: characters shared with a professional, beside votes, labelers and the aggregates its authors published."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from statistics import median

import numpy as np

from cairn_truth.measured import score_spans
from cairn_truth.measured.score_spans import METHODS, Value, judge, read
from cairn_truth.routing.calibration import expected_calibration_error
from cairn_truth.stretches.joining import shared_f
from cairn_truth.stretches.spans import LiveSpans, Span
from tests.benchmarks.rows import Row, Rows, folder, seconds

CROWD = "pico_spans"

Answers = Mapping[str, Mapping[str, Value]]


def rows(data: Path) -> Rows:
    """Yield the rows of spans."""
    answers, truth = _recorded(folder(data, CROWD))
    reached = {name: judge(method(answers), truth) for name, method in METHODS.items()}
    ours = reached[score_spans.DEFAULT]
    yield Row(
        f"{CROWD}: characters", "F1", ours["f1"], reached["TwoInFive"]["f1"], "40 % of votes", least=0.73
    )
    for name, what in (
        ("MajorityVote", "majority"),
        ("DawidSkene", "DawidSkene, cells"),
        ("HMMCrowd", "HMMCrowd, cells"),
    ):
        yield Row(f"{CROWD}: characters", "F1", ours["f1"], reached[name]["f1"], what)
    yield Row(f"{CROWD}: characters", "F1", ours["f1"], _median_labeler(answers, truth), "median labeler")
    for name, value in _published(data / CROWD).items():
        yield Row(
            f"{CROWD}: characters", "F1", ours["f1"], judge(value, truth)["f1"], f"{name}, as published"
        )
    for measure, what in (
        ("f1_mean", "mean of items"),
        ("span_exact", "whole spans, exact"),
        ("span_overlap", "spans met"),
    ):
        best = max((one[measure], name) for name, one in reached.items() if name != score_spans.DEFAULT)
        yield Row(f"{CROWD}: {what}", "F1", ours[measure], *best)
    yield from _fewer_answers(answers, truth)
    yield from _calibration(answers, truth)
    yield from _speed(answers)


def _recorded(place: Path) -> tuple[Answers, Mapping[str, Value]]:
    answers: dict[str, dict[str, Value]] = {}
    with (place / "answers.csv").open(encoding="utf-8-sig") as lines:
        for row in csv.DictReader(lines):
            answers.setdefault(row["item"], {})[row["annotator"]] = read(row["label"])
    with (place / "truth.csv").open(encoding="utf-8-sig") as lines:
        truth = {row["item"]: read(row["label"]) for row in csv.DictReader(lines)}
    return answers, truth


def _median_labeler(answers: Answers, truth: Mapping[str, Value]) -> float:
    theirs: dict[str, dict[str, Value]] = {}
    for item, votes in answers.items():
        for who, said in votes.items():
            theirs.setdefault(who, {})[item] = said
    return median(judge(said, {item: truth[item] for item in said})["f1"] for said in theirs.values())


def _fewer_answers(answers: Answers, truth: Mapping[str, Value]) -> Rows:
    """Yield the characters found from the answers of some labelers of each item, drawn five times."""
    for each in (2, 3, 5):
        reached: dict[str, list[float]] = {
            name: [] for name in METHODS if name not in {"ExactVote", "HMMCrowd"}
        }
        for seed in range(5):
            chance = np.random.default_rng(seed)
            some = {
                item: {who: votes[who] for who in chance.permutation(sorted(votes))[:each]}
                for item, votes in answers.items()
            }
            for name, runs in reached.items():
                runs.append(judge(METHODS[name](some), truth)["f1"])
        ours = reached.pop(score_spans.DEFAULT)
        best = max((float(np.mean(runs)), name) for name, runs in reached.items())
        spread = max(ours) - min(ours)
        yield Row(
            f"{CROWD}: characters, {each} answers an item", "F1", float(np.mean(ours)), *best, spread=spread
        )


def _published(place: Path) -> Mapping[str, Mapping[str, Value]]:
    """Return what Nguyen et al. (2017) published for the same items; from which answers they learnt is not recorded."""
    file = place / "original" / "PICO-annos-crowdsourcing-agg.json"
    found: dict[str, dict[str, Value]] = {}
    for line in file.read_text().splitlines() if file.is_file() else ():
        one = json.loads(line)
        for name, spans in one["Participants"].items():
            found.setdefault(name, {})[one["docid"]] = read(json.dumps(spans))
    return found


def _live(answers: Answers) -> LiveSpans:
    live = LiveSpans(1)
    live.fit({
        item: {who: tuple(Span(a, b) for a, b, _ in said) for who, said in votes.items()}
        for item, votes in answers.items()
    })  # fmt: skip
    return live


def _calibration(answers: Answers, truth: Mapping[str, Value]) -> Rows:
    live = _live(answers)
    said, reached, chance, right = [], [], [], []
    for item, true in truth.items():
        joined = live.posterior(item)
        value = {0: [(float(span.start), float(span.end)) for span in joined.value]}
        lines = {0: [(float(a), float(b)) for a, b, _ in true]}
        said.append(joined.confidence)
        reached.append(shared_f(value, lines))
        for (a, b), one in zip(value[0], joined.chances, strict=True):
            chance.append(one)
            right.append(sum(max(0.0, min(b, d) - max(a, c)) for c, d in lines[0]) / (b - a))
    yield Row(f"{CROWD}: confidence", "mean", float(np.mean(said)), float(np.mean(reached)), "F1 reached")
    yield Row(f"{CROWD}: confidence, calibration error", "", _calibration_error(said, reached))
    yield Row(f"{CROWD}: chance of a span, calibration error", "", _calibration_error(chance, right))


def _calibration_error(said: list[float], reached: list[float]) -> float:
    """Return the mean distance, over ten bins of what was said, of its mean from the mean reached."""
    return expected_calibration_error(np.array(said), np.array(reached))


def _speed(answers: Answers) -> Rows:
    live = _live(answers)
    items = sorted(answers)

    def every_posterior() -> None:
        for item in items:
            live._last = None  # else the same item again costs nothing
            live.posterior(item)

    taken = seconds(every_posterior)
    each = 1e3 / len(items)
    yield Row(
        f"{CROWD}: posterior of an item", "ms", median(taken) * each, spread=(taken[-1] - taken[0]) * each
    )
    taken = seconds(live.refit)
    yield Row(f"{CROWD}: refit of {live.votes} answers", "s", median(taken), spread=taken[-1] - taken[0])
