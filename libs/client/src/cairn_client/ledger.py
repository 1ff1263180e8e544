"""The offline verifier: whether a ledger is what its signed checkpoint says, with nothing but a public key.

It trusts neither the service nor its database, and shares no code with them: hashes, proofs and note format are
written here once more, from RFC 6962 / RFC 9162 (tree, proofs) and C2SP signed-note / tlog-checkpoint
(signature). It reads the streams it is given and does no other I/O.

A ledger file is a run of `LedgerEntry` messages, each after its length as a varint; its checkpoint note lies
beside it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from google.protobuf.message import DecodeError

from cairn.audit.v1.audit_pb2 import LedgerEntry, LedgerRecord

_ED25519 = 1
_DELETION = "cairn.events.v1.ProjectDeleted"
_SIGNATURE_MARK = "\u2014 "
_LARGEST_ENTRY = 16 * 1024 * 1024
"""A length above this is damage, not an entry: events are below 256 KiB."""


class LedgerError(Exception):
    """The ledger, or what was shown of it, is not what it should be.

    `index` is the first wrong entry where that can be told, else None.
    """

    def __init__(self, message: str, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index


class CheckpointError(LedgerError):
    """A checkpoint note is malformed, or not signed by the key."""


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key with the name of the log it signs for."""

    name: str
    public_key: bytes

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """Read `<name>+<hash>+<base64>`, as `GetLedgerKeys` gives it; raises CheckpointError."""
        name, _, rest = text.strip().partition("+")
        hashed, _, encoded = rest.partition("+")
        material = _unbase64(encoded)
        if not name or material is None or len(material) != 33 or material[0] != _ED25519:
            raise CheckpointError(f"{text!r} is not a verifier key of the form name+hash+base64 for Ed25519")
        key = cls(name, material[1:])
        if key.hash.hex() != hashed:
            raise CheckpointError(
                f"the hash in the verifier key of {name} does not fit the key: it was mistyped"
            )
        return key

    @classmethod
    def of_tenant(cls, tenant: str, public_key: bytes) -> VerifierKey:
        """The key of a tenant's ledger from a bare public key: PEM, or the 32 bytes; raises CheckpointError."""
        if len(public_key) != 32:
            try:
                loaded = load_pem_public_key(public_key)
            except ValueError as error:
                raise CheckpointError(f"the public key is neither PEM nor 32 bytes: {error}") from None
            if not isinstance(loaded, Ed25519PublicKey):
                raise CheckpointError("the public key is not an Ed25519 key")
            public_key = loaded.public_bytes_raw()
        return cls(f"cairn/{tenant}", public_key)

    @property
    def hash(self) -> bytes:
        """The 4 bytes by which a signature names this key."""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([_ED25519]) + self.public_key).digest()[:4]


@dataclass(frozen=True, slots=True)
class SignedHead:
    """What a checkpoint whose signature was checked says."""

    origin: str
    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class Verified:
    """What has been shown: these many entries, in this order, with these bytes, and no others.

    Of `erased` of them the bytes are gone, with their deleted projects: shown is that something stood in each of these
    places, unchanged until it was erased, and not what it was.
    """

    origin: str
    entries: int
    root: bytes
    erased: int = 0


# --- checkpoints


def open_note(note: str, keys: Sequence[VerifierKey]) -> str:
    """The text of a signed note, with its last newline; raises CheckpointError unless a known key signed it.

    A bad signature under the name and hash of a known key is refused, whatever else has signed.
    """
    text, separator, signatures = note.rpartition("\n\n")
    if not separator or not signatures.endswith("\n"):
        raise CheckpointError(
            "the checkpoint is no signed note: expected text, an empty line, and signatures"
        )
    text += "\n"
    known = {(key.name, key.hash): key for key in keys}
    signers = 0
    for line in signatures.splitlines():
        name, raw = _signature_line(line)
        key = known.get((name, raw[:4]))
        if key is None:
            continue
        try:
            Ed25519PublicKey.from_public_bytes(key.public_key).verify(raw[4:], text.encode())
        except (InvalidSignature, ValueError):
            raise CheckpointError(
                f"the checkpoint's signature by {name} is wrong: it is forged or damaged"
            ) from None
        signers += 1
    if not signers:
        raise CheckpointError("the checkpoint is not signed by the given key")
    return text


def open_checkpoint(note: str, keys: VerifierKey | Sequence[VerifierKey]) -> SignedHead:
    """What a checkpoint says, once a given key is known to have signed it; raises CheckpointError."""
    trusted = [keys] if isinstance(keys, VerifierKey) else list(keys)
    lines = open_note(note, trusted).split("\n")
    if len(lines) < 4 or not lines[0]:
        raise CheckpointError("the checkpoint does not hold origin, size and root, each on a line")
    origin, size, encoded = lines[:3]
    root = _unbase64(encoded)
    if not size.isascii() or not size.isdigit() or (size != "0" and size.startswith("0")):
        raise CheckpointError(f"the checkpoint's size is {size!r}, not a number")
    if root is None or len(root) != 32:
        raise CheckpointError("the checkpoint's root is not a SHA-256 in base64")
    if origin not in {key.name for key in trusted}:
        raise CheckpointError(f"the checkpoint is of the log {origin}, for which no key was given")
    return SignedHead(origin, int(size), root)


