"""A program that is ready like a llama-server and never generates: `mute_llama_server.py PORT LOG`.

It writes a recorded load report first, then answers /health with 200 and holds every other request.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from pathlib import Path

HEALTHY = b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\nConnection: close\r\n\r\n{"status":"ok"}'


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request, or none."""
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET /health "):
            writer.write(HEALTHY)
            await writer.drain()
        else:
            await reader.read()
    writer.close()


async def serve(port: int) -> None:
    """Listen until the end."""
    server = await asyncio.start_server(answer, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    sys.stdout.write(Path(sys.argv[2]).read_text("utf-8"))
    sys.stdout.flush()
    asyncio.run(serve(int(sys.argv[1])))
