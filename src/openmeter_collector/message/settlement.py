"""How an acknowledgement finds its way back through splits, merges and processors.

Pure: no I/O, no clock, no await. Everything here turns deliveries into other deliveries so that

- the original is settled exactly once, after all its descendants were;
- it is settled with None only if every message of it was dealt with;
- a failure names exactly the messages that must be dealt with again, as far as that can be known:
  what cannot be traced to one message speaks for all of them, so nothing is lost by ignorance;
- when descendants of one message fare differently, the one that asks for repetition is heard: the
  final verdict on its sibling comes again, a message that was not repeated would not;
- a message that a processor left out was dealt with (a rule somebody wrote).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from itertools import islice
from typing import Self

from openmeter_collector.errors import BatchFailed, CollectorError, Final
from openmeter_collector.message import Batch, Delivery, Message, by_index


class _Join:
    """Settles a delivery when all that was made of it was settled."""

    __slots__ = ("_delivery", "_errors", "_left")

    def __init__(self, delivery: Delivery, units: int) -> None:
        self._delivery = delivery
        self._left = units
        self._errors: dict[int, Exception] = {}

    def part_done(self, errors: Mapping[int, Exception], units: int = 1) -> None:
        """A part came back; `errors` by index in the joined delivery's batch."""
        for index, error in errors.items():
            _note(self._errors, index, error)
        self._left -= units
        if self._left == 0:
            self._delivery.settle(BatchFailed(self._errors) if self._errors else None)


class Carver:
    """Cuts a delivery into pieces of whatever size is wanted next, in order."""

    __slots__ = ("_at", "_delivery", "_join")

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        self._at = 0
        self._join = _Join(delivery, len(delivery.batch))

    @property
    def left(self) -> int:
        """Messages that have not been cut off yet."""
        return len(self._delivery.batch) - self._at

    def upcoming(self) -> Iterator[Message]:
        """The messages that have not been cut off yet, in order."""
        return islice(self._delivery.batch, self._at, None)

    def take(self, count: int) -> Delivery:
        """Cut off the next `count` messages (all that are left, when they are fewer, or when the
        delivery has checkpoints).
        """
        start = self._at
        # A checkpoint speaks for the whole batch, so the two stay together.
        if start == 0 and (count >= len(self._delivery.batch) or self._delivery.checkpoints):
            self._at = len(self._delivery.batch)
            return self._delivery
        batch = self._delivery.batch[start : start + count]
        self._at += len(batch)
        join = self._join

        def settle(failure: Exception | None) -> None:
            verdicts = by_index(failure, len(batch))
            join.part_done({start + at: error for at, error in verdicts.items()}, len(batch))

        return Delivery(batch, settle)


def split(delivery: Delivery, size: int) -> list[Delivery]:
    """Cut into deliveries of at most `size` messages, in order."""
    carver = Carver(delivery)
    parts = []
    while carver.left:
        parts.append(carver.take(size))
    return parts


def merge(deliveries: Sequence[Delivery]) -> Delivery:
    """Put several together; each is told about its own messages."""
    if len(deliveries) == 1:
        return deliveries[0]
    batch = [message for delivery in deliveries for message in delivery.batch]
    checkpoints = [one for delivery in deliveries for one in delivery.checkpoints]

    def settle(failure: Exception | None) -> None:
        if failure is None:
            for delivery in deliveries:
                delivery.settle(None)
            return
        errors = by_index(failure, len(batch))
        start = 0
        for delivery in deliveries:
            end = start + len(delivery.batch)
            own = {index - start: error for index, error in errors.items() if start <= index < end}
            delivery.settle(BatchFailed(own) if own else None)
            start = end

    return Delivery(batch, settle, checkpoints)


def entering(batch: Batch) -> Batch:
    """Number the messages, before processors run, so that `derived` can trace their results."""
    return [message.at(index) for index, message in enumerate(batch)]


