"""A statement for some items reads those items, in a project of any size, beside however many tenants."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cairn_inference.__main__ import SERVICE
from cairn_inference.deleting import ROWS
from cairn_inference.store import (
    drift,
    features,
    items,
    projects,
    routes,
    scores,
    training,
    validation,
    versions,
)
from cairn_kit.testing.plans import INSTALLATIONS, PLANNINGS, PROJECTS, TENANT, ManyTenants, Some

FILL = (
    """
    INSERT INTO project (tenant, project, revision, question, unroutable, class_ids, alpha, delta, validation_share,
                         smallest_share, min_answers, automatic, score_round, route_round, threshold, serving_model,
                         serving_version)
    SELECT DISTINCT tenant, project, 1, 'species', '', '{wren,owl}'::text[], 0.1, 0.1, 0.5, 0.5, 1, true, 2, 2, 1, 'm', 1
    FROM number
    """,
    """
    INSERT INTO item (tenant, project, item, validation, lot, gold, hint, content, feature_state, spec, scored_round,
                      predicted, score, margin, route, routed_round, route_revision, priority, open, label,
                      label_source)
    SELECT tenant, project, 'item-' || n, n % 2 = 1, CASE n % 2 WHEN 1 THEN 0.1 END, false, 0, 1, 1, 'spec', 2, 'wren',
           0.9, 0.8, 2, 1, 1, 0.5, true, 'wren', 2
    FROM number
    """,
    "INSERT INTO feature SELECT tenant, project, 'item-' || n, 'vector' FROM number",
    """
    INSERT INTO other_label (tenant, project, question, item, label, source, confidence, revision)
    SELECT tenant, project, 'colour', 'item-' || n, 'blue', 2, 0.9, 1 FROM number
    """,
    """
    INSERT INTO model_version (tenant, project, model, version, state, sha256, features, class_ids, training_labels)
    SELECT tenant, project, 'm', n, CASE n WHEN 1 THEN 2 ELSE 3 END, '', 'spec', '{wren,owl}', 100 FROM number
    """,
    "INSERT INTO out_of_fold SELECT tenant, project, 'm', 1, 'item-' || n, 'probabilities' FROM number",
    "INSERT INTO let_through SELECT tenant, project, 'colour', 'item-' || n, 'blue', 1 FROM number",
    """
    INSERT INTO threshold (tenant, project, threshold, score, alpha, delta, round, round_delta, validation_items,
                           validation_errors, error_upper_bound, coverage, model, version)
    SELECT tenant, project, n, 0.5, 0.1, 0.1, n, 0.1, 100, 1, 0.1, 0.5, 'm', 1 FROM number WHERE n <= 10
    """,
)


def _labels(some: Some) -> list[list[Any]]:
    return [some.items, some.times("wren"), some.times(2), some.times(0.9), some.times(7)]


def _asked(some: Some) -> list[list[Any]]:
    return [*some.whose, some.times("m"), some.numbers]


STATEMENTS = {
    "keep_features": (features, lambda s: [*s.whose, s.items, s.times("spec"), s.times("vector")]),
    "give_up_features": (features, lambda s: [*s.whose, s.items, s.times("why")]),
    "postpone_features": (features, lambda s: [*s.whose, s.items]),
    "features_of": (features, lambda s: [*s.whose, s.items]),
    "known_items": (items, lambda s: [*s.whose, s.items]),
    "keep_labels": (items, lambda s: [*s.whose, *_labels(s)]),
    "items_to_score": (scores, lambda s: [TENANT, s.project, 3, "spec", "m", 1, s.count]),
    "keep_scores": (
        scores,
        lambda s: [TENANT, s.project, 3, s.items, s.times("wren"), s.times(0.9), s.times(0.8)],
    ),
    "pass_over": (scores, lambda s: [TENANT, s.project, 3, s.items]),
    "let_through_of": (validation, lambda s: [TENANT, s.project, s.items]),
    "answers_wished": (validation, lambda s: [TENANT, s.project, s.items]),
    "items_to_route": (routes, lambda s: [TENANT, s.project, 2, 2, s.count]),
    "keep_routes": (
        routes,
        lambda s: [TENANT, s.project, 2, s.items, s.times(2), s.times(0.5), s.times(3)],
    ),
    "send_to_people": (routes, lambda s: [*s.whose, s.items, s.times(0.5), s.times(3)]),
    "move_items": (projects, lambda s: [TENANT, s.project, "species", "colour", "", s.count]),
    "versions_asked": (versions, _asked),
    "out_of_fold": (versions, lambda s: [TENANT, s.project, "m", 1, s.items]),
}
STATEMENTS = {name: (getattr(store.SQL, name), values) for name, (store, values) in STATEMENTS.items()}
LARGE = ("let_through", "other_label", "out_of_fold", "feature", "item")
"""What a project may have many rows in."""
STATEMENTS |= {
    f"delete {table}": (part._statement, lambda s, part=part: [TENANT, s.project, part._first, s.count])
    for table in LARGE
    for part in ROWS
    if f'DELETE FROM "{table}"' in part._statement
}
WHOLE = {
    "validation_scores": (validation, lambda p: [TENANT, p, 2, "colour", 1]),
    "let_through": (validation, lambda p: [TENANT, p]),
    "answers_let_through": (validation, lambda p: [TENANT, p, "colour", 1]),
    "validation_features": (drift, lambda p: [TENANT, p, 2, "infinity", 100, 1]),
    "features_since": (drift, lambda p: [TENANT, p, 2, "-infinity", 100]),
    "training_rows": (training, lambda p: [TENANT, p, "spec", ["wren"], 100]),
}
"""What reads all of a project."""
IDLE = {
    "items_to_score": (scores, lambda s: [TENANT, s.project, 2, "spec", "m", 1, 100]),
    "items_to_route": (routes, lambda s: [TENANT, s.project, 1, 2, 100]),
    "any_to_route": (routes, lambda s: [TENANT, s.project, 1, 2]),
    "doubtful_validation": (validation, lambda s: [TENANT, s.project, 1, 0.0, 100]),
}
"""What is asked at every step, where there is nothing to do."""


@pytest.fixture(scope="module", params=INSTALLATIONS)
def tables(request: pytest.FixtureRequest) -> Iterator[ManyTenants]:
    with ManyTenants("inference", SERVICE.migrations, FILL, INSTALLATIONS[request.param]) as tables:
        yield tables


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_reads_what_its_items_ask_for_and_nothing_else(tables: ManyTenants, name: str) -> None:
    tables.check(*STATEMENTS[name])


@pytest.mark.parametrize("name", WHOLE)
def test_what_reads_all_of_a_project_reads_it_once(tables: ManyTenants, name: str) -> None:
    store, values = WHOLE[name]
    for project, size in PROJECTS.items():
        for planning in PLANNINGS:
            plan = tables.plan(getattr(store.SQL, name), values(project), planning)
            assert plan.found >= size / 2, (project, planning)
            assert plan.rows <= 2 * size, (project, planning)  # what earlier tests undid is looked at, too


@pytest.mark.parametrize("name", IDLE)
def test_where_there_is_nothing_to_do_no_item_is_read(tables: ManyTenants, name: str) -> None:
    store, values = IDLE[name]
    tables.check(getattr(store.SQL, name), values, counts=(0,))


@pytest.mark.parametrize("planning", PLANNINGS)
def test_where_no_features_are_wanted_no_item_is_read(tables: ManyTenants, planning: str) -> None:
    assert tables.plan(features.SQL.items_to_featurise, [100], planning).rows == 0
