"""Bearer tokens: minted with a local stack's issuer key, or given; kept until shortly before they expire."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from cairn_client.errors import ProfileError
from cairn_client.profile import Profile

TokenProvider = Callable[[], str]
"""Returns a valid token; asked before every call, so it should remember."""

LIFETIME = 3600.0
_RENEW_BEFORE = 300.0


class Issuer:
    """Mints tokens with an issuer's private key: a JWK of curve Ed25519 with a `kid`."""

    def __init__(self, key_file: Path, issuer: str = "local") -> None:
        try:
            self._key: OKPKey = OKPKey.import_key(json.loads(key_file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise ProfileError(f"The issuer key {key_file} is missing. Was the stack removed?") from None
        except PermissionError:
            raise ProfileError(
                f"The issuer key {key_file} may not be read by you: it is another user's."
            ) from None
        except (OSError, ValueError, JoseError) as error:
            raise ProfileError(f"The issuer key {key_file} cannot be used: {error}") from None
        if not self._key.is_private or self._key.kid is None:
            raise ProfileError(f"{key_file} is not a private key with a kid.")
        self._issuer = issuer

    def mint(
        self,
        *,
        tenant: str,
        subject: str,
        roles: Iterable[str],
        projects: Iterable[str] | None = None,
        lifetime: float = LIFETIME,
    ) -> str:
        """A token for `subject`, valid for `lifetime` seconds; `projects` (ids) restricts it to these."""
        now = time.time()
        claims: dict[str, Any] = {
            "iss": self._issuer,
            "sub": subject,
            "aud": "cairn",
            "iat": int(now),
            "exp": int(now + lifetime),
            "tenant": tenant,
            "roles": sorted(roles),
        }
        if projects is not None:
            claims["projects"] = sorted(projects)
        header = {"alg": "Ed25519", "kid": self._key.kid, "typ": "JWT"}
        return str(jwt.encode(header, claims, self._key, algorithms=["Ed25519"]))


class MintedTokens:
    """A token provider that mints, and mints again when the token nears its end."""

    def __init__(self, issuer: Issuer, *, tenant: str, subject: str, roles: Iterable[str]) -> None:
        self._issuer = issuer
        self._tenant, self._subject, self._roles = tenant, subject, tuple(roles)
        self._token = ""
        self._minted_at = 0.0

    def __call__(self) -> str:
        """A token that is valid for another five minutes at least."""
        now = time.time()  # by which it expires; a monotonic clock stands still while a machine sleeps
        if not self._minted_at <= now < self._minted_at + LIFETIME - _RENEW_BEFORE:
            self._token = self._issuer.mint(tenant=self._tenant, subject=self._subject, roles=self._roles)
            self._minted_at = now
        return self._token


def provider_of(profile: Profile) -> TokenProvider:
    """The token provider that a profile calls for: its token, or its issuer key. Raises ProfileError for
    neither."""
    if profile.token is not None:
        token = profile.token
        return lambda: token
    if profile.issuer_key is None:
        raise ProfileError(
            f"There is neither a token nor an issuer key ({profile.source}). Set CAIRN_TOKEN, or pass token=."
        )
    issuer = Issuer(profile.issuer_key, profile.issuer)
    return MintedTokens(issuer, tenant=profile.tenant, subject=profile.subject, roles=profile.roles)
