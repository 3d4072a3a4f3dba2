"""Messages and the deliveries that carry them and their acknowledgement."""

from openmeter_collector.message.delivery import Checkpoint, Delivery, Settle, as_failure, by_index
from openmeter_collector.message.message import NO_METADATA, Batch, Message, Metadata, Value
from openmeter_collector.message.record_metadata import record_metadata

__all__ = [
    "NO_METADATA",
    "Batch",
    "Checkpoint",
    "Delivery",
    "Message",
    "Metadata",
    "Settle",
    "Value",
    "as_failure",
    "by_index",
    "record_metadata",
]
