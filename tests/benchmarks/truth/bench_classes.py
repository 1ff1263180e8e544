"""Class votes: the default on ten recorded crowds beside Crowd-Kit, the published methods beside their references, and
a model as one more labeler beside cleanlab's CROWDLAB.

Left out, and why: Crowd-Kit's `GLAD`, `MACE`, `MMSR` and `KOS` from the accuracies and its `OneCoinDawidSkene` on
`s_rel`, which take from half a minute to minutes a set.
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cairn_truth import (
    BWA,
    EBCC,
    GLAD,
    IBCC,
    MACE,
    BlockDawidSkene,
    DawidSkene,
    MajorityVote,
    OneCoinDawidSkene,
    Votes,
    Wawa,
    ZeroBasedSkill,
    expected_calibration_error,
)
from cairn_truth.__main__ import read_folder
from cairn_truth.measured.replay import Recorded
from tests.benchmarks.rows import Absent, Row, Rows, folder

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SETS = (
    *("d_possent", "dog", "labelme", "music_genre", "rte"),
    *("s_rel", "sentiment_text", "snow_temp", "web", "zencrowd_us"),
)

_LARGE = "s_rel"
"""98,453 votes: too many for the peers that work row by row."""

_SAME = 1e-6

_LOOSENESS = 3.0
"""Of a head on standardised features, as in the other benchmarks."""

_BIN_EDGES = (0.5, 0.7, 0.85, 0.95)
"""Where consensus cuts a model's confidence; each bin is a labeler."""


def rows(data: Path) -> Rows:
    """Yield accuracy and calibration, parity method by method, and the gain by a model."""
    warnings.simplefilter("ignore")
    crowds = {name: read_folder(folder(data, name)) for name in SETS}
    yield from _default(crowds)
    yield from _same_as_crowd_kit(crowds)
    yield from _as_their_authors(crowds, data)
    yield from _with_a_model(data)


# --- the default


def _default(crowds: Mapping[str, Recorded]) -> Rows:
    ours: dict[str, Floats] = {}
    peers: dict[str, dict[str, Floats]] = {}
    for name, crowd in crowds.items():
        ours[name] = BlockDawidSkene().fit(crowd.votes).posterior
        peers[name] = dict(_crowd_kit(name, crowd.votes))
        reached = {peer: _accuracy(posterior, crowd) for peer, posterior in peers[name].items()}
        best = max(reached, key=reached.__getitem__)
        mine = _accuracy(ours[name], crowd)
        yield Row(f"{name}: accuracy", "", mine, reached[best], f"best peer, {best},")
    everywhere = set.intersection(*(set(found) for found in peers.values()))
    for what, measure, better in (("accuracy", _accuracy, max), ("calibration error", _error, min)):
        mean = {
            peer: float(np.mean([measure(peers[name][peer], crowds[name]) for name in SETS]))
            for peer in everywhere
        }
        best = better(sorted(mean), key=mean.__getitem__)
        value = float(np.mean([measure(ours[name], crowds[name]) for name in SETS]))
        goal = {"least": 0.855} if what == "accuracy" else {"most": 0.04}
        yield Row(f"mean {what} of ten crowds", "", value, mean[best], f"best peer, {best},", **goal)
    majority = {name: MajorityVote().fit(crowd.votes).posterior for name, crowd in crowds.items()}
    for whose, theirs in (
        ("ours", majority),
        ("Crowd-Kit's", {n: found["MajorityVote"] for n, found in peers.items()}),
    ):
        gap = {
            name: _accuracy(ours[name], crowds[name]) - _accuracy(theirs[name], crowds[name]) for name in SETS
        }
        worst = min(gap, key=gap.__getitem__)
        yield Row(f"worst difference to majority vote, {whose}: on {worst}", "", gap[worst], least=-0.005)


