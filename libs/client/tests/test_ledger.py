"""Whoever holds the public key and a checkpoint finds any change of the ledger, without asking the service."""

from __future__ import annotations

import base64
import hashlib
import io

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cairn.audit.v1.audit_pb2 import LedgerEntry, LedgerErasure, LedgerRecord
from cairn_client.ledger import (
    CheckpointError,
    LedgerError,
    TreeHasher,
    VerifierKey,
    leaf_hash,
    open_checkpoint,
    open_note,
    read_entries,
    verify_entries,
    verify_file,
    verify_records,
    write_entries,
)

PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETERS_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)  # golang.org/x/mod/sumdb/note's example

PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEY = VerifierKey("cairn/acme", PRIVATE.public_key().public_bytes_raw())


def sign(text: str, private: Ed25519PrivateKey = PRIVATE, name: str = "cairn/acme") -> str:
    key = VerifierKey(name, private.public_key().public_bytes_raw())
    signature = base64.b64encode(key.hash + private.sign(text.encode())).decode()
    return f"{text}\n\u2014 {name} {signature}\n"


def checkpoint(entries: list[LedgerEntry], private: Ed25519PrivateKey = PRIVATE) -> str:
    tree = TreeHasher()
    for entry in entries:
        tree.add(leaf_hash(entry.record))
    return sign(f"cairn/acme\n{tree.size}\n{base64.b64encode(tree.root()).decode()}\n", private)


def entry(index: int, said: str | None = None, tenant: str = "acme") -> LedgerEntry:
    record = LedgerRecord(
        event_id=f"event-{index}", tenant=tenant, data=(said or f"event {index}").encode()
    ).SerializeToString()
    return LedgerEntry(index=index, record=record, leaf_hash=leaf_hash(record))


@pytest.fixture
def ledger() -> list[LedgerEntry]:
    return [entry(index) for index in range(11)]


@pytest.fixture
def note(ledger: list[LedgerEntry]) -> str:
    return checkpoint(ledger)


# --- what is right is accepted


def test_a_whole_ledger_is_accepted(ledger: list[LedgerEntry], note: str) -> None:
    verified = verify_entries(ledger, note, KEY)
    assert (verified.origin, verified.entries) == ("cairn/acme", 11)
    assert verify_records([e.record for e in ledger], note, KEY) == verified


def test_a_ledger_file_is_accepted(ledger: list[LedgerEntry], note: str) -> None:
    file = io.BytesIO()
    assert write_entries(file, ledger) == 11
    file.seek(0)
    assert verify_file(file, note, KEY).entries == 11


def test_an_empty_ledger_is_accepted() -> None:
    assert verify_entries([], checkpoint([]), KEY).root == hashlib.sha256(b"").digest()


def test_a_note_of_another_implementation_opens() -> None:
    assert open_note(PETERS_NOTE, [VerifierKey.parse(PETER)]).startswith("If you think")


def test_a_checkpoint_signed_before_a_rotation_opens_with_the_old_key(note: str) -> None:
    new = VerifierKey("cairn/acme", Ed25519PrivateKey.generate().public_key().public_bytes_raw())
    assert open_checkpoint(note, [new, KEY]).size == 11


def test_the_bare_public_key_of_a_stack_will_do(note: str) -> None:
    pem = PRIVATE.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert VerifierKey.of_tenant("acme", pem) == KEY == VerifierKey.of_tenant("acme", KEY.public_key)


# --- what is wrong is refused, and where it can be told, placed


def test_one_changed_byte_is_found_at_its_entry(ledger: list[LedgerEntry], note: str) -> None:
    damaged = bytearray(ledger[4].record)
    damaged[-1] ^= 1
    ledger[4].record = bytes(damaged)
    with pytest.raises(LedgerError, match="entry 4 was changed") as error:
        verify_entries(ledger, note, KEY)
    assert error.value.index == 4


