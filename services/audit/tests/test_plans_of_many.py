"""A statement for some rows reads those rows, in an audit, a project or a ledger of any size, beside many tenants."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import md5
from typing import Any
from uuid import UUID

import pytest

from cairn_audit.__main__ import SERVICE
from cairn_audit.store.deleting import PARTS
from cairn_audit.store.ledger import SQL
from cairn_kit.testing.plans import (
    FEW_AND_MORE,
    INSTALLATIONS,
    PLANNINGS,
    PROJECTS,
    TENANT,
    ManyTenants,
    Some,
)

FIRST_PLACES = {"small": 0, "large": 1_000_000, "new": 2_000_000}
"""Where in the tenant's ledger the entries of a project are."""
_PLACE = "n + coalesce(nullif(substring(project from '\\d+$'), '')::int * 10, CASE project {} END)".format(
    " ".join(f"WHEN '{project}' THEN {place}" for project, place in FIRST_PLACES.items())
)
FILL = (
    "INSERT INTO ledger_head SELECT DISTINCT tenant, 3000000 FROM number ON CONFLICT DO NOTHING",
    f"""
    INSERT INTO ledger_entry (tenant, index, event_id, record, leaf_hash)
    SELECT tenant, {_PLACE}, md5(project || n)::uuid, 'a record', sha256('n') FROM number
    """,
    f"INSERT INTO ledger_node SELECT tenant, 1, {_PLACE}, sha256('n') FROM number",
    """
    INSERT INTO deleted_project (tenant, project, event_id)
    SELECT tenant, project || n, gen_random_uuid() FROM number
    """,
    """
    INSERT INTO label
    SELECT tenant, project, 'species', 'item-' || n, 1, 2, 'wren', 4, 0.98, 'x' FROM number
    """,
    """
    INSERT INTO audit (tenant, project, audit, question, source, max_error, confidence, seed)
    SELECT DISTINCT tenant, project, audit, 'species', 0, 0.05, 0.95, 1 FROM number, unnest(ARRAY['a', 'judged']) AS audit
    """,
    """
    INSERT INTO stratum SELECT DISTINCT tenant, project, audit, n % 20, 1, '', 0.0, 1.0, 1
    FROM number, unnest(ARRAY['a', 'judged']) AS audit
    """,
    """
    INSERT INTO sample (tenant, project, audit, item, stratum, label_revision, label_answer, task, outcome, reviews_asked)
    SELECT tenant, project, audit, 'item-' || n, n % 20, 1, 'x', 'projects/' || project || '/tasks/' || n,
           CASE audit WHEN 'a' THEN 'open' ELSE 'right' END, CASE n % 20 WHEN 1 THEN 0 ELSE 1 END
    FROM number, unnest(ARRAY['a', 'judged']) AS audit
    """,
    """
    INSERT INTO finding (tenant, project, audit, finding, item, judgement, review_answer, reviewer, annotation)
    SELECT tenant, project, 'a', 'finding-' || n, 'item-' || n, 'right', 'x', 'labelers/ann', 'an annotation' FROM number
    """,
)


def _events(some: Some) -> list[UUID]:
    return [UUID(md5(f"{some.project}{n}".encode()).hexdigest()) for n in some.numbers]


def _places(some: Some) -> list[int]:
    return [FIRST_PLACES[some.project] + n for n in some.numbers]


def _range(some: Some) -> tuple[int, int]:
    first = FIRST_PLACES[some.project] + 1
    return first, first + some.count


def _added(some: Some) -> list[Any]:
    """Events of projects that are deleted."""
    projects = [f"{some.project}{n}" for n in some.numbers]
    events = [UUID(int=n) for n in some.numbers]
    return [TENANT, 5_000_000, events, some.times("a record"), some.times("x" * 32), projects]


def _audit(some: Some) -> list[Any]:
    return [TENANT, some.project, "a"]


