"""P6: history is kept whole, once, in order, and any change of it is found."""

from __future__ import annotations

import random
import threading
from contextlib import AbstractAsyncContextManager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import pytest

from cairn.audit.v1 import audit_pb2 as pb
from cairn.audit.v1.audit_pb2_grpc import AuditServiceStub
from cairn.events.v1.audit_events_pb2 import CheckpointSigned
from cairn_audit import ledger
from cairn_audit.domain import fsck
from cairn_audit.store import LedgerStore
from cairn_client import ledger as offline
from cairn_kit.errors import from_rpc_error
from cairn_kit.events.envelope import receive
from cairn_kit.rpc.server import StartError
from cairn_kit.testing import World, eventually

Service = Any
Elsewhere = Any


async def entries_of(api: Any, **request: int) -> list[pb.LedgerEntry]:
    return [entry async for part in api.ReadLedger(pb.ReadLedgerRequest(**request)) for entry in part.entries]


async def key_of(api: Any) -> offline.VerifierKey:
    keys = await api.GetLedgerKeys(pb.GetLedgerKeysRequest())
    return offline.VerifierKey.parse(keys.keys[0].verifier_key)


async def fill(
    world: World, service: Service, elsewhere: Elsewhere, count: int, tenant: str = "acme"
) -> None:
    """Publish so many labels, and wait until they are in the ledger."""
    await world.publish(*(elsewhere.label(i, tenant=tenant) for i in range(count)))
    await eventually(lambda: labels_in_ledger(service, tenant), count)


async def labels_in_ledger(service: Service, tenant: str = "acme") -> int:
    records = await service.database.fetch("SELECT record FROM ledger_entry WHERE tenant = $1", tenant)
    types = [pb.LedgerRecord.FromString(row["record"]).event_type for row in records]
    return types.count("cairn.events.v1.LabelFinalized")


async def tamper(service: Service, *statements: str) -> None:
    """Change rows behind the service's back, as whoever owns the database can."""
    async with service.database.transaction() as tx:
        for table in ("ledger_entry", "ledger_node", "checkpoint"):
            await tx.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        for statement in statements:
            await tx.execute(statement)


async def reason_of(call: Any) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return from_rpc_error(error.value).reason


# --- keeping


async def test_every_event_is_kept_exactly_as_it_was_sent(
    world: World, audit: Service, api: Any, elsewhere: Elsewhere
) -> None:
    everything = await world.listen()
    await world.publish(
        elsewhere.project_created(),
        elsewhere.label(1),
        elsewhere.review("projects/birds/items/1", elsewhere.says("wren")),
    )
    sent = {str(event.id): event for event in await everything.count(3)}
    await eventually(lambda: api.GetCheckpoint(pb.GetCheckpointRequest(min_size=3)))
    for entry in await entries_of(api):
        record = pb.LedgerRecord.FromString(entry.record)
        if (event := sent.get(record.event_id)) is None:
            continue  # announced by audit meanwhile
        assert record.data == event.body
        assert record.event_type == event.headers["ce-type"]
        assert record.time == event.headers["ce-time"]
        assert (record.source, record.subject) == (event.source, event.resource)
        assert (record.tenant, record.project) == ("acme", "birds")
        del sent[record.event_id]
    assert set(sent.values()) <= set(everything.events[3:])


async def test_duplicates_and_shuffles_leave_one_entry_each_without_gaps(
    world: World, audit: Service, api: Any, elsewhere: Elsewhere
) -> None:
    events = [elsewhere.label(i) for i in range(120)]
    random.Random(5).shuffle(events)
    await world.publish(*events, copies=3)
    await eventually(lambda: labels_in_ledger(audit), 120)
    await world.publish(elsewhere.label("last"))
    await eventually(lambda: labels_in_ledger(audit), 121)  # everything before it was seen, and ignored
    entries = await entries_of(api)
    assert [entry.index for entry in entries] == list(range(len(entries)))
    assert len({pb.LedgerRecord.FromString(entry.record).event_id for entry in entries}) == len(entries)


