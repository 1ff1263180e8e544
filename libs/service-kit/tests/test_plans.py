"""What the chassis keeps of requests, events and deleted projects is looked up by its keys, beside however many tenants."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import md5
from typing import Any
from uuid import UUID

import pytest

from cairn_kit.events import inbox, relay, setbacks
from cairn_kit.rpc import idempotency
from cairn_kit.testing.plans import INSTALLATIONS, MOST_PAGES, ManyTenants, Plan, Some, Walk, faults

_EVENT = "overlay(md5(tenant || project || n) placing '0000' from 1)::uuid"
"""Ids of events that came long ago, and so lie in one partition."""
FILL = (
    "INSERT INTO request SELECT tenant, 'a.Method', project || n, 'digest', 'answer', now(), '' FROM number",
    f"INSERT INTO inbox (consumer, event_id, done) SELECT 'a-consumer', {_EVENT}, '\\x01' FROM number",
    f"""
    INSERT INTO outbox (event_id, event_type, nats_subject, tenant, project, resource, revision, traceparent, occurred_at,
                        body, published_at)
    SELECT {_EVENT}, 'a.Type', 'a.subject', tenant, project, 'a', 1, '', now(), 'body', now() FROM number
    """,
    f"INSERT INTO delivery_failure SELECT 'a-consumer', {_EVENT}, 1, 'an error' FROM number",
    f"INSERT INTO deleted_project (tenant, project, event_id) SELECT tenant, project || n, {_EVENT} FROM number",
)


def _events(some: Some) -> list[UUID]:
    return [UUID("0000" + md5(f"acme{some.project}{n}".encode()).hexdigest()[4:]) for n in some.numbers]


def _requests(some: Some) -> list[list[str]]:
    ids = [f"{some.project}{n}" for n in some.numbers]
    return [some.times("acme"), ids, some.times(""), some.times("a.Method")]


def _unheard(some: Some) -> list[object]:
    """Messages of deleted projects that were not heard before."""
    events = [UUID(int=n) for n in some.numbers]
    return [
        "a-consumer",
        events,
        some.times(None),
        some.times("acme"),
        [f"{some.project}{n}" for n in some.numbers],
    ]


STATEMENTS = {
    "claim": (idempotency._CLAIM, lambda s: [*_requests(s), s.times("digest")]),
    "recall": (idempotency._RECALL, lambda s: [*_requests(s), s.times("digest")]),
    "keep": (idempotency._KEEP, lambda s: [*_requests(s), s.times("an answer")]),
    "forget": (idempotency._FORGET, _requests),
    "remember": (inbox._REMEMBER, _unheard),
    "known": (inbox._KNOWN, lambda s: ["a-consumer", _events(s)]),
    "add": (inbox._ADD, lambda s: ["a-consumer", _events(s), s.times("1")]),
    "mark": (relay._MARK, lambda s: [_events(s)]),
    "forgive": (setbacks._FORGIVE, lambda s: ["a-consumer", _events(s)]),
}


@pytest.fixture(scope="module", params=INSTALLATIONS)
def tables(request: pytest.FixtureRequest) -> Iterator[ManyTenants]:
    with ManyTenants("sample", None, FILL, INSTALLATIONS[request.param]) as tables:
        yield tables


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_reads_what_its_rows_ask_for_and_nothing_else(tables: ManyTenants, name: str) -> None:
    tables.check(*STATEMENTS[name])


def _plan(pages: int, **told: Any) -> Plan:
    """A plan that finds fifty rows of a table."""
    step = {"Node Type": "Index Scan", "Relation Name": "item", "Index Name": "item_pkey"}
    did = {"Actual Loops": 5, "Actual Rows": 10, "Shared Hit Blocks": pages, "Shared Read Blocks": 0}
    return Plan(step | did | told)


@pytest.mark.parametrize(
    ("plan", "small", "found"),
    [
        (_plan(600), _plan(600), []),
        (_plan(600, **{"Actual Rows": 9}), _plan(600), ["finds 45.0"]),
        (_plan(600, **{"Rows Removed by Filter": 33}), _plan(600), ["looks at 215.0 rows"]),
        (_plan(1531), _plan(1531), ["touches 1531 pages, and 1531 in the small one"]),
        (_plan(481), _plan(200), ["touches 481 pages, and 200 in the small one"]),
        (_plan(201, **{"Node Type": "Seq Scan"}), _plan(201), ["reads all of item, 201 pages"]),
        (_plan(9, **{"Node Type": "ModifyTable", "Conflicting Tuples": 50}), _plan(9), []),
    ],
)
def test_what_is_wrong_with_a_plan_is_told(plan: Plan, small: Plan, found: list[str]) -> None:
    assert list(faults(plan, 50, small, MOST_PAGES)) == found


def test_what_is_done_along_an_index_is_told() -> None:
    assert _plan(7).walks("item_pkey") == [Walk(50.0, 7)]
    assert _plan(7).walks("another") == []
