"""Many people who watch one camera's page, in a process of their own. Started by the benchmark ``page``."""

from __future__ import annotations

import asyncio
import ssl
import sys


async def _watch(port: int, cookie: str, seen: list[int], number: int) -> None:
    # Not verified: this measures the camera, and talks to loopback only.
    context = ssl._create_unverified_context()  # noqa: S323
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    writer.write(f"GET /stream.mjpg HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nCookie: {cookie}\r\n\r\n".encode())
    await writer.drain()
    try:
        while piece := await reader.read(2**18):
            seen[number] += piece.count(b"Content-Type: image/jpeg")
    finally:
        writer.close()


async def _main() -> None:
    port, count = int(sys.argv[1]), int(sys.argv[2])
    cookie = (await asyncio.to_thread(sys.stdin.readline)).strip()
    seen = [0] * count
    tasks = [asyncio.create_task(_watch(port, cookie, seen, number)) for number in range(count)]
    while not all(seen):
        await asyncio.sleep(0.05)
        if any(task.done() for task in tasks):
            sys.exit("a viewer was hung up")
    print("watching", flush=True)
    before = sum(seen)
    await asyncio.to_thread(sys.stdin.readline)
    print(sum(seen) - before, flush=True)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(_main())
