"""Lease tokens: dispatch's signed statement of who may answer what until when; the store checks it alone.

A JWS like any other (RFC 7515, typ `cairn-lease+jwt`), but signed and checked with the primitive directly: a
batch carries up to a thousand of them, and joserfc's generality adds half of the signature's own cost.
"""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from dataclasses import asdict, dataclass
from typing import Any, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cairn_kit.auth.keys import PrivateKey, PublicKeys
from cairn_kit.errors import FailedPrecondition, PermissionDenied

LEASE_TYPE = "cairn-lease+jwt"
LEASE_AUDIENCE = "annotation-store"
LEASE_ISSUER_KEY = "service-task-dispatch-"
LEEWAY = 5.0
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


_NAMES = {"lease": "jti", "labeler": "sub", "expires_at": "exp"}


class LeaseSigner:
    """Signs leases with task-dispatch's key."""

    def __init__(self, key: PrivateKey) -> None:
        private = key.jwk.private_key
        if not isinstance(private, Ed25519PrivateKey):
            raise TypeError("lease tokens need an Ed25519 private key")
        self._private = private
        header = {"alg": "Ed25519", "kid": key.kid, "typ": LEASE_TYPE}
        self._header = _encode(json.dumps(header, separators=(",", ":")).encode())

    def sign(self, claims: LeaseClaims) -> str:
        """The token."""
        body: dict[str, Any] = {_NAMES.get(name, name): value for name, value in asdict(claims).items()}
        body["aud"] = LEASE_AUDIENCE
        payload = _encode(json.dumps(body, separators=(",", ":")).encode())
        signed = self._header + b"." + payload
        return (signed + b"." + _encode(self._private.sign(signed))).decode()


class LeaseVerifier:
    """Checks leases against the published keys: only a key of task-dispatch will do."""

    def __init__(self, keys: PublicKeys) -> None:
        self._keys = keys

    def verify(self, token: str, *, allow_expired: bool = False, now: float | None = None) -> LeaseClaims:
        """The claims of a genuine token.

        Raises PermissionDenied LEASE_TOKEN_INVALID when it is not genuine, and FailedPrecondition
        LEASE_TOKEN_EXPIRED when its time is over, unless `allow_expired` (a late answer is kept, marked late).
        """
        try:
            header, payload, signature = token.encode("ascii").split(b".")
            said = json.loads(_decode(header))
            if said.get("alg") != "Ed25519" or said.get("typ") != LEASE_TYPE or "crit" in said:
                raise ValueError("not a lease token")
            kid = str(said["kid"])
            key = self._keys.get(kid)
            if key is None or not kid.startswith(LEASE_ISSUER_KEY):
                raise ValueError("not a key of task-dispatch")
            key.raw.verify(_decode(signature), header + b"." + payload)
            body: dict[str, Any] = json.loads(_decode(payload))
            if body.pop("aud") != LEASE_AUDIENCE:
                raise ValueError("for another audience")
            names = {there: here for here, there in _NAMES.items()}
            claims = LeaseClaims(**{names.get(name, name): value for name, value in body.items()})
        except (ValueError, LookupError, TypeError, AttributeError, Base64Error, InvalidSignature):
            raise PermissionDenied(
                "LEASE_TOKEN_INVALID", "The lease token is not one that task-dispatch signed."
            ) from None
        if not allow_expired and claims.expires_at + LEEWAY < (time.time() if now is None else now):
            raise FailedPrecondition(
                "LEASE_TOKEN_EXPIRED",
                "The lease's time is over.",
                resource=f"projects/{claims.project}/tasks/{claims.task}/leases/{claims.lease}",
            )
        return claims


def _encode(raw: bytes) -> bytes:
    return urlsafe_b64encode(raw).rstrip(b"=")


def _decode(text: bytes) -> bytes:
    return urlsafe_b64decode(text + b"=" * (-len(text) % 4))
