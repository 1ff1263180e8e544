"""The same request_id gives the first answer again (AIP-155), remembered in the transaction of the effect."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from google.protobuf.message import Message

from cairn_kit.auth.caller import Caller, caller
from cairn_kit.database.transaction import Transaction
from cairn_kit.errors import InvalidArgument, Unauthenticated, Violation

R = TypeVar("R", bound=Message)

_CLAIM = """
INSERT INTO request (tenant, method, request_id, body_digest)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[])
ON CONFLICT DO NOTHING RETURNING tenant, request_id
"""
_RECALL = """
SELECT r.tenant, r.request_id, r.body_digest, r.response
FROM request r JOIN unnest($1::text[], $2::text[], $3::text[]) AS k (tenant, method, request_id)
USING (tenant, method, request_id)
"""
_KEEP = """
UPDATE request r SET response = k.response
FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[]) AS k (tenant, method, request_id, response)
WHERE (r.tenant, r.method, r.request_id) = (k.tenant, k.method, k.request_id)
"""
_FORGET = """
DELETE FROM request r USING unnest($1::text[], $2::text[], $3::text[]) AS k (tenant, method, request_id)
WHERE (r.tenant, r.method, r.request_id) = (k.tenant, k.method, k.request_id)
"""


async def once(
    tx: Transaction, tenant: str, request: Message, response: type[R], effect: Callable[[], Awaitable[R]]
) -> R:
    """Run `effect` unless this request was answered before; then give that answer.

    Without a request_id the effect simply runs. Raises InvalidArgument REQUEST_ID_REUSED when the id came with
    another body before, and whatever `effect` raises (which must roll the transaction back).
    """

    async def effect_of_one(_: Sequence[int]) -> list[R | Exception]:
        return [await effect()]

    [result] = await once_many(tx, [(tenant, request)], response, effect_of_one)
    if isinstance(result, Exception):
        raise result
    return result


async def once_many(
    tx: Transaction,
    requests: Sequence[tuple[Caller | str, Message]],
    response: type[R],
    effect: Callable[[Sequence[int]], Awaitable[Sequence[R | Exception]]],
) -> list[R | Exception]:
    """The same for many requests that are committed together: (caller or tenant, request) pairs of one method.

    Give the caller where there is one (`Submitted.caller`): a flush of many calls has none of its own, and nobody
    may be given another subject's answer for having chosen the same id.

    `effect` gets the indices of those not answered before and returns a response or an error for each of them.
    An error is not remembered: its request may come again.
    """
    if not requests:
        return []
    method = requests[0][1].DESCRIPTOR.full_name
    results: list[R | Exception | None] = [None] * len(requests)
    digests: dict[int, bytes] = {}
    first: dict[tuple[str, str], int] = {}
    doubles: list[tuple[int, int]] = []
    for index, (whose, request) in enumerate(requests):
        request_id: str = getattr(request, "request_id", "")
        if not request_id:
            continue
        tenant, subject = (whose.tenant, whose.subject) if isinstance(whose, Caller) else (whose, _subject())
        digests[index] = _digest(request, subject)
        earlier = first.setdefault((tenant, request_id), index)
        if earlier != index:
            if digests[earlier] == digests[index]:
                doubles.append((index, earlier))
            else:
                results[index] = _reused(request_id)
    answered = await _claim(tx, method, first, digests) if first else {}
    for key, kept in answered.items():
        index = first[key]
        digest, body = kept
        results[index] = (
            response.FromString(body) if digest == digests[index] and body is not None else _reused(key[1])
        )
    twins = {index for index, _ in doubles}
    fresh = [index for index in range(len(requests)) if results[index] is None and index not in twins]
    if fresh:
        for index, result in zip(fresh, await effect(fresh), strict=True):
            results[index] = result
        await _keep(tx, method, {i: key for key, i in first.items() if i in set(fresh)}, results)
    for index, earlier in doubles:
        results[index] = results[earlier]
    return [result for result in results if result is not None]


async def _claim(
    tx: Transaction, method: str, first: dict[tuple[str, str], int], digests: dict[int, bytes]
) -> dict[tuple[str, str], tuple[bytes, bytes | None]]:
    """Write down the new ids; for the others, what was kept. Waits for a concurrent holder of the same id."""
    keys = sorted(first)  # one order for everybody: concurrent batches must not wait for each other
    rows = await tx.fetch(
        _CLAIM,
        [tenant for tenant, _ in keys],
        [method] * len(keys),
        [request_id for _, request_id in keys],
        [digests[first[key]] for key in keys],
    )
    claimed = {(row["tenant"], row["request_id"]) for row in rows}
    known = [key for key in keys if key not in claimed]
    if not known:
        return {}
    rows = await tx.fetch(_RECALL, [t for t, _ in known], [method] * len(known), [r for _, r in known])
    return {(row["tenant"], row["request_id"]): (row["body_digest"], row["response"]) for row in rows}


async def _keep(
    tx: Transaction,
    method: str,
    keys: dict[int, tuple[str, str]],
    results: Sequence[Message | Exception | None],
) -> None:
    good = {i: key for i, key in keys.items() if isinstance(results[i], Message)}
    bad = [key for i, key in keys.items() if i not in good]
    if good:
        await tx.execute(
            _KEEP,
            [tenant for tenant, _ in good.values()],
            [method] * len(good),
            [request_id for _, request_id in good.values()],
            [m.SerializeToString() for i in good if isinstance(m := results[i], Message)],
        )
    if bad:
        await tx.execute(_FORGET, [tenant for tenant, _ in bad], [method] * len(bad), [r for _, r in bad])


def _subject() -> str:
    try:
        return caller().subject
    except Unauthenticated:
        return ""


def _digest(request: Message, subject: str) -> bytes:
    """The body and who sent it: another subject's answer is not for you."""
    digest = hashlib.sha256(request.SerializeToString(deterministic=True))
    digest.update(b"\0" + subject.encode())
    return digest.digest()


def _reused(request_id: str) -> InvalidArgument:
    return InvalidArgument(
        "REQUEST_ID_REUSED",
        "This request_id was used with another request.",
        violations=[Violation("request_id", "use a new id for a new request")],
        request_id=request_id,
    )
