"""The straight line: the least that could hand out tasks and keep answers, and lose neither. What Cairn is measured by.

One process, two calls (lease, submit), one statement each, and an import that copies chunk after chunk, over the same
gRPC server, messages, driver, database and bus that Cairn uses. Each writes its event into an outbox in the same
transaction, and a relay publishes it. There is nothing else: one project, no identity, no schema, no skills, no expiry,
no repeated request told from a new one, and nobody who listens to the events. Whoever says what Cairn costs beyond this
says what those things cost.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import asyncpg
import grpc
import nats
import uvloop
from google.protobuf.message import Message
from nats.js import JetStreamContext

from cairn.annotation.v1 import annotation_store_pb2 as store
from cairn.dispatch.v1 import task_dispatch_pb2 as dispatch

SERVICE = "straight.Line"
STREAM = "STRAIGHT"

_SCHEMA = """
CREATE TABLE task (id bigint PRIMARY KEY, item text NOT NULL, state smallint NOT NULL DEFAULT 0, labeler text, answer bytea);
CREATE INDEX task_open ON task (id) WHERE state = 0;
CREATE TABLE item (key text PRIMARY KEY, body bytea NOT NULL);
CREATE TABLE outbox (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, subject text NOT NULL, body text NOT NULL);
"""
_LEASE = """
WITH picked AS (SELECT id FROM task WHERE state = 0 ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED),
taken AS (UPDATE task t SET state = 1, labeler = $2 FROM picked p WHERE t.id = p.id RETURNING t.id, t.item),
told AS (INSERT INTO outbox (subject, body) SELECT 'straight.leased', id || ' ' || $2 FROM taken)
SELECT id, item FROM taken
"""
_SUBMIT = """
WITH done AS (
  UPDATE task t SET state = 2, answer = a.answer
  FROM unnest($1::bigint[], $2::bytea[]) AS a(id, answer)
  WHERE t.id = a.id AND t.state = 1
  RETURNING t.id
),
told AS (INSERT INTO outbox (subject, body) SELECT 'straight.submitted', id::text FROM done)
SELECT id FROM done
"""
_IMPORTED = "INSERT INTO outbox (subject, body) VALUES ('straight.imported', $1::int::text)"
_RELAYED = 500
_QUIET = 0.02


async def prepare(dsn: str, tasks: int) -> None:
    """Make the tables and their tasks, in an empty database."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(_SCHEMA)
        records = [(n, f"item-{n}") for n in range(tasks)]
        await connection.copy_records_to_table("task", records=records, columns=["id", "item"])
        await connection.execute("ANALYZE task")
    finally:
        await connection.close()


class Line:
    """The calls."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def lease(self, request: dispatch.LeaseTasksRequest, _: Any) -> dispatch.LeaseTasksResponse:
        """Give the first open tasks to a labeler."""
        rows = await self._pool.fetch(_LEASE, request.max_tasks or 1, request.labeler)
        leases = [dispatch.Lease(name=str(row["id"]), item=row["item"], token=str(row["id"])) for row in rows]
        return dispatch.LeaseTasksResponse(leases=leases)

    async def submit(self, request: store.SubmitAnnotationRequest, _: Any) -> store.Annotation:
        """Keep one answer."""
        [kept] = await self._keep([request])
        return kept

    async def submit_many(
        self, request: store.SubmitAnnotationsRequest, _: Any
    ) -> store.SubmitAnnotationsResponse:
        """Keep several answers."""
        kept = await self._keep(request.requests)
        return store.SubmitAnnotationsResponse(
            results=[store.SubmitAnnotationResult(annotation=a) for a in kept]
        )

    async def take_in(self, requests: AsyncIterator[store.ImportItemsRequest], _: Any) -> store.Import:
        """Keep items as they are, a chunk in each transaction."""
        taken = 0
        async for request in requests:
            records = [(item.key, item.SerializeToString()) for item in request.chunk.items]
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.copy_records_to_table("item", records=records, columns=["key", "body"])
                await connection.execute(_IMPORTED, len(records))
            taken += len(records)
        return store.Import(created_items=taken)

    async def _keep(self, requests: Sequence[store.SubmitAnnotationRequest]) -> list[store.Annotation]:
        answers = [store.Annotation(answers=r.answers).SerializeToString() for r in requests]
        rows = await self._pool.fetch(_SUBMIT, [int(r.lease_token) for r in requests], answers)
        if len(rows) != len(requests):
            raise ValueError(f"{len(requests) - len(rows)} of {len(requests)} leases are not live")
        return [store.Annotation(name=r.lease_token, answers=r.answers) for r in requests]


async def relay(pool: asyncpg.Pool, jetstream: JetStreamContext) -> None:
    """Publish the outbox for ever, in order; a row goes once the bus has it."""
    while True:
        rows = await pool.fetch("SELECT seq, subject, body FROM outbox ORDER BY seq LIMIT $1", _RELAYED)
        acknowledged = [
            await jetstream.publish_async(
                row["subject"], row["body"].encode(), headers={"Nats-Msg-Id": str(row["seq"])}
            )
            for row in rows
        ]
        await asyncio.gather(*acknowledged)
        await pool.execute("DELETE FROM outbox WHERE seq = ANY ($1)", [row["seq"] for row in rows])
        if len(rows) < _RELAYED:
            await asyncio.sleep(_QUIET)


async def serve(settings: dict[str, Any]) -> None:
    """Serve until SIGTERM."""
    pool = await asyncpg.create_pool(settings["dsn"], min_size=2, max_size=10)
    bus = await nats.connect(settings["nats"], token=settings["token"])
    jetstream = bus.jetstream(publish_async_max_pending=1000)
    await jetstream.add_stream(name=STREAM, subjects=["straight.*"], max_age=3600)
    line = Line(pool)
    calls: dict[str, tuple[Callable[..., Any], type[Message]]] = {
        "Lease": (line.lease, dispatch.LeaseTasksRequest),
        "Submit": (line.submit, store.SubmitAnnotationRequest),
        "SubmitMany": (line.submit_many, store.SubmitAnnotationsRequest),
    }
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        name: grpc.unary_unary_rpc_method_handler(
            call, kind.FromString, lambda response: response.SerializeToString()
        )
        for name, (call, kind) in calls.items()
    }
    handlers["Import"] = grpc.stream_unary_rpc_method_handler(
        line.take_in, store.ImportItemsRequest.FromString, lambda response: response.SerializeToString()
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_insecure_port(settings["address"])
    await server.start()
    relaying = asyncio.create_task(relay(pool, jetstream))
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    print("ready", flush=True)
    await ended.wait()
    await server.stop(2)
    relaying.cancel()
    await bus.close()
    await pool.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(json.loads(sys.stdin.readline())))
