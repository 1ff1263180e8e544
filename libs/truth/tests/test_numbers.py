"""Numbers: as good as the plain mean wherever labelers are alike, far better where they are not, and sure as they say."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn_truth.measured.score_numbers import DEFAULT, METHODS, judge, read
from cairn_truth.values.numbers import (
    LiveNumbers,
    Measured,
    probability_of_step,
    probability_within,
)
from libs.truth.tests.live_contract import check_live_state

DATA = Path(os.environ.get("CAIRN_DATA", Path(__file__).parents[4] / "shared" / "data"))

Answers = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Simulated:
    answers: Answers
    truth: dict[str, float]


def simulate(
    *,
    seed: int = 0,
    items: int = 200,
    people: int = 20,
    each: int = 5,
    bias: float = 0.0,
    slope: float = 0.0,
    care: float = 0.0,
    slips: float = 0.0,
) -> Simulated:
    """Values 50 +- 15, answers miss by 5; ``bias``, ``slope``, ``care``: sd of labelers' levels, scales, log spreads."""
    chance = np.random.default_rng(seed)
    x = 50.0 + 15.0 * chance.normal(size=items)
    biases, slopes = bias * chance.normal(size=people), 1.0 + slope * chance.normal(size=people)
    spreads = 5.0 * np.exp(care * chance.normal(size=people))
    answers: Answers = {}
    for i in range(items):
        for who in chance.choice(people, each, replace=False):
            said = 50.0 + biases[who] + slopes[who] * (x[i] - 50.0) + spreads[who] * chance.normal()
            answers.setdefault(f"i{i}", {})[f"l{who}"] = said * (1000.0 if chance.random() < slips else 1.0)
    return Simulated(answers, {f"i{i}": float(x[i]) for i in range(items)})


def rmse(values: Mapping[str, float], truth: Mapping[str, float]) -> float:
    return float(np.sqrt(np.mean([(values[item] - truth[item]) ** 2 for item in truth])))


def means(answers: Answers) -> dict[str, float]:
    return {item: float(np.mean(list(votes.values()))) for item, votes in answers.items()}


def fitted(answers: Answers, gold: Mapping[str, float] | None = None) -> dict[str, Measured]:
    return LiveNumbers().fit(answers, gold)


def values(found: Mapping[str, Measured]) -> dict[str, float]:
    return {item: one.value for item, one in found.items()}


def covered(found: Mapping[str, Measured], truth: Mapping[str, float]) -> float:
    return float(np.mean([abs(one.value - truth[item]) < 1.96 * one.sd for item, one in found.items()]))


def test_it_keeps_the_promises_of_all_live_states() -> None:
    check_live_state(LiveNumbers, simulate(items=20, people=6, bias=4.0).answers, float("nan"))
    check_live_state(lambda: LiveNumbers(0.0, 100.0, 2.0), {"a": {"x": 1.0, "y": 2.0}}, 101.0)


@pytest.mark.parametrize("each", [1, 2, 5, 20])
def test_where_labelers_are_alike_it_is_as_good_as_the_plain_mean(each: int) -> None:
    for seed in range(3):
        crowd = simulate(seed=seed, each=each)
        assert rmse(values(fitted(crowd.answers)), crowd.truth) < 1.02 * rmse(
            means(crowd.answers), crowd.truth
        )


@pytest.mark.parametrize(
    ("kind", "share"),
    [({"bias": 8.0}, 0.75), ({"slope": 0.4}, 0.97), ({"care": 0.8}, 0.75), ({"slips": 0.02}, 0.01)],
    ids=["level", "scale", "care", "slips"],
)
def test_where_labelers_differ_it_beats_the_mean(kind: dict[str, float], share: float) -> None:
    for seed in range(3):
        crowd = simulate(seed=seed, **kind)  # type: ignore[arg-type]
        assert rmse(values(fitted(crowd.answers)), crowd.truth) < share * rmse(
            means(crowd.answers), crowd.truth
        )