async def test_two_replicas_share_one_ledger_without_gaps(
    world: World, run: Any, elsewhere: Elsewhere
) -> None:
    async with run(consumer_batch=7) as one, run(consumer_batch=7):
        await fill(world, one, elsewhere, 200)
        api = one.stub(AuditServiceStub)
        checkpoint = await api.GetCheckpoint(pb.GetCheckpointRequest(min_size=200))
        entries = await entries_of(api, end=checkpoint.size)
        assert offline.verify_entries(entries, checkpoint.note, await key_of(api)).entries >= 200
        assert (await api.VerifyLedger(pb.VerifyLedgerRequest())).intact


async def test_an_event_that_comes_again_after_the_inbox_forgot_it_is_still_one_entry(
    world: World, audit: Service, api: Any, elsewhere: Elsewhere
) -> None:
    raw = await world.listen()
    await fill(world, audit, elsewhere, 3)
    await audit.database.execute("DELETE FROM inbox")
    first = (await raw.count(3))[0]
    await world.publish_raw([(first.subject, {**first.headers, "Nats-Msg-Id": "again"}, first.body)])
    await eventually(
        lambda: audit.database.fetchval("SELECT count(*) FROM inbox WHERE event_id = $1", first.id), 1
    )
    assert await labels_in_ledger(audit) == 3


async def test_an_event_of_a_type_that_this_version_does_not_know_is_kept(
    world: World, audit: Service, api: Any
) -> None:
    headers = {
        "ce-id": "01890a5d-ac96-774b-bcce-b302099a8057", "ce-type": "cairn.events.v2.Unheard",
        "ce-source": "/services/future", "ce-subject": "projects/birds/x/1", "ce-time": "2031-01-31T00:00:00+00:00",
        "cairn-tenant": "acme", "cairn-project": "birds", "cairn-revision": "1",
    }  # fmt: skip
    assert receive("any", headers, b"").type == "cairn.events.v2.Unheard"
    await world.publish_raw([("cairn.v1.acme.birds.x.unheard", headers, b"\xff\x00 no protobuf")])
    await eventually(lambda: api.GetCheckpoint(pb.GetCheckpointRequest(min_size=1)))
    record = pb.LedgerRecord.FromString((await entries_of(api, end=1))[0].record)
    assert (record.event_type, record.data) == ("cairn.events.v2.Unheard", b"\xff\x00 no protobuf")


async def test_each_tenant_has_a_ledger_of_its_own(
    world: World, audit: Service, api: Any, elsewhere: Elsewhere
) -> None:
    await fill(world, audit, elsewhere, 4)
    await fill(world, audit, elsewhere, 2, tenant="rival")
    rival = audit.stub(AuditServiceStub, tenant="rival")
    assert all(b"acme" not in entry.record for entry in await entries_of(rival))
    newcomer = audit.stub(AuditServiceStub, tenant="newcomer")
    assert await entries_of(newcomer) == []
    record = pb.LedgerRecord.FromString((await entries_of(api))[0].record)
    assert await reason_of(
        rival.GetInclusionProof(pb.GetInclusionProofRequest(event_id=record.event_id))
    ) == ("EVENT_NOT_FOUND")


# --- signing


async def test_the_ledger_is_signed_as_it_grows_and_then_left_alone(
    world: World, audit: Service, api: Any, elsewhere: Elsewhere
) -> None:
    signed = await world.listen(CheckpointSigned)
    await fill(world, audit, elsewhere, 10)
    await signed.until(lambda events: bool(events) and events[-1].message.checkpoint.size >= 10)
    # Its own announcement becomes an entry, and must not be announced again in turn.
    await eventually(lambda: unsigned_entries(audit), 1)
    count = len(signed.events)
    newest = await api.GetCheckpoint(pb.GetCheckpointRequest())
    for _ in range(3):
        await audit.chassis.database.fetchval("SELECT 1")
        assert (await api.GetCheckpoint(pb.GetCheckpointRequest())).note == newest.note
    assert len(signed.events) == count
    assert newest == signed.events[-1].message.checkpoint


