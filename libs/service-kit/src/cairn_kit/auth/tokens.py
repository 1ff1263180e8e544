"""Bearer tokens: JWTs signed with Ed25519 (RFC 7519, RFC 9864), minted for a tenant and checked on every call."""

from __future__ import annotations

import re
import time
import warnings
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError, SecurityWarning

from cairn_kit.auth.caller import Caller, make_caller
from cairn_kit.auth.keys import PrivateKey, PublicKeys, VerifyingKey
from cairn_kit.auth.leases import LeaseClaims, LeaseSigner, LeaseVerifier
from cairn_kit.auth.permissions import Role
from cairn_kit.errors import Unauthenticated

AUDIENCE = "cairn"
TOKEN_TYPES = frozenset({"JWT", "at+jwt"})
# The name since RFC 9864, and the one that most identity providers still write. The key's curve is pinned.
ALGORITHMS = ["Ed25519", "EdDSA"]
LEEWAY = 5.0
_SERVICE_TOKEN_LIFE = 600.0
_RENEW_BEFORE = 120.0
_REMEMBERED = 10_000
_LONGEST_TOKEN = 8192
_TENANT = re.compile(r"^[a-z][a-z0-9-]{0,62}\Z")

warnings.filterwarnings("ignore", message="EdDSA is deprecated via RFC 9864", category=SecurityWarning)


class Signer:
    """Mints tokens with one private key."""

    def __init__(self, key: PrivateKey, issuer: str) -> None:
        self._key = key
        self._issuer = issuer
        self._leases = LeaseSigner(key)
        self._service_tokens: dict[str, tuple[str, float]] = {}

    def token(
        self,
        *,
        tenant: str,
        subject: str,
        roles: Iterable[Role | str],
        projects: Iterable[str] | None = None,
        lifetime: float = 3600.0,
        now: float | None = None,
    ) -> str:
        """A token for a person or a program."""
        issued = time.time() if now is None else now
        claims: dict[str, Any] = {
            "iss": self._issuer,
            "sub": subject,
            "aud": AUDIENCE,
            "iat": int(issued),
            "exp": int(issued + lifetime),
            "tenant": tenant,
            "roles": sorted(Role(role).value for role in roles),
        }
        if projects is not None:
            claims["projects"] = sorted(projects)
        header = {"alg": "Ed25519", "kid": self._key.kid, "typ": "JWT"}
        return jwt.encode(header, claims, self._key.jwk, algorithms=ALGORITHMS)

    def service_token(self, tenant: str) -> str:
        """The token of this service for one tenant's work; the same string until it is about to expire."""
        now = time.time()
        kept = self._service_tokens.get(tenant)
        if kept is not None and kept[1] - _RENEW_BEFORE > now:
            return kept[0]
        if len(self._service_tokens) >= _REMEMBERED:
            self._service_tokens.clear()
        token = self.token(
            tenant=tenant,
            subject=f"services/{self._issuer}",
            roles=[Role.SERVICE],
            lifetime=_SERVICE_TOKEN_LIFE,
        )
        self._service_tokens[tenant] = (token, now + _SERVICE_TOKEN_LIFE)
        return token

    def sign_leases(self, leases: Sequence[LeaseClaims]) -> list[str]:
        """Lease tokens, in the leases' order; only task-dispatch's key makes some that the store accepts."""
        return self._leases.sign(leases)


class Verifier:
    """Checks tokens against the published keys, and remembers those that passed until they expire.

    A verification costs about 0.3 ms, as much as a whole call otherwise; callers send the same token many times.
    """

    def __init__(self, keys: PublicKeys) -> None:
        self._keys = keys
        self._leases = LeaseVerifier(keys)
        self._passed: OrderedDict[str, Caller] = OrderedDict()
        self._generation = keys.generation

    def verify(self, token: str) -> Caller:
        """Who the token says is calling. Raises Unauthenticated with reason TOKEN_INVALID or TOKEN_EXPIRED."""
        self._keys.refresh()
        if self._generation != self._keys.generation:  # a key may have been withdrawn
            self._passed.clear()
            self._generation = self._keys.generation
        known = self._passed.get(token)
        if known is None:
            known = self._check(token)
            self._passed[token] = known
            if len(self._passed) > _REMEMBERED:
                self._passed.popitem(last=False)
        if known.expires_at + LEEWAY < time.time():
            self._passed.pop(token, None)
            raise Unauthenticated("TOKEN_EXPIRED", "The token has expired.")
        return known

    def verify_lease(self, token: str, *, allow_expired: bool = False) -> LeaseClaims:
        """The claims of a genuine lease token; see LeaseVerifier.verify for the errors."""
        return self._leases.verify(token, allow_expired=allow_expired)

    def _check(self, token: str) -> Caller:
        if len(token) > _LONGEST_TOKEN:
            raise _invalid("it is too long")
        found: list[VerifyingKey] = []

        def key_of(obj: Any) -> Any:
            key = self._keys.get(str(obj.headers().get("kid")))
            if key is None:
                raise ValueError("its key is not known")
            found.append(key)
            return key.jwk

        try:
            decoded = jwt.decode(token, key_of, algorithms=ALGORITHMS)
        except (JoseError, ValueError, TypeError, LookupError, AttributeError) as error:
            why = str(error) if isinstance(error, ValueError) and found == [] else "its signature is wrong"
            raise _invalid(why) from None
        if decoded.header.get("typ", "JWT") not in TOKEN_TYPES:
            raise _invalid("it is not an access token")
        return _caller_of(decoded.claims, found[0])


def _caller_of(claims: dict[str, Any], key: VerifyingKey) -> Caller:
    audience = claims.get("aud")
    if AUDIENCE not in (audience if isinstance(audience, list) else [audience]):
        raise _invalid("it is for another audience")
    issuer = claims.get("iss")
    if not isinstance(issuer, str) or not issuer:
        raise _invalid("it names no issuer")
    if key.issuer not in (None, issuer):
        raise _invalid(f"the key {key.kid} does not speak for its issuer")
    tenant, subject, expires = claims.get("tenant"), claims.get("sub"), claims.get("exp")
    if not isinstance(tenant, str) or not _TENANT.match(tenant):
        raise _invalid("it names no tenant")  # the name becomes part of event subjects: nothing else will do
    if not isinstance(subject, str) or not subject or not subject.isprintable():
        raise _invalid("it names no subject")  # NUL and half characters cannot be kept
    if isinstance(expires, bool) or not isinstance(expires, int | float):
        raise _invalid("it never expires")
    not_before = claims.get("nbf", claims.get("iat", 0))
    if not isinstance(not_before, int | float) or not_before - LEEWAY > time.time():
        raise _invalid("it is not valid yet")
    names, projects = claims.get("roles", []), claims.get("projects")
    known = {role.value: role for role in Role}
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _invalid("its roles are not a list of names")
    if projects is not None and (
        not isinstance(projects, list) or not all(isinstance(name, str) for name in projects)
    ):
        raise _invalid("its projects are not a list of names")
    roles = frozenset(known[name] for name in names if name in known)
    if not roles <= key.roles:
        raise _invalid(f"the key {key.kid} may not grant these roles")
    return make_caller(
        tenant, subject, roles, None if projects is None else frozenset(projects), float(expires)
    )


def _invalid(why: str) -> Unauthenticated:
    return Unauthenticated("TOKEN_INVALID", f"The token is not valid: {why}.")
