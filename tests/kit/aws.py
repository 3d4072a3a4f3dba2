"""S3, SQS and STS for tests: the moto server in a process of its own, on a free port."""

import os
import socket
import subprocess
import sys
import time
from contextlib import asynccontextmanager, contextmanager

from aiobotocore.session import get_session

from openmeter_collector.testing.running import free_port

REGION = "us-east-1"
KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}


@contextmanager
def moto():
    """Start the server; yields its address."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "MOTO_S3_CUSTOM_ENDPOINTS": ""},
    )
    try:
        end = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, "moto ended"
                assert time.monotonic() < end, "moto does not listen"
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


class Aws:
    """Clients on a server; `url` is its address."""

    def __init__(self, url, s3, sqs):
        self.url, self.s3, self.sqs = url, s3, sqs
        self._count = 0

    @classmethod
    @asynccontextmanager
    async def at(cls, url):
        session = get_session()
        about = {"endpoint_url": url, "region_name": REGION, **KEYS}
        async with (
            session.create_client("s3", **about) as s3,
            session.create_client("sqs", **about) as sqs,
        ):
            yield cls(url, s3, sqs)

    async def bucket(self, objects=None, **more):
        """A new bucket with these objects; returns its name."""
        name = f"bucket-{os.urandom(6).hex()}"
        await self.s3.create_bucket(Bucket=name, **more)
        for key, body in (objects or {}).items():
            await self.put(name, key, body)
        return name

    async def put(self, bucket, key, body, **more):
        body = body if isinstance(body, bytes) else body.encode()
        return await self.s3.put_object(Bucket=bucket, Key=key, Body=body, **more)

    async def keys(self, bucket):
        page = await self.s3.list_objects_v2(Bucket=bucket)
        return [one["Key"] for one in page.get("Contents", ())]

    async def queue(self, visibility=30, **more):
        """A new queue; returns its address."""
        attributes = {"VisibilityTimeout": str(visibility)} | more
        made = await self.sqs.create_queue(
            QueueName=f"queue-{os.urandom(6).hex()}", Attributes=attributes
        )
        return made["QueueUrl"]

    async def waiting(self, queue):
        """Messages of a queue: those that can be received, and those that somebody works on."""
        answer = await self.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])
        found = answer["Attributes"]
        return (
            int(found["ApproximateNumberOfMessages"]),
            int(found["ApproximateNumberOfMessagesNotVisible"]),
        )

    def fields(self, **more):
        """Fields that point a component at the server, as YAML."""
        fields = {"endpoint": self.url, "region": REGION, **more}
        return "\n".join(f"    {key}: {value}" for key, value in fields.items()) + (
            "\n    credentials: {id: test, secret: test}"
        )
