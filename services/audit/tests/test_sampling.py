"""P7's check: the draw covers what must be looked at, and the interval holds what it promises."""

from __future__ import annotations

import hashlib
import math
import random
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cairn.annotation.v1.annotation_store_pb2 import LABEL_SOURCE_AUTO, LABEL_SOURCE_CONSENSUS, LabelSource
from cairn_audit.domain.names import AuditId, Project, Tenant
from cairn_audit.domain.sampling import (
    BAND_EDGES,
    EVERY_HASH,
    LARGEST_AUTOMATIC_SAMPLE,
    Cell,
    CellCount,
    Design,
    band_of,
    design,
    hash_bound,
    stratify,
)
from cairn_audit.domain.verdict import (
    UNKNOWN,
    AuditPhase,
    StratumCount,
    covers_auto,
    error_of,
    in_words,
    phase_after,
)
from cairn_audit.messages import audit_message
from cairn_audit.store import AuditKey, AuditRow
from cairn_kit.events.envelope import LARGEST_BODY
from cairn_truth.routing.thresholds import clopper_pearson_upper

AUTO, CONSENSUS = LABEL_SOURCE_AUTO, LABEL_SOURCE_CONSENSUS


def cell(source: LabelSource.ValueType, class_id: str, band: int, labels: int) -> CellCount:
    middle = (BAND_EDGES[band] + BAND_EDGES[band + 1]) / 2
    return CellCount(Cell(source, class_id, band), labels, labels * middle)


counts_of = st.lists(
    st.builds(
        cell,
        st.sampled_from([AUTO, CONSENSUS]),
        st.sampled_from(["a", "b", "c", "rare", ""]),
        st.integers(0, 4),
        st.integers(1, 3000),
    ),
    min_size=1,
    max_size=25,
    unique_by=lambda count: count.cell,
)


@given(counts_of, st.integers(0, 3000))
def test_every_label_can_be_drawn_and_no_stratum_is_drawn_beyond_its_size(
    counts: list[CellCount], sample_size: int
) -> None:
    made = design(counts, sample_size, 0.05, 0.95)
    cells = [cell for stratum in made.strata for cell in stratum.cells]
    population = sum(count.labels for count in counts)
    assert sorted(cells) == sorted(count.cell for count in counts)  # each in exactly one stratum
    assert sum(stratum.population for stratum in made.strata) == population
    assert all(0 < n <= s.population for s, n in zip(made.strata, made.drawn, strict=True))
    assert all(len({cell.source for cell in stratum.cells}) == 1 for stratum in made.strata)
    if sample_size >= len(made.strata):
        assert made.sampled == min(sample_size, population)
    if sample_size == 0:
        assert made.sampled <= max(LARGEST_AUTOMATIC_SAMPLE, len(made.strata))
    assert made == design(list(reversed(counts)), sample_size, 0.05, 0.95)


def test_an_audit_of_many_classes_fits_into_an_event() -> None:
    counts = [
        cell(source, f"{n:064}", band, 100)
        for source in (AUTO, CONSENSUS)
        for n in range(400)
        for band in range(5)
    ]
    made = design(counts, 100_000, 0.05, 0.95)
    strata = [
        StratumCount(s.source, s.class_id, s.confidence_low, s.confidence_high, s.population, n, n, n, 0)
        for s, n in zip(made.strata, made.drawn, strict=True)
    ]
    key = AuditKey(Tenant("acme"), Project("birds"), AuditId("a"))
    row = AuditRow(key, AuditPhase.PASSED, "species", 0, 0.05, 0.95, 1, datetime.now(UTC), None)
    assert made.sampled == 100_000
    assert audit_message(row, strata).ByteSize() < LARGEST_BODY - 10_000


def test_an_empty_population_cannot_be_drawn_from() -> None:
    with pytest.raises(ValueError, match="no labels"):
        design([], 10, 0.05, 0.95)


def test_rare_classes_share_a_stratum_and_small_bands_join_their_neighbours() -> None:
    strata = stratify(
        [
            cell(CONSENSUS, "common", 4, 500), cell(CONSENSUS, "common", 3, 4), cell(CONSENSUS, "common", 1, 90),
            *(cell(CONSENSUS, f"rare-{i}", 4, 8) for i in range(5)), cell(AUTO, "common", 4, 3),
        ],
        50,
    )  # fmt: skip
    shape = [(s.source, s.class_id, s.confidence_low, s.confidence_high, s.population) for s in strata]
    assert shape == [
        (AUTO, "common", 0.97, 1.0, 3),
        (CONSENSUS, "common", 0.5, 0.97, 94),
        (CONSENSUS, "common", 0.97, 1.0, 500),
        (CONSENSUS, "", 0.97, 1.0, 40),
    ]


@pytest.mark.parametrize(
    ("confidence", "band"), [(0.0, 0), (0.499, 0), (0.5, 1), (0.8, 2), (0.9, 3), (0.97, 4), (1.0, 4)]
)
def test_a_confidence_has_one_band(confidence: float, band: int) -> None:
    assert band_of(confidence) == band


def test_as_many_are_drawn_as_the_bound_needs() -> None:
    good = [cell(CONSENSUS, "a", 4, 50_000)]
    assert 72 < design(good, 0, 0.05, 0.95).sampled < 300
    assert design(good, 0, 0.05, 0.95).sampled < design(good, 0, 0.03, 0.95).sampled
    assert design(good, 0, 0.001, 0.95).sampled == LARGEST_AUTOMATIC_SAMPLE


