"""Agreement: equal to krippendorff, irrCAC and statsmodels on recorded and random answers, and fast."""

from __future__ import annotations

import csv
import importlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cairn_truth.quality.agreement import cohen_kappa, fleiss_kappa, gwet_ac, krippendorff_alpha, scott_pi
from tests.benchmarks.rows import Absent, Row, Rows, folder, seconds

_SAME = 1e-9

FIGURES = {
    "d_possent": ("nominal", 0.14930),
    "rte": ("nominal", 0.24148),
    "dog": ("nominal", 0.51942),
    "labelme": ("nominal", 0.67736),
    "music_genre": ("nominal", 0.30103),
    "snow_valence": ("interval", 0.32556),
}

Table = NDArray[np.float64]
"""``(items, labelers)``, nan where there is no answer."""


def rows(data: Path) -> Rows:
    """Yield the rows; a peer that is not here raises Absent, data that are not here are passed over."""
    for name, (level, known) in FIGURES.items():
        if (data / name).is_dir():
            yield from _recorded(name, folder(data, name), level, known)
    yield from _random()
    yield _speed()


def _recorded(name: str, found: Path, level: Any, known: float) -> Rows:
    with (found / "answers.csv").open(newline="", encoding="utf-8-sig") as opened:
        answers = list(csv.DictReader(opened))
    text = np.array([row["label"] for row in answers])
    value = (
        text.astype(float) if level == "interval" else np.unique(text, return_inverse=True)[1].astype(float)
    )
    item, labeler = (
        np.unique([row[part] for row in answers], return_inverse=True)[1] for part in ("item", "annotator")
    )
    alpha = krippendorff_alpha(item, labeler, value, level)
    table = np.full((item.max() + 1, labeler.max() + 1), np.nan)
    table[item, labeler] = value
    theirs = _peer("krippendorff").alpha(table.T, level_of_measurement=level)
    yield Row(f"{name}: alpha, {level}", "", alpha.value, theirs, "krippendorff", known - 6e-6, known + 6e-6)
    yield Row(f"{name}: alpha, off by", "", abs(alpha.value - theirs), most=_SAME)
    if level == "nominal":
        peer = _peer("irrCAC.raw").CAC(_peer("pandas").DataFrame(table), digits=15)
        for what, ours, told in (
            ("Fleiss' kappa", fleiss_kappa(item, labeler, value), peer.fleiss()),
            ("AC1", gwet_ac(item, labeler, value), peer.gwet()),
            ("alpha", alpha, peer.krippendorff()),
        ):
            yield Row(
                f"{name}: {what} and its interval, off from irrCAC by", "", _off(ours, told), most=_SAME
            )


def _random() -> Rows:
    """The largest difference over random tables of few and many answers, balanced and not."""
    worst: dict[str, float] = {}
    for seed in range(12):
        table = _table(seed)
        item, labeler = np.nonzero(~np.isnan(table))
        columns = (item, labeler, table[item, labeler])
        for level in ("nominal", "ordinal", "interval", "ratio"):
            theirs = _peer("krippendorff").alpha(table.T, level_of_measurement=level)
            _worse(
                worst,
                f"alpha, {level}: krippendorff",
                abs(krippendorff_alpha(*columns, level).value - theirs),
            )
        for weights in ("identity", "linear", "quadratic"):
            peer = _peer("irrCAC.raw").CAC(_peer("pandas").DataFrame(table), weights=weights, digits=15)
            _worse(
                worst,
                f"Fleiss' kappa, {weights}: irrCAC",
                _off(fleiss_kappa(*columns, weights), peer.fleiss()),
            )
            _worse(worst, f"AC, {weights}: irrCAC", _off(gwet_ac(*columns, weights), peer.gwet()))
            _of_two(worst, table, weights)
        full = np.where(np.isnan(table), 1.0, table)
        items, labelers = np.indices(full.shape)
        ours = fleiss_kappa(items.ravel(), labelers.ravel(), full.ravel()).value
        counts = np.stack([(full == k).sum(axis=1) for k in (1, 2, 3, 4)], axis=1)
        theirs = _peer("statsmodels.stats.inter_rater").fleiss_kappa(counts)
        _worse(worst, "Fleiss' kappa: statsmodels", abs(ours - theirs))
    for what, off in worst.items():
        yield Row(f"12 random tables, {what}, off by", "", off, most=_SAME)


def _of_two(worst: dict[str, float], table: Table, weights: Any) -> None:
    both = ~np.isnan(table[:, :2]).any(axis=1)
    pair = table[both, :2]
    counts = np.zeros((4, 4))
    np.add.at(counts, (pair[:, 0].astype(int) - 1, pair[:, 1].astype(int) - 1), 1)
    item, labeler = np.indices(pair.shape)
    columns = (item.ravel(), labeler.ravel(), pair.ravel())
    peer = _peer("irrCAC.table").CAC(_peer("pandas").DataFrame(counts), weights=weights, digits=15)
    cohen = cohen_kappa(*columns, weights, categories=[1, 2, 3, 4])
    scott = scott_pi(*columns, weights, categories=[1, 2, 3, 4])
    _worse(worst, f"Cohen's kappa, {weights}: irrCAC", _off(cohen, peer.cohen()))
    _worse(worst, f"Scott's pi, {weights}: irrCAC", _off(scott, peer.scott()))
    of_weights = None if weights == "identity" else weights
    theirs = _peer("statsmodels.stats.inter_rater").cohens_kappa(counts, wt=of_weights, return_results=False)
    _worse(worst, f"Cohen's kappa, {weights}: statsmodels", abs(cohen.value - theirs))


def _speed() -> Row:
    chance, n = np.random.default_rng(0), 1_000_000
    item, labeler = np.repeat(np.arange(n // 10), 10), np.tile(np.arange(10), n // 10)
    value = chance.integers(0, 5, n)
    taken = seconds(lambda: krippendorff_alpha(item, labeler, value), 3)
    return Row("alpha of a million answers", "s", taken[1], most=5.0, spread=taken[-1] - taken[0])


def _table(seed: int) -> Table:
    chance = np.random.default_rng(seed)
    shape = (int(chance.integers(15, 80)), int(chance.integers(3, 9)))
    truth = chance.integers(1, 5, shape[0])
    table = np.where(chance.random(shape) < 0.6, truth[:, None], chance.integers(1, 5, shape)).astype(float)
    table[chance.random(shape) < 0.3] = np.nan
    return np.asarray(table[~np.isnan(table).all(axis=1)])


def _off(ours: Any, told: Any) -> float:
    theirs = told["est"]
    low, high = theirs["confidence_interval"]
    return float(
        max(abs(ours.value - theirs["coefficient_value"]), abs(ours.low - low), abs(ours.high - high))
    )


def _worse(worst: dict[str, float], what: str, off: float) -> None:
    worst[what] = max(worst.get(what, 0.0), float(off))


def _peer(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Absent(f"no {name}") from error