async def unsigned_entries(service: Service) -> int:
    return int(
        await service.database.fetchval(
            "SELECT size - (SELECT max(size) FROM checkpoint) FROM ledger_head WHERE tenant = 'acme'"
        )
    )


async def test_an_offline_verifier_accepts_the_whole_ledger(
    world: World, audit: Service, api: Any, elsewhere: Elsewhere
) -> None:
    await fill(world, audit, elsewhere, 700)
    checkpoint = await api.GetCheckpoint(pb.GetCheckpointRequest(min_size=700))
    entries = await entries_of(api, end=checkpoint.size)
    verified = offline.verify_entries(entries, checkpoint.note, await key_of(api))
    assert (verified.origin, verified.entries, verified.root) == (
        "cairn/acme", checkpoint.size, checkpoint.root_hash
    )  # fmt: skip
    assert await entries_of(api, start=690, end=695) == entries[690:695]
    server = await api.VerifyLedger(pb.VerifyLedgerRequest())
    assert server.intact, server.problems
    assert server.entries >= 700


async def test_every_event_can_be_proven_and_every_head_continues_the_one_before(
    world: World, audit: Service, api: Any, elsewhere: Elsewhere
) -> None:
    for count in (3, 10, 21):
        await world.publish(*(elsewhere.label(i, revision=count) for i in range(count)))
        await eventually(partial(api.GetCheckpoint, pb.GetCheckpointRequest(min_size=count)))
    newest = await api.GetCheckpoint(pb.GetCheckpointRequest())
    for entry in await entries_of(api, end=newest.size):
        event_id = pb.LedgerRecord.FromString(entry.record).event_id
        proof = await api.GetInclusionProof(
            pb.GetInclusionProofRequest(event_id=event_id, tree_size=newest.size)
        )
        assert (proof.index, proof.entry) == (entry.index, entry)
        offline.verify_inclusion(
            proof.index, proof.tree_size, offline.leaf_hash(entry.record), proof.path, newest.root_hash
        )
    heads = []
    request = pb.ListCheckpointsRequest(page_size=1)
    while True:
        page = await api.ListCheckpoints(request)
        heads += page.checkpoints
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert len(heads) > 1
    assert [head.size for head in heads] == sorted((head.size for head in heads), reverse=True)
    for later, earlier in pairwise(heads):
        proof = await api.GetConsistencyProof(
            pb.GetConsistencyProofRequest(first_size=earlier.size, second_size=later.size)
        )
        offline.verify_consistency(earlier.size, later.size, proof.path, earlier.root_hash, later.root_hash)


async def test_checkpoints_of_an_old_key_stay_verifiable_after_a_rotation(
    world: World, run: Any, another_ledger_key: Path, elsewhere: Elsewhere
) -> None:
    async with run() as service:
        api = service.stub(AuditServiceStub)
        await fill(world, service, elsewhere, 3)
        old = await api.GetCheckpoint(pb.GetCheckpointRequest(min_size=3))
    async with run(ledger_key_file=another_ledger_key) as service:
        api = service.stub(AuditServiceStub)
        await world.publish(elsewhere.label("new"))
        await eventually(lambda: labels_in_ledger(service), 4)
        new = await api.GetCheckpoint(pb.GetCheckpointRequest(min_size=old.size + 1))
        keys = (await api.GetLedgerKeys(pb.GetLedgerKeysRequest())).keys
        using, former = (offline.VerifierKey.parse(key.verifier_key) for key in keys)
        assert offline.open_checkpoint(new.note, using).size == new.size
        assert offline.open_checkpoint(old.note, former).size == old.size
        with pytest.raises(offline.CheckpointError):
            offline.open_checkpoint(new.note, former)
        assert (await api.VerifyLedger(pb.VerifyLedgerRequest())).intact


