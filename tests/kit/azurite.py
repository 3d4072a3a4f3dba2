"""Azure's blob storage for tests: Azurite, the emulator that Microsoft keeps, on a free port."""

import os
import socket
import subprocess
from contextlib import asynccontextmanager, contextmanager

from azure.storage.blob import ContentSettings
from azure.storage.blob.aio import BlobServiceClient

from kit.needs import node, require
from kit.waiting import until_true
from openmeter_collector.testing.running import free_port

_BLOCK = 512 << 10  # larger bodies make aiohttp warn
ACCOUNT, KEY = "tests", "dGVzdHM="


@contextmanager
def azurite():
    """Start the server; yields its port. Skips the test when it is not installed."""
    folder = require("Azurite")
    port = free_port()
    process = subprocess.Popen(
        [
            *(node(), folder / "dist" / "src" / "blob" / "main.js"),
            *("--blobHost", "127.0.0.1", "--blobPort", str(port)),
            *("--inMemoryPersistence", "--silent", "--skipApiVersionCheck", "--disableTelemetry"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"},
    )

    def listens():
        assert process.poll() is None, "azurite ended"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return False
        return True

    try:
        until_true(listens)
        yield port
    finally:
        process.kill()
        process.wait()


def connection(address):
    """The connection string of the server, or of a wire to it."""
    return (
        f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};"
        f"BlobEndpoint=http://{address}/{ACCOUNT};"
    )


class Blobs:
    """Containers of a server."""

    def __init__(self, port, client):
        self.port = port
        self.client = client

    @classmethod
    @asynccontextmanager
    async def at(cls, port):
        async with BlobServiceClient.from_connection_string(
            connection(f"127.0.0.1:{port}"), max_single_put_size=_BLOCK, max_block_size=_BLOCK
        ) as client:
            yield cls(port, client)

    async def container(self, blobs=None):
        """A new container with these blobs; returns its name."""
        name = f"container-{os.urandom(6).hex()}"
        await self.client.create_container(name)
        for key, body in (blobs or {}).items():
            await self.put(name, key, body)
        return name

    async def put(self, container, key, body, *, metadata=None, **settings):
        body = body if isinstance(body, bytes) else body.encode()
        await self.client.get_blob_client(container, key).upload_blob(
            body,
            overwrite=True,
            metadata=metadata,
            content_settings=ContentSettings(**settings) if settings else None,
        )

    async def keys(self, container):
        return [one async for one in self.client.get_container_client(container).list_blob_names()]
