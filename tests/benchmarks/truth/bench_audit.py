"""Audits simulated a thousand times each: do their intervals cover the error, and how many checks do they save?

Labels are those of the default on recorded crowds with truth, and simulated ones; strata are by the posterior's own
expected error. *Checks of simple random sampling* are those at which its exact interval is as narrow on average.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cairn_truth import HierarchicalDawidSkene
from cairn_truth.__main__ import read_folder
from cairn_truth.quality.acceptance import double_plan, single_plan
from cairn_truth.quality.audit_statistics import (
    Stratum,
    StratumFindings,
    allocate,
    estimate_error,
    strata_by_error,
)
from cairn_truth.quality.suspicion import label_errors, suspicion
from tests.benchmarks.rows import Absent, Row, Rows

AUDITS = 1000
Floats = NDArray[np.float64]
Wrong = NDArray[np.bool_]


def rows(data: Path) -> Rows:
    for name, expected, wrong in (*_simulated(), *_recorded(data)):
        yield from _audited(name, expected, wrong)
    single, double = single_plan(5000, aql=0.01, limit=0.05), double_plan(5000, aql=0.01, limit=0.05)
    yield Row(
        "acceptance of 5,000 (AQL 1 %, LTPD 5 %): checks of a good lot by two samples",
        "checks",
        float(double.checks(0.01)),
        reference=float(single.sample),
        peer="one sample",
    )
    yield from _suspected(data)
    yield from _label_errors(data)


def _simulated() -> list[tuple[str, Floats, Wrong]]:
    """Populations in which errors are rare and gather where the posterior is unsure, or too sure."""
    made = []
    for name, a, b in (("errors rare", 0.1, 6.0), ("errors usual", 0.2, 3.0)):
        chance = np.random.default_rng(0)
        true = np.clip(chance.beta(a, b, 3000), 1e-4, 0.7)
        wrong = chance.random(3000) < true
        made += [
            (f"simulated, {name}", true, wrong),
            (f"simulated, {name}, overconfident", true**1.5, wrong),
        ]
    return made


def _recorded(data: Path) -> list[tuple[str, Floats, Wrong]]:
    made = []
    for name in ("rte", "d_possent", "web", "zencrowd_us", "music_genre", "dog"):
        if (data / name).is_dir():
            recorded = read_folder(data / name)
            judged = recorded.truth >= 0
            posterior = HierarchicalDawidSkene().fit(recorded.votes).posterior[judged]
            wrong = posterior.argmax(axis=1) != recorded.truth[judged]
            made.append((name, 1.0 - posterior.max(axis=1), wrong))
    return made


def _audited(name: str, expected: Floats, wrong: Wrong) -> Rows:
    checks = min(300, wrong.size // 5)
    part = strata_by_error(expected)
    size, bad = np.bincount(part), np.bincount(part, wrong).astype(np.int64)
    guess = np.bincount(part, expected) / size
    drawn = allocate(
        [Stratum(str(h), int(n), float(e)) for h, (n, e) in enumerate(zip(size, guess, strict=True))], checks
    )
    many = [drawn[str(h)] for h in range(size.size)]
    ours, width = _simulate(size, bad, many, float(wrong.mean()), seed=1)
    whole = np.array([wrong.size]), np.array([int(wrong.sum())])
    simple, simple_width = _simulate(*whole, [checks], float(wrong.mean()), seed=2)
    needed = _checks_for(width, whole, float(wrong.mean()), checks, simple_width)
    yield Row(f"audit, {name}: intervals that cover", "%", 100 * ours, 100 * simple, "simple sampling", 95.0)
    yield Row(
        f"audit, {name}: checks for an interval {100 * width:.2f} points wide",
        "checks",
        float(checks),
        reference=float(needed),
        peer="simple sampling",
        most=float(needed),
    )


def _simulate(
    size: NDArray[np.int64], bad: NDArray[np.int64], drawn: list[int], truth: float, *, seed: int
) -> tuple[float, float]:
    """Return the share of intervals that cover, and their mean width; findings that recur are estimated once."""
    chance = np.random.default_rng(seed)
    found = np.stack(
        [chance.hypergeometric(b, n - b, d, AUDITS) for n, b, d in zip(size, bad, drawn, strict=True)]
    )
    said: dict[bytes, tuple[float, float]] = {}
    covered, width = 0, 0.0
    for audit in found.T:
        key = audit.tobytes()
        if key not in said:
            findings = [
                StratumFindings(str(h), int(n), d, int(k))
                for h, (n, d, k) in enumerate(zip(size, drawn, audit, strict=True))
            ]
            estimate = estimate_error(findings)
            said[key] = (estimate.lower, estimate.upper)
        low, high = said[key]
        covered += low <= truth <= high
        width += high - low
    return covered / AUDITS, width / AUDITS


def _checks_for(
    width: float, whole: tuple[NDArray[np.int64], NDArray[np.int64]], truth: float, checks: int, simple: float
) -> int:
    """Return how many checks simple random sampling needs for intervals of this mean width."""
    low, high = (checks, int(whole[0][0])) if simple > width else (1, checks)
    while high - low > max(2, checks // 100):
        middle = (low + high) // 2
        if _simulate(*whole, [middle], truth, seed=3)[1] > width:
            low = middle
        else:
            high = middle
    return high


def _suspected(data: Path) -> Rows:
    for name in ("d_possent", "rte", "sentiment_text", "web", "music_genre", "zencrowd_us"):
        if not (data / name).is_dir():
            continue
        recorded = read_folder(data / name)
        posterior = HierarchicalDawidSkene().fit(recorded.votes).posterior
        label, judged = posterior.argmax(axis=1), recorded.truth >= 0
        wrong = judged & (label != recorded.truth)
        order = suspicion(label, posterior=posterior, votes=recorded.votes).order
        first = max(int(judged.sum()) // 20, 1)
        alone = np.argsort(posterior.max(axis=1), kind="stable")
        yield Row(
            f"suspicion, {name} ({100 * wrong[judged].mean():.1f} % wrong): wrong among the first 5 %",
            "%",
            100 * float(wrong[order[judged[order]][:first]].mean()),
            reference=100 * float(wrong[alone[judged[alone]][:first]].mean()),
            peer="least posterior",
        )


def _label_errors(data: Path) -> Rows:
    """Errors in one person's labels of sentences, by out-of-sample predictions of a model trained on them."""
    from cleanlab.filter import find_label_issues
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict

    folder = data / "sentiment_text"
    if not folder.is_dir():
        raise Absent(f"no folder sentiment_text in {data}")
    recorded = read_folder(folder)
    texts = {
        row["item"]: row["text"] for row in csv.DictReader((folder / "items.csv").open(encoding="utf-8"))
    }
    names = sorted({row["item"] for row in csv.DictReader((folder / "answers.csv").open(encoding="utf-8"))})
    features = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True).fit_transform(
        [texts[name] for name in names]
    )
    label = recorded.votes.choice[np.unique(recorded.votes.item, return_index=True)[1]].astype(np.int64)
    predicted = cross_val_predict(LogisticRegression(C=3.0), features, label, cv=5, method="predict_proba")
    wrong = label != recorded.truth
    peers: Callable[..., NDArray[np.bool_]] = find_label_issues
    theirs = peers(label, predicted)
    ours = label_errors(label, predicted)
    posterior = HierarchicalDawidSkene().fit(recorded.votes).posterior
    order = suspicion(label, posterior=posterior, votes=recorded.votes, predicted=predicted).order
    recall = wrong[theirs].sum() / wrong.sum()
    precision = wrong[theirs].mean()
    yield Row(
        "label errors, sentiment_text, model alone: precision",
        "%",
        100 * wrong[ours].mean(),
        100 * precision,
        "cleanlab",
    )
    yield Row(
        "label errors, sentiment_text, model alone: recall",
        "%",
        100 * wrong[ours].sum() / wrong.sum(),
        100 * recall,
        "cleanlab",
    )
    yield Row(
        "label errors, sentiment_text, with the crowd: precision among as many",
        "%",
        100 * float(wrong[order[: int(theirs.sum())]].mean()),
        100 * precision,
        "cleanlab",
    )
