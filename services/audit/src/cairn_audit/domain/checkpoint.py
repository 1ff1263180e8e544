"""The ledger's signed head in the text formats of C2SP: a tlog-checkpoint in a signed-note, with Ed25519.

cairn/acme
1042
qINS1GRFhWHwdkUeqLEoP4yEMkTBBzxBkGwGQlVlVcs=

— cairn/acme Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from cairn_audit.domain.merkle import Hash

_ED25519 = b"\x01"
"""Signature type of signed-note for Ed25519."""
_DASH = "\u2014 "


@dataclass(frozen=True, slots=True)
class Head:
    """What a checkpoint says: the log's name, its number of entries, its root."""

    origin: str
    size: int
    root: Hash


@dataclass(frozen=True, slots=True)
class SignedHead:
    """A head with its note, as it is kept."""

    head: Head
    note: str
    key_id: str
    create_time: datetime


@dataclass(frozen=True, slots=True)
class LedgerPublicKey:
    """A key that signs or signed checkpoints, of every tenant of this installation."""

    public_key: bytes

    @property
    def key_id(self) -> str:
        """The key's id: the first 16 hex digits of the SHA-256 of the public key."""
        return hashlib.sha256(self.public_key).hexdigest()[:16]

    def verifier_key(self, origin: str) -> str:
        """The key as signed-note's verifier key for a log of this name: `<name>+<hash>+<base64>`."""
        return f"{origin}+{self.note_hash(origin).hex()}+{_base64(_ED25519 + self.public_key)}"

    def note_hash(self, origin: str) -> bytes:
        """The 4 bytes by which a note's signature line names this key."""
        return hashlib.sha256(origin.encode() + b"\n" + _ED25519 + self.public_key).digest()[:4]


class LedgerSigner:
    """The private key that signs checkpoints."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = LedgerPublicKey(key.public_key().public_bytes_raw())

    @classmethod
    def from_pem(cls, pem: bytes) -> LedgerSigner:
        """Read PKCS#8 PEM; raises ValueError when it is not an unencrypted Ed25519 private key."""
        try:
            key = load_pem_private_key(pem, password=None)
        except TypeError as error:
            raise ValueError("it is encrypted") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError("it is not an Ed25519 key")
        return cls(key)

    def sign(self, head: Head) -> str:
        """The signed note of a head."""
        text = body(head)
        signature = self.public.note_hash(head.origin) + self._key.sign(text.encode())
        return f"{text}\n{_DASH}{head.origin} {_base64(signature)}\n"


def origin_of(tenant: str) -> str:
    """The name of a tenant's ledger."""
    return f"cairn/{tenant}"


def body(head: Head) -> str:
    """The text that is signed."""
    return f"{head.origin}\n{head.size}\n{_base64(head.root)}\n"


def note_defect(head: Head, note: str, keys: Iterable[LedgerPublicKey]) -> str | None:
    """What is wrong with the note of a head, or None when one of the keys signed exactly this head."""
    text, separator, signatures = note.rpartition("\n\n")
    if not separator or text + "\n" != body(head):
        return "its note does not say what the checkpoint says"
    for line in signatures.splitlines():
        name, _, encoded = line.removeprefix(_DASH).partition(" ")
        try:
            signature = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            continue
        for key in keys:
            if name == head.origin and signature[:4] == key.note_hash(name):
                return None if _signed(key, signature[4:], body(head)) else "its signature is wrong"
    return "it is signed by no key of this ledger"


def _signed(key: LedgerPublicKey, signature: bytes, text: str) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key.public_key).verify(signature, text.encode())
    except InvalidSignature:
        return False
    return True


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")
