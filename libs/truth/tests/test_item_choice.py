"""Answers are asked for where they tell most: what the model doubts, spread out, beside a share by chance."""

from __future__ import annotations

from time import perf_counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn_truth.routing.clusters import k_means, spread_out
from cairn_truth.routing.item_choice import Strategy, answer_prices, choose, margins


def _pool(items: int = 300, classes: int = 4, seed: int = 0) -> dict[str, np.ndarray]:
    chance = np.random.default_rng(seed)
    return {
        "labeled": chance.random(items) < 0.2,
        "probabilities": chance.dirichlet(np.ones(classes), items),
        "embeddings": chance.normal(size=(items, 8)),
    }


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(Strategy),
    st.integers(1, 60),
    st.integers(0, 80),
    st.sampled_from([0.0, 0.1, 1.0]),
    st.integers(0, 9),
)
def test_a_batch_is_of_distinct_open_items_and_as_large_as_can_be(
    strategy: Strategy, items: int, batch: int, share: float, seed: int
) -> None:
    pool = _pool(items, seed=seed)
    chosen = choose(strategy, batch, np.random.default_rng(seed), random_share=share, **pool)
    assert len(set(chosen.tolist())) == len(chosen) == min(batch, int((~pool["labeled"]).sum()))
    assert not pool["labeled"][chosen].any()
    again = choose(strategy, batch, np.random.default_rng(seed), random_share=share, **pool)
    assert (chosen == again).all()


@pytest.mark.parametrize("strategy", Strategy)
def test_equal_items_and_a_model_without_doubt_are_no_trouble(strategy: Strategy) -> None:
    same = {
        "labeled": np.arange(50) < 5,
        "probabilities": np.tile([1.0, 0.0], (50, 1)),
        "embeddings": np.zeros((50, 3)),
    }
    assert len(choose(strategy, 20, np.random.default_rng(0), **same)) == 20


@pytest.mark.parametrize(
    ("strategy", "unsure"),
    [
        (Strategy.LEAST_CONFIDENCE, [0.34, 0.33, 0.33]),
        (Strategy.MARGIN, [0.5, 0.5, 0.0]),
        (Strategy.ENTROPY, [0.34, 0.33, 0.33]),
    ],
)
def test_the_least_sure_come_first_by_each_measure(strategy: Strategy, unsure: list[float]) -> None:
    table = np.tile([0.45, 0.4, 0.15], (20, 1))
    table[13] = unsure
    chosen = choose(
        strategy,
        1,
        np.random.default_rng(0),
        labeled=np.zeros(20, dtype=bool),
        probabilities=table,
        random_share=0.0,
    )
    assert chosen.tolist() == [13]


