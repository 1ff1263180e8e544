"""One gate in front of every method, one way to call a neighbour, and what every API needs."""

from cairn_kit.rpc.clients import Peers
from cairn_kit.rpc.coalescing import Coalescer, Submitted
from cairn_kit.rpc.deadline import remaining
from cairn_kit.rpc.idempotency import once, once_many
from cairn_kit.rpc.paging import PAGE_BYTES, page_of, page_size, read_page_token, write_page_token
from cairn_kit.rpc.resting import rest
from cairn_kit.rpc.validation import bad_elements, invalid, texts_with_nul

__all__ = [
    "PAGE_BYTES",
    "Coalescer",
    "Peers",
    "Submitted",
    "bad_elements",
    "invalid",
    "once",
    "once_many",
    "page_of",
    "page_size",
    "read_page_token",
    "remaining",
    "rest",
    "texts_with_nul",
    "write_page_token",
]