def _crowd_kit(name: str, votes: Votes) -> Iterator[tuple[str, Floats]]:
    """Yield what each peer makes of a crowd with its defaults."""
    peers = _peers()
    table = _table(votes)
    for peer in ("MajorityVote", "Wawa", "ZeroBasedSkill", "DawidSkene", "OneCoinDawidSkene"):
        if (peer, name) != ("OneCoinDawidSkene", _LARGE):
            method = getattr(peers, peer)()
            of = _weighed if peer in {"Wawa", "ZeroBasedSkill"} else _fitted
            yield peer, _filled(of(method, table), votes)


def _accuracy(posterior: Floats, crowd: Recorded) -> float:
    judged = _judged(crowd)
    return float((posterior[judged].argmax(axis=1) == crowd.truth[judged]).mean())


def _error(posterior: Floats, crowd: Recorded) -> float:
    judged = _judged(crowd)
    right = posterior[judged].argmax(axis=1) == crowd.truth[judged]
    return expected_calibration_error(posterior[judged].max(axis=1), right)


def _judged(crowd: Recorded) -> Ints:
    return np.flatnonzero((crowd.truth >= 0) & (crowd.votes.per_item() > 0))


# --- the published methods


def _same_as_crowd_kit(crowds: Mapping[str, Recorded]) -> Rows:
    """Yield the largest difference of any posterior, both run for the same rounds, whatever they gain by the last."""
    rounds = {"DawidSkene": 100, "OneCoinDawidSkene": 50, "MACE": 50}
    for method, gap_of in _GAPS.items():
        slow = method in {"OneCoinDawidSkene", "MACE", "GLAD"}
        names = [name for name in SETS if not (slow and name == _LARGE)]
        gaps = {name: gap_of(crowds[name].votes, rounds.get(method, 0)) for name in names}
        worst = max(gaps, key=gaps.__getitem__)
        after = f" after {rounds[method]} rounds" if method in rounds else ""
        left = f", {_LARGE} left out" if slow else ""
        yield Row(
            f"{method} against Crowd-Kit's{after}, largest difference of posteriors in {len(names)} sets{left}: on {worst}",
            "",
            gaps[worst],
            most=_SAME,
        )


def _majority(votes: Votes, _: int) -> float:
    theirs = _peers().MajorityVote().fit_predict_proba(_table(votes))
    return _gap(MajorityVote().fit(votes).posterior, _filled(theirs, votes), votes)


def _wawa(votes: Votes, _: int) -> float:
    votes = _once(votes)
    theirs = _weighed(_peers().Wawa(), _table(votes))
    return _gap(Wawa().fit(votes).posterior, _filled(theirs, votes), votes)


def _zero_based(votes: Votes, _: int) -> float:
    votes = _once(votes)
    theirs = _weighed(_peers().ZeroBasedSkill(), _table(votes))
    return _gap(ZeroBasedSkill().fit(votes).posterior, _filled(theirs, votes), votes)


def _once(votes: Votes) -> Votes:
    """Return votes without repetitions: Crowd-Kit counts a vote cast twice as two votes, but once for its labeler."""
    rows = np.unique(np.stack([votes.item, votes.labeler, votes.choice]), axis=1)
    return Votes.of(*rows, classes=votes.classes, items=votes.items, labelers=votes.labelers)


def _dawid_skene(votes: Votes, rounds: int) -> float:
    theirs = _peers().DawidSkene(n_iter=rounds, tol=-np.inf).fit_predict_proba(_table(votes))
    ours = DawidSkene(iterations=rounds, tolerance=0.0).fit(votes).posterior
    return _gap(ours, _filled(theirs, votes), votes)


def _one_coin(votes: Votes, rounds: int) -> float:
    theirs = _peers().OneCoinDawidSkene(n_iter=rounds, tol=-np.inf).fit_predict_proba(_table(votes))
    ours = OneCoinDawidSkene(iterations=rounds, tolerance=-np.inf).fit(votes).posterior
    return _gap(ours, _filled(theirs, votes), votes)


