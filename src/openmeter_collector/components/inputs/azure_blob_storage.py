"""Reads blobs of Azure's storage."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import (
    Duration,
    Env,
    Example,
    Interpolated,
    Puller,
    ScannerNode,
    field,
    input,  # noqa: A004
)
from openmeter_collector.components.azure.blobs import BlobStore
from openmeter_collector.components.azure.session import AzureFields, client_of
from openmeter_collector.components.inputs.numbered import Numbered
from openmeter_collector.components.inputs.object_walk import Walk, Walker

_WHERE = "input.azure_blob_storage"

NEW = Example(
    "New blobs every minute, each once",
    """
    input:
      azure_blob_storage:
        storage_connection_string: ${AZURE_STORAGE_CONNECTION_STRING}
        container: exports
        prefix: usage/
        interval: 1m
        scanner:
          lines: {}
    """,
)
IDENTITY = Example(
    "Compressed lines, with the identity of the machine or the pod",
    """
    input:
      azure_blob_storage:
        storage_account: myaccount
        container: exports
        scanner:
          decompress:
            algorithm: gzip
            into:
              lines: {}
    """,
)


@input("azure_blob_storage", categories=("Services", "Azure"), examples=[NEW, IDENTITY])
class AzureBlobStorage(AzureFields):
    """Reads the blobs of a container, one after the other.

    The blobs that are there are read once, then the input ends; with `interval` it looks again for new
    ones. Blobs of any size are read in bounded memory: `scanner` says how their bytes become messages. A
    connection that breaks is continued at the same byte of the same content. Who we are is said by a
    connection string, by an account with a key or a shared access signature, or, with the account alone,
    by the environment: a managed or workload identity, environment variables, the Azure command line.

    **Durability.** How far everything is safe is remembered with the events, in the same transaction
    with the `sqlite` buffer: after a crash, reading goes on inside the blob that was being read. A run
    that came to its end starts from the first blob the next time; with `interval` every blob (name and
    content) is read once for all runs. `delete_objects` deletes what was read and is safe, with its
    snapshots, and not what was put there since.

    **Ids.** The metadata `blob_storage_id` is the same for the same record of the same blob, whoever
    reads it and when: a hash of container, name and ETag, and the number of the record in the blob. Use
    it as the id of events. Changing the metadata or the properties of a blob changes its ETag, and makes
    it a new one.

    Metadata: `blob_storage_key`, `blob_storage_container`, `blob_storage_last_modified`,
    `blob_storage_last_modified_unix`, `blob_storage_content_type`, `blob_storage_content_encoding`,
    `blob_storage_id`, and the blob's own metadata.

    A blob that cannot be read to its end (damaged, archived) is said in the log, counted in
    `input_source_unreadable` and not deleted. `targets_input` is not there.
    """

    container: str = field(doc="The container.")
    prefix: Interpolated = field(
        default_factory=lambda: Interpolated(""),
        doc="Only blobs whose name begins so. Interpolated when the container is listed.",
    )
    codec: ScannerNode | None = field(
        default=None,
        deprecated=True,
        doc="An older way to name the scanner: `lines`, `delim:x`, `all-bytes`, `csv`, `gzip/csv`, ...",
    )
    max_buffer: int = field(
        default=1000000,
        deprecated=True,
        doc="Not used: records of a `codec` may have up to 64 MiB.",
    )
    scanner: ScannerNode = field(
        default_config="to_the_end: {}", doc="How the bytes of a blob become messages."
    )
    delete_objects: bool = field(
        default=False, advanced=True, doc="Delete blobs of which all is safe."
    )
    interval: Duration | None = field(
        default=None,
        ours=True,
        doc="Do not end: look again for new blobs after so long, and read every blob once.",
    )
    start_after: str = field(
        default="", ours=True, doc="Only blobs whose name comes after this one."
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Puller]:
        """Opens a client; the first answer says whether all is well."""
        async with (
            env.scanner(self.codec or self.scanner) as scanner,
            client_of(self, _WHERE) as client,
        ):
            interval = None if self.interval is None else float(self.interval)
            walk = Walk(
                self.container, self.prefix, self.start_after, interval, self.delete_objects
            )
            store = BlobStore(client)
            walker = Walker(env, store, Numbered(scanner, f"{store.name}_id"), walk)
            try:
                yield walker
            finally:
                await walker.close()