def _groups(each: int, groups: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(seed)
    centres = 10.0 * np.eye(groups)
    group = np.repeat(np.arange(groups), each)
    return centres[group] + chance.normal(size=(group.size, groups)), group


def test_a_cold_start_asks_for_a_typical_item_of_every_group() -> None:
    points, group = _groups(40, 6)
    labeled = np.zeros(len(points), dtype=bool)
    chosen = choose(
        Strategy.TYPICLUST, 6, np.random.default_rng(0), labeled=labeled, embeddings=points, random_share=0.0
    )
    assert sorted(group[chosen]) == list(range(6))
    off_centre = [np.linalg.norm(points[c] - points[group == group[c]].mean(axis=0)) for c in chosen]
    usual = np.mean(
        [np.linalg.norm(p - points[group == g].mean(axis=0)) for p, g in zip(points, group, strict=True)]
    )
    assert np.mean(off_centre) < 0.8 * usual


def test_groups_that_have_labels_wait_for_those_that_have_none() -> None:
    points, group = _groups(40, 6)
    labeled = np.isin(np.arange(len(points)), [0, 40, 80])  # one of each of the first three groups
    chosen = choose(
        Strategy.TYPICLUST, 3, np.random.default_rng(0), labeled=labeled, embeddings=points, random_share=0.0
    )
    assert sorted(group[chosen]) == [3, 4, 5]


@pytest.mark.parametrize("strategy", [Strategy.BADGE, Strategy.CLUSTER_MARGIN, Strategy.CORESET])
def test_a_diverse_batch_does_not_ask_the_same_thing_twice(strategy: Strategy) -> None:
    points, group = _groups(30, 5)
    doubts = np.tile([0.5, 0.5], (len(points), 1))
    doubts[group == 0] = [0.5001, 0.4999]  # margin alone would take the others, and them in order
    chosen = choose(
        strategy,
        5,
        np.random.default_rng(1),
        labeled=np.zeros(len(points), dtype=bool),
        probabilities=doubts,
        embeddings=points,
        random_share=0.0,
    )
    assert len(set(group[chosen])) >= 4


def test_coreset_takes_what_is_farthest_from_all_labels() -> None:
    points = np.array([[0.0], [1.0], [2.0], [9.0], [10.0]])
    chosen = choose(
        Strategy.CORESET,
        2,
        np.random.default_rng(0),
        labeled=[True, False, False, False, False],
        embeddings=points,
        random_share=0.0,
    )
    assert chosen.tolist() == [4, 2]


def test_the_default_is_typical_when_cold_and_doubtful_when_warm() -> None:
    points, _ = _groups(40, 6)
    table = np.random.default_rng(0).dirichlet(np.ones(6), len(points))

    def picked(strategy: Strategy, labels: int, **known: np.ndarray) -> list[int]:
        labeled = np.arange(len(points)) < labels
        return choose(strategy, 10, np.random.default_rng(0), labeled=labeled, **known).tolist()

    both = {"probabilities": table, "embeddings": points}
    assert picked(Strategy.DEFAULT, 5, **both) == picked(Strategy.TYPICLUST, 5, **both)
    assert picked(Strategy.DEFAULT, 12, **both) == picked(Strategy.CLUSTER_MARGIN, 12, **both)
    assert picked(Strategy.DEFAULT, 50, probabilities=table) == picked(
        Strategy.MARGIN, 50, probabilities=table
    )
    assert picked(Strategy.DEFAULT, 50) == picked(Strategy.RANDOM, 50)


def test_a_share_by_chance_reaches_what_the_model_is_sure_of() -> None:
    table = np.tile([0.5, 0.5], (2000, 1))
    table[:1000] = [1.0, 0.0]
    chosen = choose(
        Strategy.MARGIN,
        500,
        np.random.default_rng(0),
        labeled=np.zeros(2000, dtype=bool),
        probabilities=table,
    )
    assert 10 <= (chosen < 1000).sum() <= 40  # half of the 50 drawn by chance


def test_small_batches_have_their_share_by_chance_too() -> None:
    table = np.array([[0.5, 0.5]] * 10 + [[1.0, 0.0]] * 90)
    free = np.zeros(100, dtype=bool)
    by_chance = sum(
        int((choose("margin", 5, np.random.default_rng(seed), labeled=free, probabilities=table) >= 10).sum())
        for seed in range(200)
    )
    assert 60 <= by_chance <= 120  # a tenth of 1,000 items, nine in ten of them sure


def test_gradients_apart_are_found_without_building_them() -> None:
    chance = np.random.default_rng(3)
    pull = chance.normal(size=(40, 3)).astype(np.float32)
    points = chance.normal(size=(40, 5)).astype(np.float32)
    built = np.einsum("nc,nd->ncd", pull, points).reshape(40, 15)
    ones = np.ones((40, 1), dtype=np.float32)
    first = int((built**2).sum(axis=1).argmax())
    drawn = spread_out(40, np.random.default_rng(0), pull, points)
    assert drawn[0] == first
    assert sorted(drawn) == list(range(40))
    near = ((built - built[first]) ** 2).sum(axis=1)
    seconds = [spread_out(2, np.random.default_rng(s), pull, points)[1] for s in range(400)]
    expected = (near / near.sum() * np.arange(40)).sum()
    assert np.mean(seconds) == pytest.approx(expected, abs=2.0)
    assert spread_out(3, np.random.default_rng(0), ones, points).size == 3


def test_k_means_finds_groups_far_from_the_origin() -> None:
    points, group = _groups(50, 4)
    found, centres = k_means((points + 1000.0).astype(np.float32), 4, np.random.default_rng(0))
    assert len({(a, b) for a, b in zip(found.tolist(), group.tolist(), strict=True)}) == 4
    assert centres.shape == (4, 4)


def test_a_heavy_point_counts_like_many() -> None:
    points = np.array([[0.0], [1.0], [9.0], [10.0]], dtype=np.float32)
    weights = np.array([3.0, 1.0, 1.0, 1.0], dtype=np.float32)
    _, centres = k_means(points, 2, np.random.default_rng(0), weights)
    assert sorted((centres[:, 0] + points.mean()).tolist()) == pytest.approx([0.25, 9.5])


def test_doubt_draws_the_clusters_to_itself() -> None:
    points, group = _groups(60, 6)
    unsure = group == 0  # of one group nothing is known; of the rest nearly all
    table = np.where(unsure[:, None], [0.5, 0.5], [0.999, 0.001])
    chosen = choose(
        Strategy.CLUSTER_MARGIN,
        60,
        np.random.default_rng(0),
        labeled=np.zeros(len(points), dtype=bool),
        probabilities=table,
        embeddings=points,
        random_share=0.0,
    )
    assert unsure[chosen].sum() > 45  # a fifth of the shortlist: clusters of all alike give it about 12


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 5), st.integers(1, 40), st.integers(0, 5))
def test_an_answer_is_worth_what_it_is_expected_to_put_right(classes: int, items: int, seed: int) -> None:
    chance = np.random.default_rng(seed)
    people, model = chance.dirichlet(np.ones(classes), items), chance.dirichlet(np.ones(classes), items)
    answers = chance.integers(0, 3, items)
    price = answer_prices(people, model, answers=answers, labeler_accuracy=0.8, model_accuracy=0.7)
    assert (price >= 0).all()
    assert (price <= 0.8 - 1.0 / classes + 1e-9).all()  # from knowing nothing to one answer
    turned = chance.permutation(classes)
    same = answer_prices(
        people[:, turned], model[:, turned], answers=answers, labeler_accuracy=0.8, model_accuracy=0.7
    )
    assert same == pytest.approx(price)