@pytest.mark.parametrize("kind", [{}, {"bias": 8.0}, {"slope": 0.3}, {"care": 0.5}, {"each": 2}], ids=str)
def test_intervals_hold_as_often_as_they_say(kind: dict[str, float]) -> None:
    crowds = [simulate(seed=seed, items=100, **kind) for seed in range(6)]  # type: ignore[arg-type]
    share = np.mean([covered(fitted(crowd.answers), crowd.truth) for crowd in crowds])
    assert 0.92 < share < 0.985


def test_confidence_is_the_chance_of_being_within_tolerance() -> None:
    crowd = simulate(items=600, people=30, care=0.5)
    found = LiveNumbers(tolerance=2.0).fit(crowd.answers)
    right = np.array([abs(found[item].value - x) <= 2.0 for item, x in crowd.truth.items()])
    said = np.array([found[item].confidence for item in crowd.truth])
    assert said.mean() == pytest.approx(right.mean(), abs=0.05)
    sure = said > np.median(said)
    assert right[sure].mean() > right[~sure].mean() + 0.05


def test_labelers_are_found_as_they_are() -> None:
    chance = np.random.default_rng(5)
    x = 15.0 * chance.normal(size=200)
    bias, slope, spread = [8.0, -5.0, -3.0, 0.0], [1.0, 1.0, 1.5, 0.5], [2.0, 2.0, 2.0, 9.0]
    live = LiveNumbers()
    for i in range(200):
        for who in range(4):
            live.add(f"i{i}", f"l{who}", x[i] * slope[who] + bias[who] + float(chance.normal()) * spread[who])
    live.refit()
    for who in range(4):
        own = live.reliability(f"l{who}")
        assert own.bias == pytest.approx(bias[who], abs=1.5)
        assert own.slope == pytest.approx(slope[who], abs=0.1)
        assert own.spread == pytest.approx(spread[who], rel=0.3)
    assert live.reliability("never seen").slope == 1.0


def test_who_answers_whatever_the_item_is_not_heard() -> None:
    crowd = simulate(people=6, each=4)
    for votes in crowd.answers.values():
        votes["constant"] = 50.0
    live = LiveNumbers()
    found = live.fit(crowd.answers)
    weight = np.mean([p.weight for one in found.values() for p in one.evidence if p.labeler == "constant"])
    assert live.reliability("constant").slope < 0.1
    assert weight < 0.05
    assert all(found[item].evidence[-1].labeler == "constant" for item in found)


@pytest.mark.parametrize("slip", [1e3, 1e6, 1e100, -1e100])
def test_one_gross_slip_spoils_nobody_elses_numbers(slip: float) -> None:
    crowd = simulate(items=100, people=5)
    clean, spoiled = LiveNumbers(), LiveNumbers()
    before = clean.fit(crowd.answers)
    crowd.answers["i7"]["l2"] = slip
    after = spoiled.fit(crowd.answers)
    assert max(abs(after[i].value - before[i].value) for i in before) < 5.0
    assert spoiled.reliability("l2").spread < 1.1 * clean.reliability("l2").spread
    assert all(after[i].sd == pytest.approx(before[i].sd, rel=0.05) for i in before if i != "i7")
    assert all(
        after[i].confidence == pytest.approx(before[i].confidence, abs=0.02) for i in before if i != "i7"
    )


def test_an_answer_that_is_alone_is_told_as_it_is_and_not_believed() -> None:
    """It may be a slip or a value far out; that it is there changes nothing for other items."""
    chance = np.random.default_rng(1)
    answers = {
        f"i{i}": {f"l{j}": x + 0.9 * float(chance.normal()) for j in range(3)}
        for i, x in enumerate(chance.normal(size=60))
    }
    before, odd = LiveNumbers(), LiveNumbers()
    without, found = before.fit(answers), odd.fit({**answers, "odd": {"l0": 1e4}})
    assert odd.tolerance == pytest.approx(before.tolerance, rel=0.05)
    assert np.mean([found[i].confidence for i in answers]) == pytest.approx(
        np.mean([one.confidence for one in without.values()]), abs=0.03
    )
    assert found["odd"].value == pytest.approx(1e4, rel=0.05)
    assert found["odd"].confidence < 0.05