def _signature_line(line: str) -> tuple[str, bytes]:
    name, _, encoded = line.removeprefix(_SIGNATURE_MARK).partition(" ")
    raw = _unbase64(encoded)
    if not line.startswith(_SIGNATURE_MARK) or not name or raw is None or len(raw) < 5:
        raise CheckpointError("the checkpoint has a malformed signature line")
    return name, raw


def _unbase64(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


# --- the tree


def leaf_hash(record: bytes) -> bytes:
    """SHA-256 of 0x00 and the record (RFC 6962, 2.1)."""
    return hashlib.sha256(b"\x00" + record).digest()


def _parent(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


class TreeHasher:
    """The Merkle root of leaves that come one after the other, in memory that grows with their logarithm."""

    def __init__(self) -> None:
        self.size = 0
        self._subtrees: list[tuple[int, bytes]] = []  # (leaves, hash), from the left, sizes falling

    def add(self, leaf: bytes) -> None:
        """Append a leaf hash."""
        self._subtrees.append((1, leaf))
        while len(self._subtrees) > 1 and self._subtrees[-1][0] == self._subtrees[-2][0]:
            leaves, right = self._subtrees.pop()
            _, left = self._subtrees.pop()
            self._subtrees.append((2 * leaves, _parent(left, right)))
        self.size += 1

    def root(self) -> bytes:
        """The Merkle tree hash of all leaves so far."""
        if not self._subtrees:
            return hashlib.sha256(b"").digest()
        hashed = self._subtrees[-1][1]
        for _, left in reversed(self._subtrees[:-1]):
            hashed = _parent(left, hashed)
        return hashed


def verify_inclusion(index: int, size: int, leaf: bytes, path: Sequence[bytes], root: bytes) -> None:
    """Check that a leaf hash is at `index` of the tree of `size` with this root (RFC 9162, 2.1.3.2).

    Raises LedgerError when the proof does not show it.
    """
    if not 0 <= index < size:
        raise LedgerError(f"a ledger of {size} entries has no entry {index}", index)
    place, last, hashed = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            raise LedgerError(f"the inclusion proof of entry {index} is too long", index)
        if place & 1 or place == last:
            hashed = _parent(sibling, hashed)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            hashed = _parent(hashed, sibling)
        place, last = place >> 1, last >> 1
    if last != 0:
        raise LedgerError(f"the inclusion proof of entry {index} is too short", index)
    if hashed != root:
        raise LedgerError(f"entry {index} is not in the ledger with this root", index)


def verify_consistency(
    first: int, second: int, path: Sequence[bytes], first_root: bytes, second_root: bytes
) -> None:
    """Check that the tree of size `first` is the beginning of that of size `second` (RFC 9162, 2.1.4.2).

    Raises LedgerError when the proof does not show it: the log may have shown two histories.
    """
    forked = LedgerError(f"the ledger of {second} entries does not continue the one of {first}")
    if not 0 <= first <= second:
        raise LedgerError(f"a ledger of {first} entries cannot be the beginning of one of {second}")
    if first in (0, second):
        same = first_root == (second_root if first else hashlib.sha256(b"").digest())
        if path or not same:
            raise forked
        return
    hashes = list(path) if first & (first - 1) else [first_root, *path]
    if not hashes:
        raise LedgerError("the consistency proof is empty")
    place, last = first - 1, second - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    old = new = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            raise LedgerError("the consistency proof is too long")
        if place & 1 or place == last:
            old, new = _parent(sibling, old), _parent(sibling, new)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            new = _parent(new, sibling)
        place, last = place >> 1, last >> 1
    if last != 0:
        raise LedgerError("the consistency proof is too short")
    if old != first_root or new != second_root:
        raise forked


# --- whole ledgers


def verify_records(
    records: Iterable[bytes], notes: str | Sequence[str], keys: VerifierKey | Sequence[VerifierKey]
) -> Verified:
    """Check a whole ledger given as the exact bytes of its records, in order. See `verify_entries`."""
    entries = (
        LedgerEntry(index=index, record=record, leaf_hash=leaf_hash(record))
        for index, record in enumerate(records)
    )
    return verify_entries(entries, notes, keys)


def verify_entries(
    entries: Iterable[LedgerEntry], notes: str | Sequence[str], keys: VerifierKey | Sequence[VerifierKey]
) -> Verified:
    """Check a whole ledger, from entry 0, against one signed checkpoint or several.

    Raises LedgerError, with the first wrong index where it can be told: each entry must have its place and the
    hash of its bytes; and the tree must have the root of each checkpoint at its size, so that with more
    checkpoints a change that was covered up can be told more narrowly. Entries after the last checkpoint are
    refused: nobody signed them. The content of an entry may have been erased, for a `ProjectDeleted` that must be among
    the entries: its hash then proves the place alone, and `Verified.erased` says of how many.
    """
    heads = sorted(
        {open_checkpoint(note, keys) for note in ([notes] if isinstance(notes, str) else notes)},
        key=lambda head: head.size,
    )
    if not heads:
        raise CheckpointError("no checkpoint was given")
    newest, tree, sound = heads[-1], TreeHasher(), 0
    waiting = list(heads)
    erasures = _Erasures()
    for entry in entries:
        sound = _settle(waiting, tree, sound)
        _check_place(entry, tree.size, newest)
        if entry.HasField("erasure"):
            erasures.add(entry)
        else:
            erasures.hear_of(_checked_record(entry, newest))
        tree.add(entry.leaf_hash)
    if tree.size < newest.size:
        raise LedgerError(
            f"the ledger is cut off: the checkpoint has {newest.size} entries, here are {tree.size}",
            tree.size,
        )
    _settle(waiting, tree, sound)
    return Verified(newest.origin, tree.size, newest.root, erasures.checked())


class _Erasures:
    """Entries without content, and the deletions that may have erased them."""

    def __init__(self) -> None:
        self._first: dict[str, int] = {}
        self._deletions: set[str] = set()
        self._count = 0

    def add(self, entry: LedgerEntry) -> None:
        """An entry that says to be erased."""
        if entry.record or len(entry.leaf_hash) != 32:
            raise LedgerError(f"entry {entry.index} says to be erased, and is not", entry.index)
        self._count += 1
        self._first.setdefault(entry.erasure.event_id, entry.index)

    def hear_of(self, record: LedgerRecord) -> None:
        """An entry that may tell of a deletion."""
        if record.event_type == _DELETION:
            self._deletions.add(record.event_id)

    def checked(self) -> int:
        """How many were erased; raises LedgerError for one that no deletion erased."""
        for event_id, place in self._first.items():
            if event_id not in self._deletions:
                raise LedgerError(
                    f"entry {place} was erased for the event {event_id}, which is no deletion of a project among these "
                    "entries; if it came after them, check against a newer checkpoint",
                    place,
                )
        return self._count


def _settle(waiting: list[SignedHead], tree: TreeHasher, sound: int) -> int:
    """Check the checkpoints of exactly this size; returns the size up to which the ledger is known right."""
    while waiting and waiting[0].size == tree.size:
        head = waiting.pop(0)
        if tree.root() != head.root:
            between = f"among entries {sound} to {head.size - 1}" if head.size else "in an empty ledger"
            raise LedgerError(
                f"the entries are not those that were signed: the root of the first {head.size} is wrong, "
                f"so one {between} was changed, dropped, added or moved",
                sound if head.size - sound == 1 else None,
            )
        sound = head.size
    return sound


def _check_place(entry: LedgerEntry, place: int, newest: SignedHead) -> None:
    if entry.index != place:
        raise LedgerError(f"entry {place} is missing or moved: entry {entry.index} is in its place", place)
    if place >= newest.size:
        raise LedgerError(f"entry {place} is beyond the {newest.size} entries that were signed", place)


def _checked_record(entry: LedgerEntry, newest: SignedHead) -> LedgerRecord:
    place = entry.index
    if entry.leaf_hash != leaf_hash(entry.record):
        raise LedgerError(f"entry {place} was changed: its bytes do not have its hash", place)
    try:
        record = LedgerRecord.FromString(entry.record)
    except DecodeError:
        raise LedgerError(f"entry {place} is no ledger record", place) from None
    if newest.origin != f"cairn/{record.tenant}":
        raise LedgerError(
            f"entry {place} is of the tenant {record.tenant!r}, in the ledger {newest.origin}", place
        )
    return record


# --- ledger files


def write_entries(stream: BinaryIO, entries: Iterable[LedgerEntry]) -> int:
    """Write entries, each after its length as a varint; returns how many."""
    count = 0
    for entry in entries:
        encoded = entry.SerializeToString()
        stream.write(_varint(len(encoded)) + encoded)
        count += 1
    return count


def read_entries(stream: BinaryIO) -> Iterator[LedgerEntry]:
    """Read what `write_entries` wrote; raises LedgerError where the file is cut off or damaged."""
    place = 0
    while (length := _read_varint(stream, place)) is not None:
        encoded = stream.read(length) if length <= _LARGEST_ENTRY else b""
        if len(encoded) != length:
            raise LedgerError(f"the ledger file is cut off or damaged in entry {place}", place)
        try:
            yield LedgerEntry.FromString(encoded)
        except DecodeError:
            raise LedgerError(f"entry {place} of the ledger file cannot be read", place) from None
        place += 1


def verify_file(
    stream: BinaryIO, notes: str | Sequence[str], keys: VerifierKey | Sequence[VerifierKey]
) -> Verified:
    """Check a ledger file against its checkpoint. See `verify_entries`."""
    return verify_entries(read_entries(stream), notes, keys)


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _read_varint(stream: BinaryIO, place: int) -> int | None:
    """A length, or None at the end of the file."""
    number = 0
    for shift in range(0, 35, 7):
        byte = stream.read(1)
        if not byte:
            if shift:
                raise LedgerError(f"the ledger file is cut off before entry {place}", place)
            return None
        number |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return number
    raise LedgerError(f"the ledger file is damaged before entry {place}", place)