@pytest.mark.parametrize(
    ("mode", "content", "sentence"),
    [
        (None, b"", "is missing"),
        (0o644, None, "may be read by others"),
        (0o600, b"no key", "is not an unencrypted Ed25519 private key"),
    ],
)
async def test_without_a_proper_key_the_service_refuses_to_start_with_a_plain_sentence(
    world: World, run: Any, ledger_key: Path, mode: int | None, content: bytes | None, sentence: str
) -> None:
    _spoil(ledger_key, mode, content)
    start: AbstractAsyncContextManager[Any] = run()
    with pytest.raises(StartError, match=sentence):
        await start.__aenter__()


def _spoil(key: Path, mode: int | None, content: bytes | None) -> None:
    if mode is None:
        key.unlink()
    else:
        key.write_bytes(content if content is not None else key.read_bytes())
        key.chmod(mode)


# --- what cannot be had


async def test_what_the_ledger_does_not_have_is_refused_with_a_reason(api: Any) -> None:
    unknown = "01890a5d-ac96-774b-bcce-b302099a8057"
    for method, request, reason in (
        (api.GetCheckpoint, pb.GetCheckpointRequest(min_size=10_000), "LEDGER_TOO_SHORT"),
        (api.GetInclusionProof, pb.GetInclusionProofRequest(event_id="not-an-id"), "EVENT_ID_INVALID"),
        (api.GetInclusionProof, pb.GetInclusionProofRequest(event_id=unknown), "EVENT_NOT_FOUND"),
        (api.GetConsistencyProof, _sizes(9, 4), "SIZES_REVERSED"),
        (api.GetConsistencyProof, _sizes(9_000, 0), "LEDGER_TOO_SHORT"),
        (api.GetConsistencyProof, _sizes(1, 9_000), "LEDGER_TOO_SHORT"),
    ):
        assert await reason_of(method(request)) == reason
    assert (
        await reason_of(anext(aiter(api.ReadLedger(pb.ReadLedgerRequest(end=9_000))))) == "LEDGER_TOO_SHORT"
    )


def _sizes(first: int, second: int) -> pb.GetConsistencyProofRequest:
    return pb.GetConsistencyProofRequest(first_size=first, second_size=second)


# --- tampering


async def test_the_schema_refuses_to_change_history_and_to_leave_gaps(
    world: World, audit: Service, elsewhere: Elsewhere
) -> None:
    await fill(world, audit, elsewhere, 3)
    for statement in (
        "UPDATE ledger_entry SET record = 'x'",
        "DELETE FROM ledger_entry",
        "TRUNCATE ledger_entry",
        "UPDATE ledger_node SET hash = sha256('x')",
        "DELETE FROM checkpoint",
        "UPDATE checkpoint SET note = 'x'",
        "DELETE FROM ledger_key",
        "INSERT INTO ledger_entry VALUES ('acme', 1000, gen_random_uuid(), 'x', sha256('x'))",
        "INSERT INTO ledger_entry VALUES ('fresh', 1, gen_random_uuid(), 'x', sha256('x'))",
    ):
        with pytest.raises(Exception, match=r"append-only|would have a gap"):
            await audit.database.execute(statement)


LEAF = "sha256('\\x00'::bytea || record)"