@pytest.mark.parametrize("far", [30.0, 1e3, 1e6, 1e12, -1e90])
@pytest.mark.parametrize("each", [2, 3])
def test_a_slip_has_no_witness_and_a_value_far_out_has(far: float, each: int) -> None:
    chance = np.random.default_rng(4)
    answers = {
        f"i{i}": {f"l{j}": x + 0.2 * float(chance.normal()) for j in range(each)}
        for i, x in enumerate(chance.normal(size=60))
    }
    x = answers["i1"]["l1"]
    answers["far"], answers["i1"]["l0"] = {f"l{j}": far for j in range(each)}, far
    found = fitted(answers)
    assert found["far"].value == pytest.approx(far, rel=0.05)
    assert sum(part.weight for part in found["far"].evidence) > 0.9
    assert found["i1"].value == pytest.approx(x, abs=0.5)


def test_answers_far_out_that_scatter_are_all_heard() -> None:
    """Ten per cent of a thousand is a hundred times the error on ordinary items, and still no slip."""
    for seed in range(5):
        chance = np.random.default_rng(seed)
        answers = {
            f"i{i}": {f"l{j}": x + 0.2 * float(chance.normal()) for j in range(5)}
            for i, x in enumerate(chance.normal(size=60))
        }
        answers["far"] = {f"l{j}": 1000.0 * (1.0 + 0.1 * float(chance.normal())) for j in range(5)}
        found = fitted(answers)["far"]
        mean = float(np.mean(list(answers["far"].values())))
        assert found.value == pytest.approx(mean, rel=0.1)
        assert sum(part.weight > 0.05 for part in found.evidence) >= 4
        assert abs(found.value - 1000.0) < 3.0 * found.sd
        assert found.confidence < 0.5


@pytest.mark.parametrize(("each", "most"), [(1, 1.02), (2, 1.06), (5, 1.06)])
def test_a_few_large_values_among_many_small_ones_are_no_slips(each: int, most: float) -> None:
    """Log-normal values known to a share of their size: the largest count a hundred times the usual one."""
    ours, plain = [], []
    for seed in range(3):
        chance = np.random.default_rng(seed)
        truth = {f"i{i}": float(x) for i, x in enumerate(np.exp(2.0 + 1.5 * chance.normal(size=150)))}
        answers = {
            i: {
                f"l{j}": x * (1.0 + 0.2 * float(chance.normal()))
                for j in chance.choice(20, each, replace=False)
            }
            for i, x in truth.items()
        }
        found = fitted(answers)
        assert covered(found, truth) > 0.85
        ours.append(rmse(values(found), truth) ** 2)
        plain.append(rmse(means(answers), truth) ** 2)
        for item, one in found.items():
            said = list(answers[item].values())
            slack = 0.2 * max(map(abs, said)) + one.sd
            assert min(said) - slack <= one.value <= max(said) + slack
    assert np.sqrt(np.mean(ours)) < most * np.sqrt(np.mean(plain))


@pytest.mark.parametrize("each", [2, 5])
def test_a_digit_too_many_does_not_make_an_item_apart(each: int) -> None:
    crowd = simulate(items=300, each=each)
    chance = np.random.default_rng(2)
    slipped = set()
    for item, votes in crowd.answers.items():
        if chance.random() < 0.1 and crowd.truth[item] > 20.0:
            votes[min(votes)] *= 10.0
            slipped.add(item)
    found = values(fitted(crowd.answers))
    assert rmse(found, {i: crowd.truth[i] for i in slipped}) < 10.0
    assert rmse(found, crowd.truth) < 1.5 * rmse(means(simulate(items=300, each=each).answers), crowd.truth)