def test_a_changed_byte_with_its_hash_covered_up_is_found(ledger: list[LedgerEntry], note: str) -> None:
    ledger[4] = entry(4, "something else")
    with pytest.raises(LedgerError, match="among entries 0 to 10"):
        verify_entries(ledger, note, KEY)
    with pytest.raises(LedgerError):
        verify_records([e.record for e in ledger], note, KEY)


def test_with_more_checkpoints_the_covered_up_entry_is_placed(ledger: list[LedgerEntry], note: str) -> None:
    notes = [note, checkpoint(ledger[:4]), checkpoint(ledger[:5])]
    ledger[4] = entry(4, "something else")
    with pytest.raises(LedgerError, match="among entries 4 to 4") as error:
        verify_entries(ledger, notes, KEY)
    assert error.value.index == 4


def test_a_dropped_entry_is_found(ledger: list[LedgerEntry], note: str) -> None:
    del ledger[3]
    with pytest.raises(LedgerError, match="entry 3 is missing") as error:
        verify_entries(ledger, note, KEY)
    assert error.value.index == 3


def test_two_swapped_entries_are_found(ledger: list[LedgerEntry], note: str) -> None:
    ledger[2], ledger[7] = ledger[7], ledger[2]
    with pytest.raises(LedgerError) as error:
        verify_entries(ledger, note, KEY)
    assert error.value.index == 2


def test_renumbering_does_not_hide_a_drop_or_a_swap(ledger: list[LedgerEntry], note: str) -> None:
    records = [e.record for e in ledger]
    dropped = records[:3] + records[4:]
    swapped = [*records[:2], records[3], records[2], *records[4:]]
    for forged in (dropped, swapped, [*records, records[0]]):
        with pytest.raises(LedgerError):
            verify_records(forged, note, KEY)


def test_a_truncated_ledger_is_found(ledger: list[LedgerEntry], note: str) -> None:
    with pytest.raises(LedgerError, match="cut off") as error:
        verify_entries(ledger[:-1], note, KEY)
    assert error.value.index == 10


def test_an_entry_that_nobody_signed_is_refused(ledger: list[LedgerEntry], note: str) -> None:
    with pytest.raises(LedgerError, match="entry 11 is beyond"):
        verify_entries([*ledger, entry(11)], note, KEY)


def test_another_tenants_entry_is_refused(ledger: list[LedgerEntry]) -> None:
    ledger[5] = entry(5, tenant="rival")
    with pytest.raises(LedgerError, match="'rival'"):
        verify_entries(ledger, checkpoint(ledger), KEY)


def test_a_wrong_key_is_refused(ledger: list[LedgerEntry], note: str) -> None:
    other = VerifierKey("cairn/acme", Ed25519PrivateKey.generate().public_key().public_bytes_raw())
    with pytest.raises(CheckpointError, match="not signed by the given key"):
        verify_entries(ledger, note, other)


def test_a_forged_checkpoint_is_refused(ledger: list[LedgerEntry], note: str) -> None:
    shorter = checkpoint(ledger[:10])
    forged = (
        shorter.partition("\n\n")[0] + "\n\n" + note.partition("\n\n")[2]
    )  # an honest signature, of another text
    with pytest.raises(CheckpointError, match="forged"):
        verify_entries(ledger[:10], forged, KEY)
    strangers = checkpoint(ledger, Ed25519PrivateKey.generate())
    with pytest.raises(CheckpointError):
        verify_entries(ledger, strangers, KEY)


def test_two_checkpoints_of_different_histories_cannot_both_hold(
    ledger: list[LedgerEntry], note: str
) -> None:
    fork = checkpoint([*ledger[:10], entry(10, "another end")])
    with pytest.raises(LedgerError):
        verify_entries(ledger, [note, fork], KEY)


@pytest.mark.parametrize(
    "text",
    [
        "cairn/acme\n11\n",
        "cairn/acme\n011\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
        "cairn/acme\n-1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
        "cairn/acme\n11\nAAAA\n",
        "cairn/rival\n11\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
    ],
)
def test_a_signed_text_that_is_no_checkpoint_of_this_log_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError):
        open_checkpoint(sign(text), KEY)


