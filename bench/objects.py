"""A server of one object that is made as it is read: as large as one likes, without a disk."""

from __future__ import annotations

import asyncio
import re
import sys

LINE = b'{"id":"%012d","subject":"customer-%03d","time":"2026-01-01T00:00:00Z","n":1}\n'
SIZE = len(LINE % (0, 0))
_AT_ONCE = 4_000


def lines(first: int, count: int) -> bytes:
    """Some lines of the object."""
    return b"".join(LINE % (number, number % 1000) for number in range(first, first + count))


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: int) -> None:
    """GET of a list or of the object, from any byte on; one request a connection."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    if "list-type=2" in head.partition("\r\n")[0]:
        body = (
            "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>big</Key>"
            f'<ETag>"x"</ETag><Size>{count * SIZE}</Size></Contents></ListBucketResult>'
        ).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n")
        writer.write(f"content-length: {len(body)}\r\n\r\n".encode() + body)
    else:
        found = re.search(r"range: bytes=(\d+)-", head, re.IGNORECASE)
        start = int(found[1]) if found else 0
        status = "206 Partial Content" if found else "200 OK"
        left = count * SIZE - start
        writer.write(
            f'HTTP/1.1 {status}\r\nconnection: close\r\netag: "x"\r\n'
            f"content-length: {left}\r\n\r\n".encode()
        )
        block = lines(0, _AT_ONCE)
        number, skip = divmod(start, SIZE)
        while number < count:
            some = min(_AT_ONCE, count - number)
            # Making other numbers for each block would cost more than what is measured.
            writer.write(block[skip : some * SIZE])
            await writer.drain()
            number, skip = number + some, 0
    await writer.drain()
    writer.close()


async def main(port: int, count: int) -> None:
    """Serve until killed."""
    server = await asyncio.start_server(
        lambda reader, writer: answer(reader, writer, count), "127.0.0.1", port
    )
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
