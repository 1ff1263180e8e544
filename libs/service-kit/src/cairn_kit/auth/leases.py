"""Lease tokens: dispatch's signed statement of who may answer what until when; the store checks it alone.

They have the three parts of a JWS (RFC 7515): header, claims, and a proof. Leases that are given together are signed
together (`signature_tree`): to sign one and to check it alone is a third of all that both services do for an answer, and
a machine takes dozens at a time. So the proof is 64 bytes of Ed25519 over the root of a tree, then the way there.
"""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cairn_kit.auth.keys import PrivateKey, PublicKeys, VerifyingKey
from cairn_kit.auth.signature_tree import MOST_LEAVES, root_of, tree_of
from cairn_kit.errors import FailedPrecondition, PermissionDenied

LEASE_TYPE = "cairn-lease"
LEASE_ALGORITHM = "Ed25519-tree"
LEASE_AUDIENCE = "annotation-store"
LEASE_ISSUER_KEY = "service-task-dispatch-"
LEEWAY = 5.0
_SIGNED = b"cairn leases\0"
"""What is signed begins so, and nothing else that this key signs does."""

_SIGNATURE_BYTES = 64
_REMEMBERED = 10_000
"""Tokens, of some 1.5 KB with what they say. Most come twice: for the item, and with the answer. And signatures."""

Kind = Literal["LABEL", "GOLD", "REVIEW"]


@dataclass(frozen=True, slots=True)
class LeaseClaims:
    """What a lease says. Ids, not resource names, except the labeler (`labelers/{labeler}`)."""

    tenant: str
    project: str
    item: str
    task: str
    lease: str
    labeler: str
    kind: Kind
    expires_at: float
    """Seconds since the epoch, by the database's clock."""
    audit: str = ""
    """`projects/{project}/audits/{audit}` for a review that an audit asked for."""


class LeaseSigner:
    """Signs leases with task-dispatch's key."""

    def __init__(self, key: PrivateKey) -> None:
        private = key.jwk.private_key
        if not isinstance(private, Ed25519PrivateKey):
            raise TypeError("lease tokens need an Ed25519 private key")
        self._private = private
        header = {"alg": LEASE_ALGORITHM, "kid": key.kid, "typ": LEASE_TYPE}
        self._header = _encode(_json(header).encode())

    def sign(self, leases: Sequence[LeaseClaims]) -> list[str]:
        """The tokens of leases that are given together, in their order."""
        return [
            token
            for start in range(0, len(leases), MOST_LEAVES)
            for token in self._signed([self._said(lease) for lease in leases[start : start + MOST_LEAVES]])
        ]

    def _signed(self, said: Sequence[bytes]) -> list[str]:
        root, ways = tree_of(said)
        signature = self._private.sign(_SIGNED + root)
        return [(one + b"." + _encode(signature + way)).decode() for one, way in zip(said, ways, strict=True)]

    def _said(self, lease: LeaseClaims) -> bytes:
        claims = {
            "tenant": lease.tenant,
            "project": lease.project,
            "item": lease.item,
            "task": lease.task,
            "jti": lease.lease,
            "sub": lease.labeler,
            "kind": lease.kind,
            "exp": lease.expires_at,
            "audit": lease.audit,
            "aud": LEASE_AUDIENCE,
        }
        return self._header + b"." + _encode(_json(claims).encode())


class LeaseVerifier:
    """Checks leases against the published keys: only a key of task-dispatch will do. Remembers those that passed."""

    def __init__(self, keys: PublicKeys) -> None:
        self._keys = keys
        self._generation = keys.generation
        self._passed: OrderedDict[str, LeaseClaims] = OrderedDict()
        self._key_of: dict[bytes, VerifyingKey] = {}
        """By the header of tokens that were genuine: it is the same in all that one key signs."""
        self._roots: OrderedDict[tuple[bytes, bytes], bytes] = OrderedDict()
        """What was signed, by header and signature."""

    def verify(self, token: str, *, allow_expired: bool = False, now: float | None = None) -> LeaseClaims:
        """The claims of a genuine token.

        Raises PermissionDenied LEASE_TOKEN_INVALID when it is not genuine, and FailedPrecondition
        LEASE_TOKEN_EXPIRED when its time is over, unless `allow_expired` (a late answer is kept, marked late).
        """
        self._keys.refresh()
        if self._generation != self._keys.generation:  # a key may have been withdrawn
            self._passed.clear()
            self._key_of.clear()
            self._roots.clear()
            self._generation = self._keys.generation
        claims = self._passed.get(token)
        if claims is None:
            claims = self._passed[token] = self._check(token)
            if len(self._passed) > _REMEMBERED:
                self._passed.popitem(last=False)
        if not allow_expired and claims.expires_at + LEEWAY < (time.time() if now is None else now):
            raise FailedPrecondition(
                "LEASE_TOKEN_EXPIRED",
                "The lease's time is over.",
                resource=f"projects/{claims.project}/tasks/{claims.task}/leases/{claims.lease}",
            )
        return claims

    def _check(self, token: str) -> LeaseClaims:
        try:
            header, payload, proof = token.encode("ascii").split(b".")
            decoded = _decode(proof)
            signature, way = decoded[:_SIGNATURE_BYTES], decoded[_SIGNATURE_BYTES:]
            self._check_signature(header, signature, root_of(header + b"." + payload, way))
            return _claims_of(json.loads(_decode(payload).decode()))
        except (ValueError, LookupError, TypeError, AttributeError, Base64Error, InvalidSignature):
            raise PermissionDenied(
                "LEASE_TOKEN_INVALID", "The lease token is not one that task-dispatch signed."
            ) from None

    def _check_signature(self, header: bytes, signature: bytes, root: bytes) -> None:
        if self._roots.get((header, signature)) == root:
            return
        key = self._key_of.get(header) or self._named_by(header)
        key.raw.verify(signature, _SIGNED + root)
        self._key_of[header] = key
        self._roots[header, signature] = root
        if len(self._roots) > _REMEMBERED:
            self._roots.popitem(last=False)

    def _named_by(self, header: bytes) -> VerifyingKey:
        said = json.loads(_decode(header))
        if said.get("alg") != LEASE_ALGORITHM or said.get("typ") != LEASE_TYPE or "crit" in said:
            raise ValueError("not a lease token")
        kid = str(said["kid"])
        key = self._keys.get(kid)
        if key is None or not kid.startswith(LEASE_ISSUER_KEY):
            raise ValueError("not a key of task-dispatch")
        return key


def _claims_of(body: dict[str, Any]) -> LeaseClaims:
    if body["aud"] != LEASE_AUDIENCE:
        raise ValueError("for another audience")
    return LeaseClaims(
        tenant=body["tenant"],
        project=body["project"],
        item=body["item"],
        task=body["task"],
        lease=body["jti"],
        labeler=body["sub"],
        kind=body["kind"],
        expires_at=body["exp"],
        audit=body.get("audit", ""),
    )


_json = json.JSONEncoder(separators=(",", ":")).encode  # json.dumps makes one for each call


def _encode(raw: bytes) -> bytes:
    return urlsafe_b64encode(raw).rstrip(b"=")


def _decode(text: bytes) -> bytes:
    return urlsafe_b64decode(text + b"=" * (-len(text) % 4))