@pytest.mark.parametrize(
    "note", ["", "\n\n", "cairn/acme\n1\n", "a\n\n- b c\n", "a\n\n\u2014 b !!\n", "a\n\n\u2014 b\n"]
)
def test_what_is_no_note_is_refused(note: str) -> None:
    with pytest.raises(CheckpointError):
        open_note(note, [KEY])


@pytest.mark.parametrize("text", ["", "name", PETER[:-4], PETER.replace("c74f20a3", "c74f20a4"), "n+00+AAAA"])
def test_a_mistyped_key_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError):
        VerifierKey.parse(text)


def test_any_cut_of_a_ledger_file_is_found(ledger: list[LedgerEntry], note: str) -> None:
    file = io.BytesIO()
    write_entries(file, ledger)
    whole = file.getvalue()
    for length in range(len(whole)):
        with pytest.raises(LedgerError):
            verify_file(io.BytesIO(whole[:length]), note, KEY)


def test_any_changed_byte_of_a_ledger_file_is_found(ledger: list[LedgerEntry], note: str) -> None:
    file = io.BytesIO()
    write_entries(file, ledger)
    whole = file.getvalue()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0x15
        with pytest.raises(LedgerError):
            verify_file(io.BytesIO(bytes(damaged)), note, KEY)


def test_a_length_that_cannot_be_is_damage_not_a_large_read() -> None:
    with pytest.raises(LedgerError, match="damaged"):
        list(read_entries(io.BytesIO(b"\xff\xff\xff\xff\x7f" + b"x" * 100)))
    with pytest.raises(LedgerError, match="damaged"):
        list(read_entries(io.BytesIO(b"\xff" * 10)))


# --- what was erased with a deleted project


def deletion(index: int) -> LedgerEntry:
    record = LedgerRecord(
        event_id="deletion", event_type="cairn.events.v1.ProjectDeleted", tenant="acme", project="birds"
    ).SerializeToString()
    return LedgerEntry(index=index, record=record, leaf_hash=leaf_hash(record))


def erased(kept: LedgerEntry, event_id: str = "deletion") -> LedgerEntry:
    return LedgerEntry(index=kept.index, leaf_hash=kept.leaf_hash, erasure=LedgerErasure(event_id=event_id))


def test_of_erased_entries_the_place_is_proven_and_it_is_said_how_many(ledger: list[LedgerEntry]) -> None:
    ledger.append(deletion(11))
    note = checkpoint(ledger)
    ledger[3:6] = [erased(one) for one in ledger[3:6]]
    file = io.BytesIO()
    write_entries(file, ledger)
    file.seek(0)
    verified = verify_file(file, note, KEY)
    assert (verified.entries, verified.erased) == (12, 3)


def test_an_erased_entry_with_another_hash_does_not_have_the_root(ledger: list[LedgerEntry]) -> None:
    ledger.append(deletion(11))
    note = checkpoint(ledger)
    ledger[3] = erased(entry(3, "something else"))
    with pytest.raises(LedgerError, match="the root of the first 12 is wrong"):
        verify_entries(ledger, note, KEY)


@pytest.mark.parametrize("event_id", ["event-2", "deletion"])
def test_nothing_is_erased_but_by_a_deletion_in_the_same_ledger(
    ledger: list[LedgerEntry], event_id: str
) -> None:
    note = checkpoint(ledger)
    ledger[3] = erased(ledger[3], event_id)
    with pytest.raises(LedgerError, match="no deletion of a project") as error:
        verify_entries(ledger, note, KEY)
    assert error.value.index == 3


def test_what_says_to_be_erased_and_has_content_is_refused(ledger: list[LedgerEntry]) -> None:
    ledger.append(deletion(11))
    note = checkpoint(ledger)
    ledger[3].erasure.event_id = "deletion"
    with pytest.raises(LedgerError, match="says to be erased") as error:
        verify_entries(ledger, note, KEY)
    assert error.value.index == 3
