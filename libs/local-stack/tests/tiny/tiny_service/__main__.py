"""Reads the stack's environment, migrates one table, says on /readyz whether PostgreSQL answers.

`TINY_BREAK=<service>` makes that one end at once, as a service with wrong settings does.
"""

import asyncio
import json
import os
import signal
import sys

import asyncpg

NAME = os.environ["CAIRN_SERVICE_NAME"]


async def migrate() -> None:
    database = await asyncpg.connect(os.environ["CAIRN_POSTGRES_DSN"])
    await database.execute("CREATE TABLE IF NOT EXISTS kept (word text PRIMARY KEY)")
    await database.close()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readline()
    try:
        database = await asyncpg.connect(os.environ["CAIRN_POSTGRES_DSN"], timeout=1)
        await database.close()
        status = b"200 OK"
    except (OSError, asyncpg.PostgresError):
        status = b"503 Unavailable"
    writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")
    writer.close()


async def serve() -> None:
    end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
    listening = []
    for setting in ("CAIRN_LISTEN", "CAIRN_HTTP_LISTEN"):
        host, port = os.environ[setting].split(":")
        listening.append(await asyncio.start_server(answer, host, int(port)))
    print(json.dumps({"level": "info", "event": f"{NAME} serves"}), flush=True)
    await end.wait()
    print(json.dumps({"level": "info", "event": f"{NAME} drained"}), flush=True)


if os.environ.get("TINY_BREAK") == NAME:
    print(json.dumps({"level": "info", "event": "starting"}))
    sys.exit(f"{NAME}: CAIRN_COLOUR is 'mauve'; it must be red or blue.")
match sys.argv[1:]:
    case ["migrate"]:
        asyncio.run(migrate())
    case ["republish"]:
        print(f"{NAME} sent its outbox again")
    case _:
        asyncio.run(serve())