def test_known_items_show_the_scale_of_the_truth() -> None:
    """A crowd that halves every number is told by a few known ones; what it errs alike widens every interval."""
    crowd = simulate(care=0.5)
    doubled = {item: 2.0 * x + 10.0 for item, x in crowd.truth.items()}
    gold = dict(list(doubled.items())[:40])
    rest = {item: x for item, x in doubled.items() if item not in gold}
    told, untold = fitted(crowd.answers, gold), fitted(crowd.answers)
    assert rmse(values(told), rest) < 0.2 * rmse(values(untold), rest)
    assert 0.85 < np.mean([abs(told[i].value - x) < 1.96 * told[i].truth_sd for i, x in rest.items()]) <= 1.0
    assert all(told[item].value == x for item, x in gold.items())


def test_known_items_show_who_is_right_where_most_are_not() -> None:
    chance = np.random.default_rng(3)
    x = {f"i{i}": float(chance.normal(0, 15)) for i in range(200)}
    answers = {
        i: {"good": v + chance.normal(), **{f"spam{n}": float(chance.normal(0, 15)) for n in range(3)}}
        for i, v in x.items()
    }
    found = fitted(answers, dict(list(x.items())[:50]))
    rest = {i: v for i, v in x.items() if int(i[1:]) >= 50}
    assert rmse(values(found), rest) < 0.5 * rmse(means(answers), rest)


def test_equal_answers_are_sure_and_finite() -> None:
    live = LiveNumbers()
    found = live.fit({f"i{i}": dict.fromkeys("abc", 4.0) for i in range(5)})
    assert all(one.value == pytest.approx(4.0) for one in found.values())
    live.update("i0", "c", 1e100)
    live.refit()
    assert all(live.posterior(f"i{i}").value == pytest.approx(4.0) for i in range(1, 5))
    assert np.isfinite(live.posterior("i0").sd)


@pytest.mark.parametrize(
    "answers",
    [
        {"a": {"x": 3.0}},
        {"a": {"x": 3.0}, "b": {"x": 5.0}, "c": {"x": 9.0}},
        {"a": {"x": 3.0, "y": 5.0}},
        {"a": {"x": -1e100, "y": 1e100}, "b": {"x": 0.0}},
        {"a": {"x": 1e-200, "y": 2e-200}, "b": {"x": 5e-200, "z": 6e-200}},
        {"a": {"x": 1e15, "y": 1e15 + 1}, "b": {"x": 1e15 + 5, "y": 1e15 + 4}},
    ],
    ids=["one", "one labeler", "one item", "huge", "tiny", "far away"],
)
def test_degenerate_crowds_have_finite_values_among_their_answers(answers: Answers) -> None:
    with np.errstate(all="raise", under="ignore"):
        found = fitted(answers)
    everything = [v for votes in answers.values() for v in votes.values()]
    width = 1e-100 + 0.05 * (max(everything) - min(everything))
    for item, one in found.items():
        said = list(answers[item].values())
        assert min(said) - width <= one.value <= max(said) + width
        assert np.isfinite([one.sd, one.truth_sd, one.confidence]).all()
        assert one.answers == len(said)


@pytest.mark.parametrize("ends", [(), (0.0, 10.0)], ids=["no range", "range"])
def test_where_all_answers_are_one_those_of_three_are_sure_and_a_lone_one_is_not(
    ends: tuple[float, ...],
) -> None:
    live = LiveNumbers(*ends)
    found = live.fit({f"i{i}": dict.fromkeys("abc", 5.0) for i in range(10)})
    assert all(one.value == 5.0 and one.confidence > 0.95 for one in found.values())
    assert 0.5 < LiveNumbers(*ends).fit({"x": {"a": 5.0}})["x"].confidence < 0.8
    assert LiveNumbers(*ends).fit({"x": dict.fromkeys("abcde", 5.0)})["x"].confidence > 0.99
    if ends:
        assert live.tolerance == 10.0 / 8.0


