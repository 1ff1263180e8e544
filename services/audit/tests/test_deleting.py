"""A deleted project leaves audit with its hashes in the ledger, and nothing that it said."""

from __future__ import annotations

from typing import Any

import pytest

from cairn.audit.v1 import audit_pb2 as pb
from cairn.audit.v1.audit_pb2_grpc import AuditServiceStub
from cairn.events.v1.annotation_store_events_pb2 import ProjectDeleted
from cairn_client import ledger as offline
from cairn_kit.events import Event
from cairn_kit.testing import World, eventually

Service = Any
Elsewhere = Any
TABLES = ("project", "label", "audit", "stratum", "sample", "finding")


def deleted(project: str = "birds", tenant: str = "acme") -> Event:
    name = f"projects/{project}"
    return Event(ProjectDeleted(project=name, deleted_by="mia"), tenant, project, name, 9)


async def rows_of(audit: Service, project: str, tenant: str = "acme") -> dict[str, int]:
    counts = {
        table: await audit.database.fetchval(
            f"SELECT count(*) FROM {table} WHERE tenant = $1 AND project = $2",
            tenant,
            project,
        )
        for table in TABLES
    }
    return {table: count for table, count in counts.items() if count}


async def entries_of(api: Any) -> list[pb.LedgerEntry]:
    return [entry async for part in api.ReadLedger(pb.ReadLedgerRequest()) for entry in part.entries]


async def in_ledger(audit: Service, tenant: str = "acme") -> int:
    return await audit.database.fetchval(
        "SELECT count(*) FROM ledger_entry WHERE tenant = $1 AND record NOT LIKE '%CheckpointSigned%'::bytea",
        tenant,
    )


async def is_gone(audit: Service) -> bool:
    return (
        await audit.database.fetchval("SELECT count(*) FROM deleted_project WHERE gone_at IS NOT NULL") == 1
    )


async def audited(world: World, audit: Service, api: Any, elsewhere: Elsewhere, project: str) -> None:
    """A project with twenty labels, an audit of some of them, and a review."""
    await world.publish(
        elsewhere.project_created(project=project), *(elsewhere.label(i, project=project) for i in range(20))
    )
    await eventually(lambda: rows_of(audit, project), {"project": 1, "label": 20})
    made = await api.CreateAudit(
        pb.CreateAuditRequest(
            parent=f"projects/{project}", plan=pb.AuditPlan(question="species", sample_size=5, max_error=0.3)
        )
    )
    item = await audit.database.fetchval("SELECT item FROM sample WHERE project = $1 LIMIT 1", project)
    await world.publish(
        elsewhere.review(f"projects/{project}/items/{item}", elsewhere.says("wren"), audit=made.name)
    )

    async def found() -> bool:
        return "finding" in await rows_of(audit, project)

    await eventually(found)