def test_new_and_old_items_are_priced_on_one_scale() -> None:
    people = np.array([[0.5, 0.5], [0.99, 0.01], [0.6, 0.4], [0.6, 0.4]])
    model = np.array([[0.5, 0.5], [0.5, 0.5], [0.5, 0.5], [0.05, 0.95]])
    price = answer_prices(people, model, answers=[0, 3, 2, 2], labeler_accuracy=0.8, model_accuracy=0.9)
    new, settled, doubtful, disputed = price
    assert new == pytest.approx(0.3)  # from a coin's error to a labeler's
    assert settled == 0.0
    assert settled < doubtful < new
    assert disputed < doubtful  # the model has settled it for the other class
    useless = answer_prices(people, model, answers=[0, 3, 2, 2], labeler_accuracy=0.5, model_accuracy=0.9)
    assert useless == pytest.approx(0.0)
    boastful = {"labeler_accuracy": 0.8, "model_accuracy": 0.7, "model_confidence": 0.95}
    whole = answer_prices(people, model, answers=[0, 3, 2, 2], **boastful)
    alone = answer_prices(people[3:], model[3:], answers=[2], **boastful)
    assert alone == pytest.approx(whole[3:])  # whatever else is on the list
    assert (
        answer_prices(people[:0], model[:0], answers=[], labeler_accuracy=0.8, model_accuracy=0.9).size == 0
    )


def test_what_does_not_fit_is_named() -> None:
    chance, free = np.random.default_rng(0), np.zeros(3, dtype=bool)
    with pytest.raises(ValueError, match="strategy margin needs probabilities"):
        choose(Strategy.MARGIN, 1, chance, labeled=free)
    with pytest.raises(ValueError, match="strategy typiclust needs embeddings"):
        choose(Strategy.TYPICLUST, 1, chance, labeled=free)
    with pytest.raises(ValueError, match=r"expected \(3, d\)"):
        choose(Strategy.TYPICLUST, 1, chance, labeled=free, embeddings=np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"probabilities\[1, 0\] is nan"):
        choose(Strategy.MARGIN, 1, chance, labeled=free, probabilities=[[1, 0], [np.nan, 0], [1, 0]])
    with pytest.raises(ValueError, match="expected booleans"):
        choose(Strategy.RANDOM, 1, chance, labeled=[0, 1, 0])
    with pytest.raises(ValueError, match="strategy is 'nonsense'; expected one of default, random"):
        choose("nonsense", 1, chance, labeled=free)
    with pytest.raises(ValueError, match=r"rng is 0; expected a numpy.random.Generator"):
        choose(Strategy.RANDOM, 1, 0, labeled=free)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="model_confidence is 2"):
        answer_prices(
            [[1, 0]], [[1, 0]], answers=[1], labeler_accuracy=0.9, model_accuracy=0.5, model_confidence=2.0
        )
    with pytest.raises(ValueError, match="labeler_accuracy is 1"):
        answer_prices([[1, 0]], [[1, 0]], answers=[1], labeler_accuracy=1.0, model_accuracy=0.5)


def test_a_margin_is_the_lead_over_the_second() -> None:
    assert margins([[0.2, 0.7, 0.1], [1.0, 0.0, 0.0]]) == pytest.approx([0.5, 1.0])
    assert margins([[1.0]]) == [1.0]


@pytest.mark.parametrize("strategy", [Strategy.CLUSTER_MARGIN, Strategy.TYPICLUST, Strategy.BADGE])
def test_a_large_pool_is_chosen_from_in_seconds(strategy: Strategy) -> None:
    chance = np.random.default_rng(0)
    points = chance.normal(size=(30_000, 64)).astype(np.float32)
    table = chance.dirichlet(np.ones(10), 30_000)
    started = perf_counter()
    choose(strategy, 50, chance, labeled=np.arange(30_000) < 50, probabilities=table, embeddings=points)
    assert perf_counter() - started < 10.0