def test_one_answer_that_dissents_leaves_the_others_sure() -> None:
    answers = {f"i{i}": dict.fromkeys("abc", 5.0) for i in range(10)}
    answers["i3"]["b"] = 5.1
    assert all(one.confidence > 0.9 for one in fitted(answers).values())


@pytest.mark.parametrize("refit", [False, True])
def test_of_one_item_alone_what_is_far_from_the_median_has_no_larger_part_than_others(refit: bool) -> None:
    live = LiveNumbers()
    for who, said in {"a": 5.0, "b": 5.1, "c": 51.0}.items():
        live.add("x", who, said)
    if refit:
        live.refit()
    found = live.posterior("x")
    assert 5.0 < found.value < 5.5
    assert found.evidence[-1].labeler == "c"
    assert found.evidence[-1].weight < 0.01


@pytest.mark.parametrize("gold", [{}, {"i1": 7.0}], ids=["nothing known", "one item known"])
def test_two_items_are_too_few_to_lay_a_slip_on_everybodys_scale(gold: dict[str, float]) -> None:
    slipped = {"ann": 1000.0, "bob": 4.1, "cid": 3.9}
    found = LiveNumbers().fit({"i0": slipped, "i1": {"ann": 7.0, "bob": 7.1, "cid": 6.9}}, gold)
    assert found["i0"].value == pytest.approx(4.1, abs=0.5)
    assert found["i1"].value == pytest.approx(7.0)


def test_bias_is_against_the_truth_where_truths_are_known() -> None:
    chance = np.random.default_rng(0)
    truth = {f"i{i}": 10.0 * float(chance.normal()) for i in range(40)}
    bias = {"a": 0.0, "b": 6.0, "c": 0.0}
    answers = {
        i: {who: x + more + float(chance.normal()) for who, more in bias.items()} for i, x in truth.items()
    }
    told, untold = LiveNumbers(), LiveNumbers()
    told.fit(answers, truth)
    untold.fit(answers)
    for who, more in bias.items():
        assert told.reliability(who).bias == pytest.approx(more, abs=0.6)
        assert untold.reliability(who).bias == pytest.approx(more - 2.0, abs=0.6)


def test_one_labeler_alone_is_taken_at_their_word() -> None:
    found = fitted({f"i{i}": {"only": float(i)} for i in range(50)})
    assert all(found[f"i{i}"].value == pytest.approx(i, abs=0.5) for i in range(50))


def test_before_the_first_refit_it_is_the_mean_with_the_spread_it_shows() -> None:
    live = LiveNumbers(0.0, 10.0)
    for who, said in {"a": 2.0, "b": 3.0, "c": 7.0}.items():
        live.add("x", who, said)
        live.add("y", who, 4.0)
    assert live.posterior("x").value == pytest.approx(4.0)
    assert live.posterior("x").sd > live.posterior("y").sd
    assert live.posterior("nothing").value == 5.0


def test_chances_of_a_measured_value() -> None:
    said = Measured(4.4, 0.8, 3, 0.5, 0.8)
    open_ended = [probability_of_step(said, step) for step in range(-10, 20)]
    assert sum(open_ended) == pytest.approx(1.0)
    assert int(np.argmax(open_ended)) - 10 == 4
    assert probability_within(said, 1.6) == pytest.approx(0.954, abs=0.001)


def test_the_steps_at_the_ends_of_a_scale_hold_what_is_beyond() -> None:
    said = Measured(5.0, 1.0, 3, 0.5, 1.0)
    steps = [probability_of_step(said, step, 1, 5) for step in range(1, 6)]
    assert sum(steps) == pytest.approx(1.0)
    assert steps[-1] > probability_of_step(said, 5) + 0.2
    with pytest.raises(ValueError, match=r"step is 6; expected a step in 1..5"):
        probability_of_step(said, 6, 1, 5)
    sure = Measured(2.0, 0.0, 1, 1.0, 0.0)
    assert [probability_of_step(sure, step, 1, 3) for step in (1, 2, 3)] == [0.0, 1.0, 0.0]


