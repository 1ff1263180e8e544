"""What the chassis keeps of requests, events and deleted projects is looked up by its keys, beside however many tenants."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import md5
from uuid import UUID

import pytest

from cairn_kit.events import inbox, relay, setbacks
from cairn_kit.rpc import idempotency
from cairn_kit.testing.plans import INSTALLATIONS, ManyTenants, Some

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
