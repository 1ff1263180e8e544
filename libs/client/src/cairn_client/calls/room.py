"""What every group of calls has: the transport."""

from __future__ import annotations

from cairn_client.transport import Transport


class Calls:
    """A group of calls over one transport."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