def _mace(votes: Votes, rounds: int) -> float:
    """Without noise Crowd-Kit starts as we do; classes and labelers in order of appearance, else it mixes them up."""
    table = _table(votes).sort_values(["worker", "task"], kind="stable")
    codes, classes = _pandas().factorize(table["label"])
    theirs = _peers().MACE(n_restarts=1, n_iter=rounds, default_noise=-1.0)
    found = theirs.fit_predict_proba(table.assign(label=codes))
    found.columns = classes[found.columns]
    ours = MACE(iterations=rounds, tolerance=-np.inf).fit(votes).posterior
    return _gap(ours, _filled(found, votes), votes)


def _glad(votes: Votes, _: int) -> float:
    """What Crowd-Kit's E-step makes of our abilities and easiness: its own ascent is too slow to end where ours does."""
    pandas = _pandas()
    fit = GLAD().fit(votes)
    theirs, table = _peers().GLAD(), _table(votes)
    theirs._init(table)
    alpha = pandas.Series(fit.skill, name="alpha").rename_axis("worker")
    beta = pandas.Series(np.log(fit.easiness), name="beta").rename_axis("task")
    theirs._e_step(theirs._join_all(table, alpha, beta, theirs.priors_))
    return _gap(fit.posterior, _filled(theirs.probas_, votes), votes)


_GAPS: Mapping[str, Callable[[Votes, int], float]] = {
    "MajorityVote": _majority,
    "Wawa": _wawa,
    "ZeroBasedSkill": _zero_based,
    "DawidSkene": _dawid_skene,
    "OneCoinDawidSkene": _one_coin,
    "MACE": _mace,
    "GLAD": _glad,
}


def _as_their_authors(crowds: Mapping[str, Recorded], data: Path) -> Rows:
    """Yield accuracies beside those that the authors' own code reached; it comes in no package, so it is not run here."""
    if not (data / "peers.csv").is_file():
        raise Absent(f"no peers.csv in {data}")
    with (data / "peers.csv").open(newline="") as lines:
        figures = {(row["dataset"], row["method"]): row["accuracy"] for row in csv.DictReader(lines)}
    for method in (IBCC(), BWA(), EBCC()):
        name = type(method).__name__
        gap = {}
        for data_set in SETS:
            figure = figures.get(("sp" if data_set == "sentiment_text" else data_set, name))
            if figure and (name, data_set) != ("EBCC", _LARGE):
                crowd = crowds[data_set]
                gap[data_set] = abs(_accuracy(method.fit(crowd.votes).posterior, crowd) - float(figure))
        close = [data_set for data_set, off in gap.items() if off <= 0.005]
        far = ", ".join(f"{data_set} by {off:.3f}" for data_set, off in gap.items() if off > 0.005)
        yield Row(
            f"{name}: sets with the accuracy of its authors' code within .005"
            + (f"; not {far}" if far else ""),
            f"of {len(gap)}",
            len(close),
        )


# --- a model as one more labeler


@dataclass(frozen=True)
class _Helped:
    crowd: Recorded
    features: Any
    goal: float


def _with_a_model(data: Path) -> Rows:
    """Yield accuracies with out-of-fold predictions of a model that was trained on the crowd's own labels."""
    for name, helped in (("labelme", _labelme(data)), ("sentiment_text", _sentiment(data))):
        crowd = helped.crowd
        alone = BlockDawidSkene().fit(crowd.votes).posterior
        said = _out_of_fold(helped, alone.argmax(axis=1))
        joined = _joined(crowd.votes, said)
        population = (np.arange(joined.labelers) >= crowd.votes.labelers).astype(np.int64)
        ours = BlockDawidSkene().fit(joined, population=population).posterior
        what = f"{name} with a model as labeler"
        theirs = _accuracy(_crowdlab(crowd.votes, said), crowd)
        yield Row(f"{what}: accuracy", "", _accuracy(ours, crowd), theirs, "CROWDLAB", least=helped.goal)
        yield Row(
            f"{what}: the crowd alone", "", _accuracy(alone, crowd), _accuracy(said, crowd), "the model alone"
        )
        yield Row(f"{what}: calibration error", "", _error(ours, crowd))