ONE = {
    "entry_of_event": lambda s: [TENANT, _events(s)[0]],
    "label": lambda s: [TENANT, s.project, "species", s.items[0]],
    "any_open": _audit,
    "open_sample": lambda s: [*_audit(s), s.items[0]],
    "settle_sample": lambda s: [*_audit(s), s.items[0], "right", ""],
    "want_another_review": lambda s: [*_audit(s), s.items[0], 2],
    "label_read": lambda s: [*_audit(s), s.items[0], "x"],
    "called_off": lambda s: [*_audit(s), s.items[0], f"projects/{s.project}/tasks/1"],
}
"""Statements that one thing is told to."""
SEVERAL = {
    "known_events": lambda s: [TENANT, _events(s)],
    "append_entries": _added,
    "nodes": lambda s: [TENANT, s.times(1), _places(s), _places(s)],
    "entries": lambda s: [TENANT, *_range(s), s.count],
    "entries_that_may_be_of": lambda s: [TENANT, *_range(s), "record"],
    "erase_entries": lambda s: [TENANT, _places(s), UUID(int=0)],
    "nodes_between": lambda s: [TENANT, s.times(1), _places(s), [place + 1 for place in _places(s)]],
    "leave_out": lambda s: [*_audit(s), s.items, "why"],
    "findings_after": lambda s: [*_audit(s), "", False, s.count, 1 << 20],
    "samples_to_ask_for": lambda s: [*_audit(s), s.count],
    "tasks_to_call_off": lambda s: [*_audit(s), "", s.count],
    "reviews_agreed": lambda s: [*_audit(s), s.items, s.times(1), s.times("a task")],
    "reviews_refused": lambda s: [*_audit(s), s.items, s.times("why"), 5],
}
"""Statements for some rows."""
LARGE = ("finding", "sample", "label")
"""What a project may have many rows in."""
STATEMENTS = {name: (getattr(SQL, name), values) for name, values in (ONE | SEVERAL).items()}
STATEMENTS |= {
    f"delete {table}": (part._statement, lambda s, part=part: [TENANT, s.project, part._first, s.count])
    for table in LARGE
    for part in PARTS
    if f'DELETE FROM "{table}"' in part._statement
}


@pytest.fixture(scope="module", params=INSTALLATIONS)
def tables(request: pytest.FixtureRequest) -> Iterator[ManyTenants]:
    with ManyTenants("audit", SERVICE.migrations, FILL, INSTALLATIONS[request.param]) as tables:
        yield tables


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_reads_what_its_rows_ask_for_and_nothing_else(tables: ManyTenants, name: str) -> None:
    tables.check(*STATEMENTS[name], counts=(1,) if name in ONE else FEW_AND_MORE)


def test_where_all_is_judged_no_sample_is_read(tables: ManyTenants) -> None:
    tables.check(SQL.any_open, lambda s: [TENANT, s.project, "judged"], counts=(0,))


@pytest.mark.parametrize("planning", PLANNINGS)
def test_what_audits_need_is_found_by_one_look_an_audit(tables: ManyTenants, planning: str) -> None:
    [asked] = tables.plan(SQL.audits_to_ask_for, [], planning).walks("sample_to_ask")
    assert asked.rows == tables.plan("SELECT audit FROM audit WHERE audit = 'a'", [], planning).found
    [called_off] = tables.plan(SQL.audits_to_call_off, [], planning).walks("sample_to_call_off")
    assert called_off.rows == 0


@pytest.mark.parametrize("planning", PLANNINGS)
def test_the_strata_of_an_audit_are_told_by_one_look_at_its_samples(
    tables: ManyTenants, planning: str
) -> None:
    for project, size in PROJECTS.items():
        plan = tables.plan(SQL.strata, [TENANT, project, ["a"]], planning)
        assert plan.found >= size, project
        assert plan.rows <= 2 * size, project  # what earlier tests undid is looked at, too