crowds = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 4), st.integers(-50, 50)),
    min_size=1,
    max_size=25,
    unique_by=lambda row: row[:2],
)


def as_answers(rows: list[tuple[int, int, int]]) -> Answers:
    answers: Answers = {}
    for item, labeler, said in rows:
        answers.setdefault(f"i{item}", {})[f"l{labeler}"] = float(said)
    return answers


@given(crowds)
@settings(max_examples=15, deadline=None)
def test_another_unit_gives_the_same_values_in_that_unit(rows: list[tuple[int, int, int]]) -> None:
    answers = as_answers(rows)
    other = {i: {who: 4.0 * v + 64.0 for who, v in votes.items()} for i, votes in answers.items()}
    found, again = LiveNumbers(-50.0, 50.0).fit(answers), LiveNumbers(-136.0, 264.0).fit(other)
    for item, one in found.items():
        assert again[item].value == pytest.approx(4.0 * one.value + 64.0, abs=1e-3)
        assert again[item].confidence == pytest.approx(one.confidence, abs=1e-3)


@given(crowds, st.permutations(range(5)))
@settings(max_examples=15, deadline=None)
def test_names_of_labelers_mean_nothing(rows: list[tuple[int, int, int]], names: list[int]) -> None:
    other = fitted(as_answers([(i, names[who], said) for i, who, said in rows]))
    for item, one in fitted(as_answers(rows)).items():
        assert other[item].value == pytest.approx(one.value, rel=1e-4, abs=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_measured_alike(method: str) -> None:
    crowd = simulate(care=0.8)
    found = judge(METHODS[method](crowd.answers), crowd.truth)
    assert next(iter(METHODS)) == DEFAULT
    assert next(iter(found)) == "rmse"
    assert found["mae"] < found["rmse"] < 6.0
    assert found["correlation"] > 0.9
    assert METHODS[method]({"a": {"x": 2.0, "y": 2.0}}) == {"a": pytest.approx(2.0)}


def test_published_weights_beat_the_mean_where_labelers_differ_in_care() -> None:
    crowd = simulate(care=0.8)
    error = {method: judge(METHODS[method](crowd.answers), crowd.truth)["rmse"] for method in METHODS}
    assert max(error["LFC-N"], error["CATD"], error[DEFAULT]) < error["Mean"]


def test_what_cannot_be_read_or_judged_is_named() -> None:
    assert read(" 2.5") == 2.5
    for cell in ("", "two", "nan", "inf"):
        with pytest.raises(ValueError, match="expected a finite number"):
            read(cell)
    with pytest.raises(ValueError, match="no item has a value and a truth"):
        judge({"a": 1.0}, {"b": 1.0})
    assert judge({"a": 1.0, "b": 1.0}, {"a": 1.0, "b": 3.0})["correlation"] == 0.0


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason="needs recorded real answers (CAIRN_DATA)")
@pytest.mark.parametrize(
    ("name", "most"),
    [("snow_anger", 0.98), ("snow_valence", 1.01), ("rte", 0.98)],
)
def test_on_recorded_crowds_it_is_never_worse_than_the_mean(name: str, most: float) -> None:
    answers: Answers = {}
    with (DATA / name / "answers.csv").open(newline="", encoding="utf-8-sig") as opened:
        for row in csv.DictReader(opened):
            answers.setdefault(row["item"], {})[row["annotator"]] = float(row["label"])
    with (DATA / name / "truth.csv").open(newline="", encoding="utf-8-sig") as opened:
        truth = {r["item"]: float(r["label"]) for r in csv.DictReader(opened) if r["item"] in answers}
    assert rmse(values(fitted(answers)), truth) < most * rmse(means(answers), truth)
