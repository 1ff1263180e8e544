"""The same request_id gives the first answer again (AIP-155), remembered in the transaction of the effect."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from google.protobuf.message import Message

from cairn_kit.auth.caller import Caller, caller
from cairn_kit.database.transaction import Record, Transaction
from cairn_kit.errors import InvalidArgument, Unauthenticated, Violation

R = TypeVar("R", bound=Message)

_Key = tuple[str, str, str]
"""Tenant, request_id, subject: an id is its subject's own."""

# What was kept before subjects were (or by a pod of that version) stands under the empty one; its digest knows whose it is.
_CLAIM = """
INSERT INTO request (tenant, request_id, subject, method, body_digest)
SELECT *
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[])
  AS k (tenant, request_id, subject, method, body_digest)
WHERE NOT EXISTS (
  SELECT FROM request r
  WHERE (r.tenant, r.method, r.request_id) = (k.tenant, k.method, k.request_id)
    AND r.subject = '' AND r.body_digest = k.body_digest
)
ON CONFLICT DO NOTHING RETURNING tenant, request_id, subject
"""
_RECALL = """
SELECT k.tenant, k.request_id, k.subject, r.body_digest, r.response
FROM request r
JOIN unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[])
  AS k (tenant, request_id, subject, method, body_digest)
USING (tenant, method, request_id)
WHERE r.subject = k.subject OR (r.subject = '' AND r.body_digest = k.body_digest)
"""
_KEEP = """
UPDATE request r SET response = k.response
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[])
  AS k (tenant, request_id, subject, method, response)
WHERE (r.tenant, r.method, r.request_id, r.subject) = (k.tenant, k.method, k.request_id, k.subject)
"""
_FORGET = """
DELETE FROM request r
USING unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS k (tenant, request_id, subject, method)
WHERE (r.tenant, r.method, r.request_id, r.subject) = (k.tenant, k.method, k.request_id, k.subject)
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
    *,
    repeatable: bool = False,
) -> list[R | Exception]:
    """The same for many requests that are committed together: (caller or tenant, request) pairs of one method.

    Give the caller where there is one (`Submitted.caller`): a flush of many calls has none of its own, and an id is
    its subject's own.

    `effect` gets the indices of those not answered before and returns a response or an error for each of them.
    An error is not remembered: its request may come again.

    ``repeatable``: the effect itself gives the first answer again, by a key of its own. Then no answer is kept beside the
    id, which half of the cost of remembering it is, and `effect` gets also those that were answered before.
    """
    if not requests:
        return []
    method = requests[0][1].DESCRIPTOR.full_name
    results: list[R | Exception | None] = [None] * len(requests)
    digests: dict[int, bytes] = {}
    first: dict[_Key, int] = {}
    doubles: list[tuple[int, int]] = []
    for index, (whose, request) in enumerate(requests):
        request_id: str = getattr(request, "request_id", "")
        if not request_id:
            continue
        tenant, subject = (whose.tenant, whose.subject) if isinstance(whose, Caller) else (whose, _subject())
        digests[index] = _digest(request, subject)
        earlier = first.setdefault((tenant, request_id, subject), index)
        if earlier != index:
            if digests[earlier] == digests[index]:
                doubles.append((index, earlier))
            else:
                results[index] = _reused(request_id)
    answered = await _claim(tx, method, first, digests) if first else {}
    for key, (digest, body) in answered.items():
        index = first[key]
        if digest != digests[index]:
            results[index] = _reused(key[1])
        elif body is not None:
            results[index] = response.FromString(body)
    twins = {index for index, _ in doubles}
    fresh = [index for index in range(len(requests)) if results[index] is None and index not in twins]
    if fresh:
        for index, result in zip(fresh, await effect(fresh), strict=True):
            results[index] = result
        claimed = {i: key for key, i in first.items() if key not in answered}
        await _keep(tx, method, claimed, results, answers=not repeatable)
    for index, earlier in doubles:
        results[index] = results[earlier]
    return [result for result in results if result is not None]


async def _claim(
    tx: Transaction, method: str, first: dict[_Key, int], digests: dict[int, bytes]
) -> dict[_Key, tuple[bytes, bytes | None]]:
    """Write down the new ids; for the others, what was kept. Waits for a concurrent holder of the same id."""
    keys = sorted(first)  # one order for everybody: concurrent batches must not wait for each other
    rows = await tx.fetch(_CLAIM, *_columns(method, keys), [digests[first[key]] for key in keys])
    claimed = {_key(row) for row in rows}
    known = [key for key in keys if key not in claimed]
    if not known:
        return {}
    rows = await tx.fetch(_RECALL, *_columns(method, known), [digests[first[key]] for key in known])
    return {_key(row): (row["body_digest"], row["response"]) for row in rows}


async def _keep(
    tx: Transaction,
    method: str,
    keys: dict[int, _Key],
    results: Sequence[Message | Exception | None],
    *,
    answers: bool,
) -> None:
    good = {i: key for i, key in keys.items() if isinstance(results[i], Message)}
    bad = [key for i, key in keys.items() if i not in good]
    if good and answers:
        bodies = [m.SerializeToString() for i in good if isinstance(m := results[i], Message)]
        await tx.execute(_KEEP, *_columns(method, list(good.values())), bodies)
    if bad:
        await tx.execute(_FORGET, *_columns(method, bad))


def _columns(method: str, keys: Sequence[_Key]) -> tuple[list[str], ...]:
    """The keys as the first arguments of the statements above."""
    tenants, ids, subjects = zip(*keys, strict=True)
    return list(tenants), list(ids), list(subjects), [method] * len(keys)


def _key(row: Record) -> _Key:
    return row["tenant"], row["request_id"], row["subject"]


def _subject() -> str:
    try:
        return caller().subject
    except Unauthenticated:
        return ""


def _digest(request: Message, subject: str) -> bytes:
    """The body and who sent it: so the ids that stand under no subject are their senders' own, too."""
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