def _labelme(data: Path) -> _Helped:
    from sklearn.preprocessing import StandardScaler

    home = folder(data, "labelme")
    features = np.load(home / "original" / "LabelMe_VGG_avg_train.npy")
    features = StandardScaler().fit_transform(features.reshape(len(features), -1))
    features = features / np.sqrt(features.shape[1])
    return _Helped(read_folder(home), features[[int(name) for name in _items(home)]], 0.835)


def _sentiment(data: Path) -> _Helped:
    from sklearn.feature_extraction.text import TfidfVectorizer

    home = folder(data, "sentiment_text")
    with (home / "items.csv").open(newline="", encoding="utf-8-sig") as lines:
        texts = {row["item"]: row["text"] for row in csv.DictReader(lines)}
    names = _items(home)
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit_transform([texts[n] for n in names])
    return _Helped(read_folder(home), words, 0.915)


def _items(home: Path) -> list[str]:
    """Return the items' names as `read_folder` numbers them."""
    with (home / "answers.csv").open(newline="", encoding="utf-8-sig") as lines:
        return sorted({row["item"] for row in csv.DictReader(lines)})


def _out_of_fold(helped: _Helped, labels: Ints) -> Floats:
    """Return what a linear head says of each item, ``(items, classes)``, trained on four fifths without it."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    head = LogisticRegression(C=_LOOSENESS, max_iter=300)
    said = cross_val_predict(head, helped.features, labels, cv=folds, method="predict_proba")
    table = np.zeros((len(labels), helped.crowd.votes.classes))
    table[:, np.unique(labels)] = said
    return table


def _joined(votes: Votes, said: Floats) -> Votes:
    """Return people's votes and the model's, each bin of its confidence a labeler after all people."""
    bins = np.digitize(said.max(axis=1), _BIN_EDGES)
    return Votes.of(
        np.concatenate([votes.item, np.arange(votes.items)]),
        np.concatenate([votes.labeler, votes.labelers + bins]),
        np.concatenate([votes.choice, said.argmax(axis=1)]),
        classes=votes.classes,
        items=votes.items,
        labelers=votes.labelers + len(_BIN_EDGES) + 1,
    )


def _crowdlab(votes: Votes, said: Floats) -> Floats:
    """Return cleanlab's consensus, certain of each item's label: how surely is not compared."""
    from cleanlab.multiannotator import get_label_quality_multiannotator

    wide = np.full((votes.items, votes.labelers), np.nan)
    wide[votes.item, votes.labeler] = votes.choice
    table = _pandas().DataFrame(wide)
    found = get_label_quality_multiannotator(table, said, verbose=False)["label_quality"]
    label = found["consensus_label"].to_numpy().astype(np.int64)
    return np.asarray(np.eye(votes.classes)[label])


# --- Crowd-Kit


def _peers() -> Any:
    try:
        import crowdkit.aggregation as peers
    except ImportError as missing:
        raise Absent("no crowd-kit") from missing
    return peers


def _pandas() -> Any:
    import pandas

    return pandas


def _table(votes: Votes) -> Any:
    return _pandas().DataFrame(
        {"task": votes.item, "worker": votes.labeler, "label": votes.choice.astype(np.int64)}
    )


def _fitted(method: Any, table: Any) -> Any:
    return method.fit_predict_proba(table)


def _weighed(method: Any, table: Any) -> Any:
    """Return what `Wawa` and `ZeroBasedSkill` predict by the skills that they fitted.

    Their own `predict_proba` is this line after a check that scikit-learn 1.7 and later refuses to make for them.
    """
    return _peers().MajorityVote().fit_predict_proba(table, method.fit(table).skills_)


def _filled(found: Any, votes: Votes) -> Floats:
    """Return a table of probabilities as ``(items, classes)``; uniform where nobody voted."""
    posterior = np.full((votes.items, votes.classes), 1.0 / votes.classes)
    posterior[found.index] = 0.0
    posterior[np.ix_(found.index, found.columns)] = found.to_numpy()
    return posterior


def _gap(ours: Floats, theirs: Floats, votes: Votes) -> float:
    voted = votes.per_item() > 0
    return float(np.abs(ours - theirs)[voted].max())
