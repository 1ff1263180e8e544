"""The client for asyncio programs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from cairn_client.calls.audits import Audits
from cairn_client.calls.items import ItemCalls
from cairn_client.calls.labelers import Labelers
from cairn_client.calls.labels import LabelCalls
from cairn_client.calls.ledger import Ledger
from cairn_client.calls.models import Models
from cairn_client.calls.projects import Projects
from cairn_client.calls.transfers import Exports, Imports
from cairn_client.calls.work import WorkCalls
from cairn_client.profile import Profile, Service, discover
from cairn_client.tokens import TokenProvider, provider_of
from cairn_client.transport import Patience, Transport


class AsyncCairn(ItemCalls, WorkCalls, LabelCalls):
    """Cairn's API for asyncio.

    Everyday verbs are methods of the client; the rest is grouped: `projects`, `imports`, `exports`,
    `audits`, `models`, `labelers`, `ledger`.
    The generated stubs are at `client.transport.store`, `.dispatch` and so on, for what has no method here.
    """

    def __init__(
        self,
        *,
        home: Path | str | None = None,
        profile: Profile | None = None,
        addresses: Mapping[Service | str, str] | str | None = None,
        token: str | TokenProvider | None = None,
        patience: Patience | None = None,
    ) -> None:
        """Find Cairn by `profile`, `addresses` (one a service, or one gateway), `home` (a local stack's
        folder), or else in the environment (see cairn_client.profile.discover). `token` is one, or a function
        that returns one.

        Raises ProfileError when it is not known where Cairn runs or with which token to call.
        """
        if profile is None:
            profile = Profile.at(addresses) if addresses is not None else discover(home)
        if isinstance(token, str):
            given = token
            provider: TokenProvider = lambda: given  # noqa: E731
        else:
            provider = token or provider_of(profile)
        self.transport = Transport(profile, provider, patience)
        super().__init__(self.transport)
        self.projects = Projects(self.transport)
        self.imports = Imports(self.transport)
        self.exports = Exports(self.transport)
        self.audits = Audits(self.transport)
        self.models = Models(self.transport)
        self.labelers = Labelers(self.transport)
        self.ledger = Ledger(self.transport)

    @property
    def profile(self) -> Profile:
        """Where this client calls, and as whom."""
        return self.transport.profile

    async def close(self) -> None:
        """Close all connections."""
        await self.transport.close()

    async def __aenter__(self) -> AsyncCairn:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
