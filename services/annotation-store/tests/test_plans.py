"""A statement for some rows reads those rows, in a project of any size, beside however many tenants."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import md5
from typing import Any
from uuid import UUID

import pytest

from cairn_annotation_store.__main__ import SERVICE
from cairn_annotation_store.store import annotations, deleting, exported, items, labels
from cairn_kit.testing.plans import FEW_AND_MORE, INSTALLATIONS, TENANT, ManyTenants, Some

FILL = (
    """
    INSERT INTO project (tenant, project, revision, schema_version, body)
    SELECT DISTINCT tenant, project, 1, 1, ''::bytea FROM number
    """,
    """
    INSERT INTO item (tenant, project, item, body, digest, is_gold)
    SELECT tenant, project, 'item-' || n, 'a body', sha256('d'), false FROM number
    """,
    """
    INSERT INTO blob (tenant, project, sha256, size_bytes, media_type)
    SELECT tenant, project, repeat(md5('item-' || n), 2), 1, 'image/png' FROM number
    """,
    """
    INSERT INTO annotation (tenant, project, annotation, item, task, lease, labeler, kind, audit, answers, late,
                            schema_version, submitted_at)
    SELECT tenant, project, md5(tenant || project || n || who)::uuid, 'item-' || n, 'a task', tenant || project || n || who,
           'labelers/' || who, 1, '', 'answers', false, 1, now()
    FROM number, unnest(ARRAY['ann', 'bob']) who
    """,
    """
    INSERT INTO label (tenant, project, item, question, revision, stands, source, source_order, event_id, confidence, answer,
                       provenance)
    SELECT tenant, project, 'item-' || n, 'species', revision, revision = 2, revision, 1, gen_random_uuid(), 0.9,
           'answer', 'evidence'
    FROM number, generate_series(1, 2) revision
    """,
    "INSERT INTO import (tenant, project, import) SELECT tenant, project, 'import-' || n FROM number",
    "INSERT INTO import_failure SELECT tenant, project, 'import-' || n, 0, 'item', 'status' FROM number",
    """
    INSERT INTO export (tenant, project, export, format, include_annotations, state)
    SELECT tenant, project, md5('export-' || n)::uuid, 1, false, 1 FROM number
    """,
    """
    INSERT INTO export_part (tenant, project, export, part, worker)
    SELECT tenant, project, md5('export-' || n)::uuid, 0, gen_random_uuid() FROM number
    """,
    "INSERT INTO schema_use SELECT tenant, project, 'species', 'class', 'class-' || n FROM number",
)  # fmt: skip


def _annotations(some: Some) -> list[UUID]:
    return [UUID(md5(f"{TENANT}{some.project}{n}ann".encode()).hexdigest()) for n in some.numbers]


def _leases(some: Some) -> list[str]:
    return [f"{TENANT}{some.project}{n}ann" for n in some.numbers]


def _blobs(some: Some) -> list[str]:
    return [2 * md5(item.encode()).hexdigest() for item in some.items]


def _exported(some: Some) -> list[Any]:
    last = sorted(some.items)[-1]
    return [TENANT, some.project, "", "", last, "species", "1:9000000000:", some.count]


ONE = {
    "annotation": (annotations, lambda s: [TENANT, s.project, _annotations(s)[0], s.items[0]]),
    "annotations_of_item": (annotations, lambda s: [TENANT, s.project, s.items[0], UUID(int=0), 100]),
    "label": (labels, lambda s: [TENANT, s.project, s.items[0], "species", 0]),
    "label_revision": (labels, lambda s: [TENANT, s.project, s.items[0], "species", 2, 0]),
    "label_revisions": (labels, lambda s: [TENANT, s.project, s.items[0], "species", 9, 100, 0]),
    "list_labels_of_item": (labels, lambda s: [TENANT, s.project, s.items[0], "", 100, 0, 0]),
}  # fmt: skip
"""Statements that one thing is told to."""
SEVERAL = {
    "annotations_of_leases": (annotations, lambda s: [s.times(TENANT), _leases(s)]),
    "answered_leases": (annotations, lambda s: [TENANT, _leases(s)]),
    "annotations_of_project": (annotations, lambda s: [TENANT, s.project, UUID(int=0), s.count]),
    "items": (items, lambda s: [TENANT, s.project, s.items]),
    "items_of_leases": (items, lambda s: [*s.whose, s.items]),
    "list_items": (items, lambda s: [TENANT, s.project, "", s.count]),
    "blobs": (items, lambda s: [TENANT, s.project, _blobs(s)]),
    "blobs_of_projects": (items, lambda s: [*s.whose, _blobs(s)]),
    "lock_items": (labels, lambda s: [*s.whose, s.items]),
    "standing_labels": (labels, lambda s: [*s.whose, s.items]),
    "lay_down_labels": (labels, lambda s: [*s.whose, s.items, s.times("species")]),
    "set_completeness": (labels, lambda s: [*s.whose, s.items, s.times(2)]),
    "list_labels": (labels, lambda s: [TENANT, s.project, "", "", s.count, 0]),
    "list_labels_of_source": (labels, lambda s: [TENANT, s.project, "", "", s.count, 2, 0]),
    "next_span": (exported, lambda s: [TENANT, s.project, "", "", s.count]),
    "exported_labels": (exported, _exported),
    "exported_annotations": (
        exported,
        lambda s: [TENANT, s.project, min(s.items), "item-a", "infinity", s.count],
    ),
    "exported_annotations_of": (exported, lambda s: [TENANT, s.project, s.items, "infinity"]),
    "label_log": (labels, lambda s: [TENANT, s.project, "0", "", "", 0, s.count, 0]),
}  # fmt: skip
"""Statements for some rows."""
STATEMENTS = {name: (getattr(store.SQL, name), values) for name, (store, values) in (ONE | SEVERAL).items()}
STATEMENTS |= {
    f"part {place} of a deletion": (
        part._statement,
        lambda s, part=part: [TENANT, s.project, part._first, s.count],
    )
    for place, part in enumerate(deleting.PARTS)
}


@pytest.fixture(scope="module", params=INSTALLATIONS)
def tables(request: pytest.FixtureRequest) -> Iterator[ManyTenants]:
    with ManyTenants("annotation-store", SERVICE.migrations, FILL, INSTALLATIONS[request.param]) as tables:
        yield tables


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_reads_what_its_rows_ask_for_and_nothing_else(tables: ManyTenants, name: str) -> None:
    tables.check(*STATEMENTS[name], counts=(1,) if name in ONE else FEW_AND_MORE)