def derived(delivery: Delivery, results: Sequence[Batch]) -> list[Delivery]:
    """The deliveries that processors made of one whose batch was numbered by `entering`.

    No result at all means that rules dropped every message: the delivery is settled at once.
    """
    results = [batch for batch in results if batch]
    if not results:
        delivery.settle(None)
        return []
    join = _Join(delivery, len(results))
    return [_result(join, batch, len(delivery.batch)) for batch in results]


class Stage:
    """One delivery on its way through processors.

        with Stage(delivery) as stage:
            results = chain.run_sync(stage.batch)
        deliveries = stage.deliveries(results)

    Processors inside may ask to be told what becomes of single messages, see `when_settled`.

    Attributes:
        batch: what to give to the processors, numbered.
    """

    __slots__ = ("_calls", "_delivery", "_token", "batch")

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        self._calls: list[tuple[int | tuple[int, ...], Told]] = []
        self.batch = entering(delivery.batch)

    def __enter__(self) -> Self:
        self._token = _STAGE.set(self)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        _STAGE.reset(self._token)
        if error is not None:
            self.abandon(error if isinstance(error, Exception) else Cancelled(str(error)))

    def watch(self, origin: int | tuple[int, ...], told: Told) -> None:
        """Call `told` once with the verdict on the messages that entered at `origin`."""
        self._calls.append((origin, told))

    def abandon(self, error: Exception) -> None:
        """What came of it is not handed on: nobody will settle it."""
        calls, self._calls = self._calls, []
        for _, told in calls:
            told(error)

    def deliveries(self, results: Sequence[Batch]) -> list[Delivery]:
        """What the processors made of it; see `derived`."""
        return derived(self._watched() if self._calls else self._delivery, results)

    def _watched(self) -> Delivery:
        delivery = self._delivery
        count = len(delivery.batch)

        def settle(failure: Exception | None) -> None:
            errors = by_index(failure, count)
            calls, self._calls = self._calls, []
            for origin, told in calls:
                found = (errors[one] for one in _origins(origin, count) if one in errors)
                told(next(found, None))
            delivery.settle(failure)

        return Delivery(delivery.batch, settle, delivery.checkpoints)


Told = Callable[[Exception | None], None]
"""Called once with None (safe, or delivered) or with what failed; quick, and never raises."""

_STAGE: ContextVar[Stage | None] = ContextVar("stage", default=None)


class Cancelled(CollectorError):
    """A delivery was given up before it was handed on."""


def when_settled(message: Message, told: Told) -> bool:
    """Have `told` called when the fate of a message is known that a processor is working on.

    What is known is the fate of the message that entered the list of processors, with all that is
    made of it: stored, if they stand before a buffer, delivered, if they stand behind it.

    Returns:
        False if there is no delivery: a list of processors run by itself, such as in a test of a
        config. `told` will then not be called.
    """
    stage = _STAGE.get()
    if stage is None:
        return False
    stage.watch(message.origin, told)
    return True


def _result(join: _Join, batch: Batch, entered: int) -> Delivery:
    def settle(failure: Exception | None) -> None:
        errors: dict[int, Exception] = {}
        for index, error in by_index(failure, len(batch)).items():
            for origin in _origins(batch[index].origin, entered):
                _note(errors, origin, error)
        join.part_done(errors)

    return Delivery(batch, settle)


def _note(errors: dict[int, Exception], index: int, error: Exception) -> None:
    """Put down what happened to a message, beside what is known about it already."""
    known = errors.get(index)
    if known is None or known is error:
        errors[index] = error
    elif isinstance(known, Final):
        errors[index] = known.joined(error) if isinstance(error, Final) else error


def _origins(origin: int | tuple[int, ...], entered: int) -> Sequence[int]:
    if isinstance(origin, tuple):
        known = [one for one in origin if 0 <= one < entered]
        return known if known and len(known) == len(origin) else range(entered)
    return (origin,) if 0 <= origin < entered else range(entered)