# --- estimates, on made-up truth


def looked_at(made: Design, errors: list[float], rng: random.Random) -> tuple[list[StratumCount], float]:
    """Draw labels of strata whose shares of wrong labels are given; also the true error of all."""
    strata, wrong_in_all = [], 0
    for stratum, drawn, rate in zip(made.strata, made.drawn, errors, strict=True):
        wrong = round(stratum.population * rate)
        wrong_in_all += wrong
        found = sum(place < wrong for place in rng.sample(range(stratum.population), drawn))
        strata.append(
            StratumCount(
                stratum.source, stratum.class_id, 0.0, 1.0, stratum.population, drawn, drawn, found, 0
            )
        )
    return strata, wrong_in_all / sum(stratum.population for stratum in made.strata)


@pytest.mark.parametrize("sample_size", [60, 250])
def test_the_interval_covers_the_true_error_as_often_as_it_says(sample_size: int) -> None:
    rng = random.Random(11)
    made = design(
        [cell(AUTO, "a", 4, 2000), cell(AUTO, "b", 3, 300), cell(CONSENSUS, "a", 2, 700), cell(CONSENSUS, "b", 4, 1500)],
        sample_size, 0.05, 0.95,
    )  # fmt: skip
    runs, covered = 400, 0
    for _ in range(runs):
        errors = [rng.choice([0.0, 0.01, 0.03, 0.1, 0.3]) for _ in made.strata]
        strata, truth = looked_at(made, errors, rng)
        error = error_of(strata, 0.95)
        covered += error.low <= truth <= error.high
    assert clopper_pearson_upper(covered, runs, 0.01) >= 0.95  # 95 %, but for the luck of 400 runs


def test_an_audit_of_bad_labels_seldom_passes_and_one_of_good_labels_mostly_does() -> None:
    rng = random.Random(12)
    made = design([cell(AUTO, "a", 4, 4000), cell(CONSENSUS, "a", 4, 4000)], 0, 0.05, 0.95)

    def passes(rate: float) -> int:
        runs = (looked_at(made, [rate, rate], rng)[0] for _ in range(200))
        return sum(phase_after(error_of(strata, 0.95), 0.05) is AuditPhase.PASSED for strata in runs)

    assert passes(0.06) <= 200 * 0.05
    assert passes(0.01) >= 200 * 0.6


# --- verdicts


def stratum(
    population: int,
    sampled: int,
    reviewed: int,
    wrong: int,
    excluded: int = 0,
    source: LabelSource.ValueType = CONSENSUS,
) -> StratumCount:
    return StratumCount(source, "", 0.0, 1.0, population, sampled, reviewed, wrong, excluded)


def test_nothing_judged_means_nothing_known() -> None:
    assert error_of([stratum(100, 10, 0, 0)], 0.95) == UNKNOWN


def test_a_stratum_that_nobody_could_judge_counts_as_possibly_all_wrong() -> None:
    seen = error_of([stratum(900, 90, 90, 0), stratum(100, 5, 0, 0, excluded=5)], 0.95)
    assert seen.high >= 0.1


def test_a_population_judged_whole_is_known() -> None:
    error = error_of([stratum(20, 20, 20, 1)], 0.95)
    assert (error.low, error.estimate, error.high) == (0.05, 0.05, 0.05)


def test_automatic_labels_are_covered_when_any_stratum_has_them() -> None:
    assert covers_auto([stratum(1, 1, 1, 0), stratum(1, 1, 1, 0, source=AUTO)])
    assert not covers_auto([stratum(1, 1, 1, 0)])


def test_the_verdict_says_in_words_what_was_shown() -> None:
    strata = [stratum(1000, 100, 98, 3, excluded=2)]
    error = error_of(strata, 0.95)
    words = in_words(AuditPhase.FAILED, strata, error, 0.05, 0.95)
    assert words.startswith("3 of 98 judged labels are wrong: an error of 3.06%, ")
    assert words.endswith("at most 5.00% was not shown. 2 could not be judged and are left out.")
    assert "was shown" in in_words(AuditPhase.PASSED, strata, error, 0.2, 0.95)
    assert "above the 0.10%" in in_words(AuditPhase.FAILED, strata, error, 0.001, 0.95)
    assert in_words(AuditPhase.CANCELLED, strata, error, 0.05, 0.95) == "Cancelled after 98 of 100 reviews."


@pytest.mark.parametrize("drawn", [1, 20, 500, 100_000])
def test_enough_hashes_lie_below_the_bound_and_not_many_more(drawn: int) -> None:
    population, hashed = 40 * drawn + 10_000, hashlib.sha256
    below = hash_bound(drawn, population)
    expected = int.from_bytes(below, "big") / 2.0**64 * population
    assert math.exp(-((expected - drawn) ** 2) / (2.0 * expected)) < 1e-12
    if drawn <= 500:
        candidates = sum(hashed(f"7/item-{n}".encode()).digest() < below for n in range(population))
        assert drawn <= candidates < drawn + 20.0 * math.sqrt(drawn) + 120.0


def test_where_few_are_left_every_hash_is_below_the_bound() -> None:
    assert hash_bound(5, 20) == EVERY_HASH > b"\xff" * 32
