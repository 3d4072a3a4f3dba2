"""Clients of Azure's blob storage, with the credentials that a config names."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, Final, TypeVar

from openmeter_collector.api import ConfigError, Retryable, field, section
from openmeter_collector.components import extras

T = TypeVar("T")

_EXTRA: Final = "azure"
_ONE_REQUEST: Final = 1 << 20
"""Bytes asked for in one request: what is held of a blob that is read."""
_LAST: Final = 5.0
"""Seconds for a request that is under way when reading stops."""


@section
class AzureFields:
    """The fields of every component that speaks with Azure's storage."""

    storage_account: str = field(
        default="",
        doc="The storage account; not used with a connection string that names one. Without a key and "
        "a token the default Azure credential is used.",
    )
    storage_access_key: str = field(default="", secret=True, doc="Access key of the account.")
    storage_connection_string: str = field(
        default="", secret=True, doc="Connection string; it goes before all other credentials."
    )
    storage_sas_token: str = field(
        default="", secret=True, doc="Shared access signature, of the account or the container."
    )


@asynccontextmanager
async def client_of(azure: AzureFields, where: str) -> AsyncIterator[Any]:
    """A client of one's own, closed with the block.

    Raises:
        ConfigError: the extra is missing, or nothing says which account is meant.
    """
    (blobs,) = extras.load(where, _EXTRA, "azure.storage.blob.aio")
    options = {
        "max_single_get_size": _ONE_REQUEST,
        "max_chunk_get_size": _ONE_REQUEST,
        "retry_policy": blobs.ExponentialRetry(
            initial_backoff=1, increment_base=2, retry_total=2, random_jitter_range=1
        ),
        "connection_timeout": 10,
        "read_timeout": 60,
    }
    async with AsyncExitStack() as stack:
        if azure.storage_connection_string:
            try:
                client = blobs.BlobServiceClient.from_connection_string(
                    _with_account(azure), **options
                )
            except ValueError:
                # Not chained: the library's text may show what it could not read.
                raise ConfigError(
                    f"{where}.storage_connection_string: it is no connection string; copy it from "
                    "the access keys of the account"
                ) from None
        elif azure.storage_account:
            client = blobs.BlobServiceClient(
                f"https://{azure.storage_account}.blob.core.windows.net",
                credential=await _credential(azure, where, stack),
                **options,
            )
        else:
            raise ConfigError(
                f"{where}: neither storage_account nor storage_connection_string is set; set one"
            )
        yield await stack.enter_async_context(client)


def _with_account(azure: AzureFields) -> str:
    """Connection strings made for shared access signatures do not name their account."""
    text = azure.storage_connection_string
    if azure.storage_account and "AccountName=" not in text:
        return f"{text.rstrip(';')};AccountName={azure.storage_account}"
    return text


async def _credential(azure: AzureFields, where: str, stack: AsyncExitStack) -> Any:
    if azure.storage_access_key:
        return azure.storage_access_key
    if azure.storage_sas_token:
        (credentials,) = extras.load(where, _EXTRA, "azure.core.credentials")
        return credentials.AzureSasCredential(azure.storage_sas_token.removeprefix("?"))
    (identity,) = extras.load(where, _EXTRA, "azure.identity.aio")
    return await stack.enter_async_context(identity.DefaultAzureCredential())


async def uncut(request: Coroutine[Any, Any, T]) -> T:
    """Make a request that is short. When we are cancelled it is let come to its end for a moment: the
    library does not give the connection of a broken-off answer back.
    """
    task = asyncio.ensure_future(request)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task}, timeout=_LAST)
        task.cancel()
        raise


def status_of(error: Exception) -> int:
    """The HTTP status of an answer that is an error; 0 when there was none."""
    return int(getattr(error, "status_code", 0) or 0)


def code_of(error: Exception) -> str:
    """What Azure calls an error, such as `BlobArchived`."""
    code = getattr(error, "error_code", "")
    return str(getattr(code, "value", code) or "")


@contextmanager
def failures(where: str) -> Iterator[None]:
    """What the library raises as what the engine knows: all of it may pass.

    Raises:
        Retryable: no answer, or one that is an error.
    """
    exceptions, http = extras.load(where, _EXTRA, "azure.core.exceptions", "aiohttp")
    try:
        yield
    except (exceptions.AzureError, http.ClientError, TimeoutError, OSError) as error:
        said = str(error).splitlines()[0][:2_000] if str(error) else type(error).__name__
        code = code_of(error)
        raise Retryable(f"{where}: {said}{f' ({code})' if code else ''}") from error
