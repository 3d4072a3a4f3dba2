"""What outputs to AWS share: which metadata goes along, and one verdict per message."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from openmeter_collector.api import (
    Batch,
    BatchFailed,
    CollectorError,
    Message,
    ProcessingError,
    Rejected,
    field,
    section,
)


@section
class MetadataExclude:
    """Which metadata keys are left out; none unless something is set."""

    exclude_prefixes: list[str] = field(
        default_factory=list, doc="Keys that begin with one of these."
    )

    def select(self, message: Message) -> dict[str, str]:
        """What is left of a message's metadata, as text."""
        prefixes = tuple(self.exclude_prefixes)
        return {
            key: value if isinstance(value, str) else str(value)
            for key, value in message.metadata.items()
            if not prefixes or not key.startswith(prefixes)
        }


async def one_by_one(batch: Batch, write: Callable[[int], Awaitable[None]]) -> None:
    """Write messages in their order; those after one that failed are written all the same.

    Raises:
        BatchFailed: what became of those that failed.
    """
    failed: dict[int, Exception] = {}
    for index in range(len(batch)):
        try:
            await write(index)
        except ProcessingError as error:
            failed[index] = Rejected(str(error))
        except CollectorError as error:
            failed[index] = error
    if failed:
        raise BatchFailed(failed)
