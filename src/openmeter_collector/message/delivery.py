"""What was read together, and how it is acknowledged.

An acknowledgement rides on a delivery, not on a message: on the way a batch is split, merged and
filtered, messages are multiplied and joined, and a message cannot know how many of its descendants
are still under way. `message.settlement` keeps the account from one shape to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from openmeter_collector.errors import BatchFailed
from openmeter_collector.message.message import Batch

Settle = Callable[[Exception | None], None]
"""Called once with None (safe, or delivered) or with what failed.

`BatchFailed` names single messages by their index in the delivery's batch; every other exception
speaks for all of them. Must be quick, must not block, must not raise.
"""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A position in a source that becomes true together with the events read up to it.

    A buffer that can (the journal) commits it in the same transaction as the events. A component
    makes its checkpoints with `Env.state`, which knows the key.

    Attributes:
        term: of the leader on which it was made; 0 without leader election.
    """

    key: str
    value: bytes
    term: int = 0


class Delivery:
    """A batch and the duty to settle it exactly once."""

    __slots__ = ("_settle", "batch", "checkpoints")

    def __init__(
        self, batch: Batch, settle: Settle | None = None, checkpoints: Sequence[Checkpoint] = ()
    ) -> None:
        """Make one.

        Args:
            settle: told the outcome; without it nobody waits for one (a source that cannot be told).
            checkpoints: become true when the whole batch is safe, and not before. The batch may be
                empty: a window without events is done, too.
        """
        self.batch = batch
        self.checkpoints = checkpoints
        self._settle = settle

    def settle(self, failure: Exception | None = None) -> None:
        """Say what became of the batch; a second call is a defect and is ignored.

        Ignoring the second call is deliberate: the first one has been acted upon, and an
        acknowledgement that was given cannot be taken back.
        """
        settle, self._settle = self._settle, None
        if settle is not None:
            settle(failure)

    def tell_also(self, told: Settle) -> None:
        """Have somebody else told the outcome as well, before whoever waits for it."""
        settle = self._settle

        def both(failure: Exception | None) -> None:
            told(failure)
            if settle is not None:
                settle(failure)

        self._settle = both


def by_index(failure: Exception | None, count: int) -> Mapping[int, Exception]:
    """A failure as verdicts per message. Indexes out of range mean the batch as a whole."""
    if failure is None:
        return {}
    if isinstance(failure, BatchFailed):
        if all(0 <= index < count for index in failure.errors):
            return failure.errors
        failure = next(iter(failure.errors.values()))
    return dict.fromkeys(range(count), failure)


def as_failure(errors: Mapping[int, Exception], count: int) -> Exception | None:
    """Verdicts on single messages of a batch as one failure: the error itself where it is the same
    one for all, so that what speaks of the peer (`Paused`, `Overloaded`) is heard as that.
    """
    if not errors:
        return None
    first = next(iter(errors.values()))
    if len(errors) == count and all(error is first for error in errors.values()):
        return first
    return BatchFailed(errors)
