"""An engine as a process that writes one word at a time, slowly where the question asks for that; for faults."""

import asyncio
import json
import sys
from typing import Any

TEXT = "The Orrin feeds the upper reservoir and the lower one takes what is left of it in a dry summer. "
WORDS = [f"{word} " for word in (TEXT * 3).split()]
GAP_S = 0.05


def _chunk(value: dict[str, Any] | str) -> bytes:
    event = f"data: {value if isinstance(value, str) else json.dumps(value)}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(event), event)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Requests of one connection."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            lengths = [line.split(b":")[1] for line in head.split(b"\r\n") if line.startswith(b"content-length")]
            body = await reader.readexactly(int(lengths[0])) if lengths else b""
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for word in WORDS if body else []:
                writer.write(_chunk({"choices": [{"delta": {"content": word}, "finish_reason": None}]}))
                await asyncio.sleep(GAP_S if b"slowly" in body else 0)
            writer.write(_chunk({"choices": [{"delta": {}, "finish_reason": "stop"}]}))
            writer.write(_chunk({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": len(WORDS)}}))
            writer.write(_chunk("[DONE]") + b"0\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def serve(port: int) -> None:
    """Serve until killed."""
    server = await asyncio.start_server(answer, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