TAMPERING = {
    "changed-byte": (
        ["UPDATE ledger_entry SET record = set_byte(record, 20, 1) WHERE {it} AND index = 4"],
        "entry 4 was changed",
    ),
    "changed-byte-and-hash": (
        [
            "UPDATE ledger_entry SET record = set_byte(record, 60, 1) WHERE {it} AND index = 4",
            f"UPDATE ledger_entry SET leaf_hash = {LEAF} WHERE {{it}} AND index = 4",
        ],
        "node 2 of level 1 is wrong",
    ),
    "dropped": (["DELETE FROM ledger_entry WHERE {it} AND index = 4"], "entry 4 is missing"),
    "swapped": (
        [
            "UPDATE ledger_entry SET index = 999 WHERE {it} AND index = 4",
            "UPDATE ledger_entry SET index = 4 WHERE {it} AND index = 5",
            "UPDATE ledger_entry SET index = 5 WHERE {it} AND index = 999",
        ],
        "node 2 of level 1 is wrong",
    ),
    "cut-off": (
        ["DELETE FROM ledger_entry WHERE {it} AND index >= 6", "DELETE FROM ledger_node WHERE {it}"],
        "is cut off",
    ),
    "changed-node": (
        ["UPDATE ledger_node SET hash = sha256('x') WHERE {it} AND level = 2 AND index = 0"],
        "node 0 of level 2 is wrong",
    ),
    "dropped-node": (
        ["DELETE FROM ledger_node WHERE {it} AND level = 1 AND index = 1"],
        "node 1 of level 1 is missing",
    ),
    "changed-root": (
        ["UPDATE checkpoint SET root_hash = sha256('x') WHERE {it}"],
        "its note does not say what the checkpoint says",
    ),
    "changed-signature": (
        ["UPDATE checkpoint SET note = overlay(note placing 'AAAA' from length(note) - 40) WHERE {it}"],
        "its signature is wrong",
    ),
}


async def test_whatever_is_changed_in_the_database_is_found(
    world: World, audit: Service, elsewhere: Elsewhere
) -> None:
    """Each kind of tampering in a tenant of its own."""
    await world.publish(*(elsewhere.label(i, tenant=tenant) for tenant in TAMPERING for i in range(8)))
    for tenant, (statements, problem) in TAMPERING.items():
        await eventually(partial(labels_in_ledger, audit, tenant), 8)
        api = audit.stub(AuditServiceStub, tenant=tenant)
        before = await api.GetCheckpoint(pb.GetCheckpointRequest(min_size=8))
        assert (await api.VerifyLedger(pb.VerifyLedgerRequest())).intact
        await tamper(audit, *(statement.format(it=f"tenant = '{tenant}'") for statement in statements))
        found = await api.VerifyLedger(pb.VerifyLedgerRequest())
        assert not found.intact
        assert any(problem in told for told in found.problems), found.problems
        if tenant in ("changed-node", "dropped-node", "changed-root", "changed-signature"):
            continue  # the entries are as they were: for whoever kept the old note, nothing has happened
        entries = await rows_of(audit, tenant)
        with pytest.raises(offline.LedgerError):
            offline.verify_entries(entries[: before.size], before.note, await key_of(api))


