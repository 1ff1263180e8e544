"""Text: word error rates on recorded transcriptions and translations, beside Crowd-Kit's ROVER and RASA and a medoid."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from pathlib import Path
from time import process_time

import numpy as np
from numpy.typing import NDArray

from cairn_truth.measured.score_texts import METHODS
from cairn_truth.values.alignment import word_errors
from cairn_truth.values.transcripts import JoinedText, LiveTranscripts
from tests.benchmarks.rows import Absent, Row, Rows, folder

Answers = dict[str, dict[str, str]]

_FIRST = 400
"""Items, in the order of names, on which peers were measured."""

_GOALS: Mapping[str, tuple[float, int]] = {
    "crowdspeech_dev_clean": (5.6, _FIRST),
    "crowdwsa_t1": (49.5, _FIRST),
}


def rows(data: Path) -> Rows:
    """Yield word error rates, calibration and speed for each recorded crowd."""
    for name, (goal, first) in _GOALS.items():
        answers, truth = _recorded(folder(data, name))
        some = sorted(truth)[:first]
        live = LiveTranscripts()
        started = process_time()
        found = live.fit(answers)
        taken = process_time() - started
        ours = {item: said.text for item, said in found.items()}
        few = {item: answers[item] for item in some}
        rover, rover_taken = _crowd_kit_rover(few)
        medoid = _wer(METHODS["Medoid"](few), truth)
        what = f"{name}, word error rate"
        yield Row(
            f"{what}, first {len(some)}",
            "%",
            _wer({i: ours[i] for i in some}, truth),
            medoid,
            "medoid",
            most=goal,
        )
        yield Row(
            f"{what}, first {len(some)}, fitted to these alone",
            "%",
            _wer({item: said.text for item, said in LiveTranscripts().fit(few).items()}, truth),
            _wer(rover, truth),
            "Crowd-Kit ROVER",
            most=goal,
        )
        if len(truth) > len(some):
            yield Row(f"{what}, all {len(truth)}", "%", _wer(ours, truth))
        yield from _calibration(name, found, truth)
        each = 1e3 * taken / sum(map(len, answers.values()))
        theirs = 1e3 * rover_taken / sum(map(len, few.values()))
        yield Row(f"{name}, milliseconds an answer, fit and all texts", "ms", each, theirs, "Crowd-Kit ROVER")


def _calibration(name: str, found: Mapping[str, JoinedText], truth: Mapping[str, str]) -> Rows:
    confidence = np.array([found[item].confidence for item in sorted(truth)])
    accuracy = np.array([1.0 - min(_wer({i: found[i].text}, truth) / 100.0, 1.0) for i in sorted(truth)])
    yield Row(f"{name}, calibration error of expected word accuracy", "", _ece(confidence, accuracy))
    sure = confidence >= 0.95
    if sure.any():
        yield Row(
            f"{name}, word accuracy of the {sure.sum()} texts at .95 or surer",
            "",
            float(accuracy[sure].mean()),
        )


def _ece(confidence: NDArray[np.float64], accuracy: NDArray[np.float64]) -> float:
    place = np.minimum((confidence * 10).astype(int), 9)
    gaps = np.bincount(place, confidence - accuracy, 10)
    return float(np.abs(gaps).sum() / confidence.size)


def _plain(text: str) -> list[str]:
    """Words in lower case without punctuation, as peers were measured: apart from how ours compares words."""
    return re.sub(r"[^\w\s']", "", text.lower()).split()


def _wer(texts: Mapping[str, str], truth: Mapping[str, str]) -> float:
    judged = sorted(texts.keys() & truth.keys())
    errors = sum(word_errors(_plain(texts[item]), _plain(truth[item])) for item in judged)
    return 100.0 * errors / max(sum(len(_plain(truth[item])) for item in judged), 1)


def _crowd_kit_rover(answers: Answers) -> tuple[dict[str, str], float]:
    import pandas as pd
    from crowdkit.aggregation import ROVER

    votes = [(item, who, " ".join(_plain(text))) for item in answers for who, text in answers[item].items()]
    table = pd.DataFrame(votes, columns=["task", "worker", "text"])
    started = process_time()
    found = ROVER(tokenizer=lambda text: text.split(" "), detokenizer=" ".join).fit_predict(table)
    return dict(found), process_time() - started


def _recorded(folder_: Path) -> tuple[Answers, dict[str, str]]:
    answers: Answers = {}
    with (folder_ / "answers.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            answers.setdefault(row["item"], {})[row["annotator"]] = row["label"]
    with (folder_ / "truth.csv").open(encoding="utf-8", newline="") as file:
        truth = {row["item"]: row["label"] for row in csv.DictReader(file) if row["item"] in answers}
    if not truth:
        raise Absent(f"no truth in {folder_}")
    return answers, truth