async def test_its_rows_go_and_its_entries_keep_their_hashes_and_nothing_else(
    world: World, audit: Service, api: Any, elsewhere: Elsewhere
) -> None:
    for project in ("birds", "birds2"):
        await audited(world, audit, api, elsewhere, project)
    await world.publish(elsewhere.project_created(tenant="rival"), elsewhere.label(1, tenant="rival"))
    await eventually(lambda: rows_of(audit, "birds", "rival"), {"project": 1, "label": 1})
    beside = await rows_of(audit, "birds2")
    before = await api.GetCheckpoint(pb.GetCheckpointRequest())
    old = {entry.index: entry for entry in await entries_of(api)}

    await world.publish(deleted())
    await eventually(lambda: is_gone(audit))
    assert await rows_of(audit, "birds") == {}
    assert await rows_of(audit, "birds2") == beside
    assert await rows_of(audit, "birds", "rival") == {"project": 1, "label": 1}

    entries = await entries_of(api)
    records = [pb.LedgerRecord.FromString(entry.record) for entry in entries]
    [event] = [record for record in records if record.project == "birds"]
    assert event.event_type == ProjectDeleted.DESCRIPTOR.full_name
    erased = [entry for entry in entries if entry.HasField("erasure")]
    assert {entry.erasure.event_id for entry in erased} == {event.event_id}
    assert not any(entry.record for entry in erased)
    for entry in entries[: len(old)]:
        was = old[entry.index]
        of_birds = pb.LedgerRecord.FromString(was.record).project == "birds"
        assert entry.HasField("erasure") == of_birds
        assert entry.leaf_hash == was.leaf_hash
        assert of_birds or entry.record == was.record

    found = await api.VerifyLedger(pb.VerifyLedgerRequest())
    assert (found.intact, found.erased_entries, list(found.problems)) == (True, len(erased), [])
    head = await api.GetCheckpoint(pb.GetCheckpointRequest(min_size=len(entries)))
    keys = await api.GetLedgerKeys(pb.GetLedgerKeysRequest())
    key = offline.VerifierKey.parse(keys.keys[0].verifier_key)
    whole = [entry for entry in await entries_of(api) if entry.index < head.size]
    verified = offline.verify_entries(whole, [before.note, head.note], key)
    assert verified.erased == len(erased)
    event_id = await audit.database.fetchval(
        "SELECT event_id FROM ledger_entry WHERE tenant = 'acme' AND index = $1", erased[0].index
    )
    proof = await api.GetInclusionProof(
        pb.GetInclusionProofRequest(event_id=str(event_id), tree_size=head.size)
    )
    offline.verify_inclusion(
        proof.index, proof.tree_size, proof.entry.leaf_hash, list(proof.path), head.root_hash
    )
    rival = audit.stub(AuditServiceStub, tenant="rival")
    assert not any(entry.HasField("erasure") for entry in await entries_of(rival))


async def test_what_comes_late_has_its_place_in_the_ledger_and_no_other(
    world: World, audit: Service, api: Any, elsewhere: Elsewhere
) -> None:
    await world.publish(elsewhere.project_created(), elsewhere.label(1))
    await eventually(lambda: rows_of(audit, "birds"), {"project": 1, "label": 1})
    await world.publish(deleted())
    await eventually(lambda: is_gone(audit))
    await world.publish(elsewhere.label(2), elsewhere.project_created())
    await world.publish(elsewhere.label(3, project="fish"))

    async def erased() -> int:
        return sum(entry.HasField("erasure") for entry in await entries_of(api))

    await eventually(erased, 4)
    assert await rows_of(audit, "birds") == {}
    assert (await api.VerifyLedger(pb.VerifyLedgerRequest())).intact
    assert await audit.database.fetchval("SELECT count(*) FROM dead_letter") == 0


@pytest.mark.parametrize(
    "change",
    [
        "record = '', erased_at = now(), erased_for = gen_random_uuid()",  # for no entry of the ledger
        "record = '', erased_at = now(), erased_for = event_id",
        "leaf_hash = sha256('x'), record = '', erased_at = now(), erased_for = {other}",
        "erased_at = now(), erased_for = {other}",  # and the content stays
        "record = 'x'",
    ],
)
async def test_an_entry_allows_no_other_change(
    world: World, audit: Service, api: Any, elsewhere: Elsewhere, change: str
) -> None:
    await world.publish(elsewhere.label(1), elsewhere.label(2))
    await eventually(lambda: api.GetCheckpoint(pb.GetCheckpointRequest(min_size=2)))
    other = "(SELECT event_id FROM ledger_entry WHERE index = 1)"
    with pytest.raises(Exception, match=r"append-only|erased_is_empty"):
        await audit.database.execute(f"UPDATE ledger_entry SET {change.format(other=other)} WHERE index = 0")


async def test_content_that_was_erased_without_a_deletion_is_found(
    world: World, audit: Service, api: Any, elsewhere: Elsewhere
) -> None:
    await world.publish(elsewhere.label(1), elsewhere.label(2))
    await eventually(lambda: api.GetCheckpoint(pb.GetCheckpointRequest(min_size=2)))
    await audit.database.execute(
        "UPDATE ledger_entry SET record = '', erased_at = now(), "
        "erased_for = (SELECT event_id FROM ledger_entry WHERE index = 1) WHERE index = 0"
    )
    found = await api.VerifyLedger(pb.VerifyLedgerRequest())
    assert not found.intact
    assert "deleted no project" in found.problems[0]