async def test_a_ledger_is_checked_beside_the_calls_and_a_few_checkpoints_at_a_time(
    world: World, audit: Service, api: Any, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signature takes a third of a millisecond to check, and a ledger gets 17,000 a day."""
    # given a ledger of several checkpoints, the first of them when it was empty
    empty = await api.GetCheckpoint(pb.GetCheckpointRequest())
    for count in range(1, 7):
        await world.publish(elsewhere.label(count))
        await eventually(lambda count=count: labels_in_ledger(audit), count)
        head = await api.GetCheckpoint(pb.GetCheckpointRequest(min_size=count))
    assert empty.size == 0
    assert head.size >= 6
    # when all is checked, two entries at a time
    monkeypatch.setattr(ledger, "_CHUNK_ENTRIES", 2)
    note_defect, between = fsck.note_defect, LedgerStore.checkpoints_between
    threads, at_once = list[int](), list[int]()

    def noting(*arguments: Any) -> Any:
        threads.append(threading.get_ident())
        return note_defect(*arguments)

    async def counted(*arguments: Any) -> Any:
        found = await between(*arguments)
        at_once.append(len(found))
        return found

    monkeypatch.setattr(fsck, "note_defect", noting)
    monkeypatch.setattr(LedgerStore, "checkpoints_between", counted)
    found = await api.VerifyLedger(pb.VerifyLedgerRequest())
    # then every checkpoint was looked at, and none by whoever answers calls
    assert found.intact, found.problems
    assert found.checkpoints == len(threads) == sum(at_once) >= 7
    assert max(at_once) <= 2
    assert threading.get_ident() not in threads

    # and when it is cut off, once every checkpoint's announcement is an entry too
    unheard = "SELECT 6 + (SELECT count(*) FROM checkpoint) - (SELECT count(*) FROM ledger_entry)"
    await eventually(lambda: audit.database.fetchval(unheard), 0)
    await tamper(
        audit,
        "UPDATE checkpoint SET note = overlay(note placing 'AAAA' from length(note) - 40) WHERE size = 0",
        "DELETE FROM ledger_entry WHERE index >= 1",
        "DELETE FROM ledger_node",
    )
    problems = (await api.VerifyLedger(pb.VerifyLedgerRequest())).problems
    assert "checkpoint 0: its signature is wrong" in problems
    assert f"checkpoint {head.size}: the ledger is cut off after 1 entries" in problems


async def rows_of(service: Service, tenant: str) -> list[pb.LedgerEntry]:
    """The entries as whoever has the database can hand them out."""
    rows = await service.database.fetch("SELECT * FROM ledger_entry WHERE tenant = $1 ORDER BY index", tenant)
    return [
        pb.LedgerEntry(index=row["index"], record=row["record"], leaf_hash=row["leaf_hash"]) for row in rows
    ]


async def test_a_ledger_that_was_changed_is_not_signed_again(
    world: World, audit: Service, api: Any, elsewhere: Elsewhere
) -> None:
    await fill(world, audit, elsewhere, 8)
    await api.GetCheckpoint(pb.GetCheckpointRequest(min_size=8))
    await tamper(audit, "UPDATE ledger_node SET hash = sha256('x') WHERE level = 3 AND index = 0")
    await world.publish(elsewhere.label("next"))
    await eventually(lambda: labels_in_ledger(audit), 9)
    assert await reason_of(api.GetCheckpoint(pb.GetCheckpointRequest())) == "LEDGER_DAMAGED"


async def test_a_damaged_ledger_keeps_no_other_tenants_from_being_signed_and_is_counted(
    world: World, audit: Service, api: Any, elsewhere: Elsewhere
) -> None:
    await fill(world, audit, elsewhere, 8, tenant="aaa")  # the first in the order of signing
    first = audit.stub(AuditServiceStub, tenant="aaa")
    await first.GetCheckpoint(pb.GetCheckpointRequest(min_size=8))
    await tamper(audit, "UPDATE ledger_node SET hash = sha256('x') WHERE level = 3 AND index = 0")
    await world.publish(elsewhere.label("next", tenant="aaa"))
    failures = audit.chassis.metrics.background_failures.labels("sign checkpoints")
    await eventually(lambda: failures._value.get() >= 1)

    signed = await world.listen(CheckpointSigned)
    await fill(world, audit, elsewhere, 8)
    await signed.until(
        lambda heard: any(event.tenant == "acme" and event.message.checkpoint.size >= 8 for event in heard)
    )


async def test_a_whole_ledger_rebuilt_by_whoever_owns_the_database_needs_the_private_key_too(
    world: World, audit: Service, api: Any, elsewhere: Elsewhere
) -> None:
    """Entries, hashes and nodes can all be forged alike; the signed head cannot."""
    await fill(world, audit, elsewhere, 2)
    kept = await api.GetCheckpoint(pb.GetCheckpointRequest(min_size=2))
    await tamper(
        audit,
        "UPDATE ledger_entry SET record = set_byte(record, 60, 1) WHERE index = 0",
        f"UPDATE ledger_entry SET leaf_hash = {LEAF} WHERE index = 0",
        "UPDATE ledger_node SET hash = (SELECT sha256('\\x01'::bytea || a.leaf_hash || b.leaf_hash) FROM ledger_entry a, "
        "ledger_entry b WHERE a.index = 0 AND b.index = 1) WHERE level = 1 AND index = 0",
    )
    entries = await entries_of(api)
    with pytest.raises(offline.LedgerError):
        offline.verify_entries(entries[: kept.size], kept.note, await key_of(api))
