"""How an acknowledgement finds its way back through splits, merges and processors.

Pure: no I/O, no clock, no await. Everything here turns deliveries into other deliveries so that

- the original is settled exactly once, after all its descendants were;
- it is settled with None only if every message of it was dealt with;
- a failure names exactly the messages that must be dealt with again, as far as that can be known:
  what cannot be traced to one message speaks for all of them, so nothing is lost by ignorance;
- when descendants of one message fare differently, the one that asks for repetition is heard: the
  final verdict on its sibling comes again, a message that was not repeated would not;
- a message that a processor left out was dealt with (a rule somebody wrote): its verdict is
  `Dropped`, with the rule's name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from itertools import islice
from typing import Self

from openmeter_collector.errors import BatchFailed, CollectorError, Dropped, Final
from openmeter_collector.message import Batch, Delivery, Message, as_failure, by_index


class _Join:
    """Settles a delivery when all that was made of it was settled."""

    __slots__ = ("_delivery", "_errors", "_left")

    def __init__(
        self, delivery: Delivery, units: int, known: Mapping[int, Exception] | None = None
    ) -> None:
        """`known`: what is known about messages that are in no part."""
        self._delivery = delivery
        self._left = units
        self._errors: dict[int, Exception] = dict(known or {})

    def part_done(self, errors: Mapping[int, Exception], units: int = 1) -> None:
        """A part came back; `errors` by index in the joined delivery's batch."""
        for index, error in errors.items():
            _note(self._errors, index, error)
        self._left -= units
        if self._left == 0:
            self._delivery.settle(as_failure(self._errors, len(self._delivery.batch)))


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
        if not isinstance(failure, BatchFailed):
            for delivery in deliveries:
                delivery.settle(failure)
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


def derived(
    delivery: Delivery, results: Sequence[Batch], dropped: Mapping[int, Exception] | None = None
) -> list[Delivery]:
    """The deliveries that processors made of one whose batch was numbered by `entering`.

    No result at all means that rules dropped every message: the delivery is settled at once.

    Args:
        dropped: the verdicts on messages that are in no result, by index.
    """
    results = [batch for batch in results if batch]
    if not results:
        delivery.settle(as_failure(dropped or {}, len(delivery.batch)))
        return []
    join = _Join(delivery, len(results), dropped)
    return [_result(join, batch, len(delivery.batch)) for batch in results]


class Stage:
    """One delivery on its way through processors.

        with Stage(delivery) as stage:
            results = chain.run_sync(stage.batch)
        deliveries = stage.deliveries(results)

    Processors inside may ask to be told what becomes of single messages, see `when_settled`. What
    they left out is settled as `Dropped`, or told to `on_dropped`.

    Attributes:
        batch: what to give to the processors, numbered.
    """

    __slots__ = ("_calls", "_delivery", "_left_out", "_on_dropped", "_token", "batch")

    def __init__(self, delivery: Delivery, on_dropped: OnDropped | None = None) -> None:
        """`on_dropped`: before a buffer, where nobody upstream may mistake a drop for a failure."""
        self._delivery = delivery
        self._on_dropped = on_dropped
        self._calls: list[tuple[int | tuple[int, ...], Told]] = []
        self._left_out: list[tuple[int, str]] = []
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
        delivery = self._watched() if self._calls else self._delivery
        dropped = self._dropped(results) if self._left_out or not any(results) else {}
        if self._on_dropped is not None and dropped:
            for verdict in set(dropped.values()):
                lost = [self.batch[at] for at, one in dropped.items() if one is verdict]
                self._on_dropped(lost, verdict.rule)
            dropped = {}
        return derived(delivery, results, dropped)

    def _dropped(self, results: Sequence[Batch]) -> dict[int, Dropped]:
        """The messages that are in no result, each with the rule that was the last to leave it out."""
        count = len(self.batch)
        there = origins_of(results, count)
        rules = dict(self._left_out)
        verdicts: dict[str, Dropped] = {}
        missing = {}
        for index in range(count):
            if index not in there:
                rule = rules.get(index, "a processor")
                missing[index] = verdicts.setdefault(rule, Dropped(rule))
        return missing

    def _watched(self) -> Delivery:
        delivery = self._delivery
        count = len(delivery.batch)

        def settle(failure: Exception | None) -> None:
            errors = by_index(failure, count)
            calls, self._calls = self._calls, []
            for origin, told in calls:
                found = (
                    errors[one]
                    for one in _origins(origin, count)
                    if one in errors and not isinstance(errors[one], Dropped)
                )
                told(next(found, None))
            delivery.settle(failure)

        return Delivery(delivery.batch, settle, delivery.checkpoints)


Told = Callable[[Exception | None], None]
"""Called once with None (safe, delivered, or dropped) or with what failed; quick, never raises."""

OnDropped = Callable[[Sequence[Message], str], None]
"""Told which messages were left out, and by which rule."""

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


def left_out_as(message: Message, rule: str) -> None:
    """Name the rule by which a processor is about to leave a message out, better than its own name does."""
    stage = _STAGE.get()
    if stage is not None:
        noted = stage._left_out  # noqa: SLF001
        noted += [(index, rule) for index in _origins(message.origin, len(stage.batch))]


class Watch:
    """One processor at work on a batch: notes in the stage what it leaves out.

    watch = Watch()
    results = processor.process(batch)
    watch.left_out(batch, results, "the rule's name")
    """

    __slots__ = ("_before", "_stage")

    def __init__(self) -> None:
        self._stage = _STAGE.get()
        self._before = len(self._stage._left_out) if self._stage is not None else 0  # noqa: SLF001

    def left_out(self, batch: Batch, results: Sequence[Batch], rule: str) -> None:
        """Note which messages are in no result; a rule further inside has named them better."""
        if self._stage is None:
            return
        count = len(self._stage.batch)
        there = origins_of(results, count)
        noted = self._stage._left_out  # noqa: SLF001
        inside = {index for index, _ in noted[self._before :]}
        for index in origins_of([batch], count) - there - inside:
            noted.append((index, rule))


def origins_of(results: Sequence[Batch], entered: int) -> set[int]:
    """Where the messages of some batches stood in the batch that entered the stage."""
    found: set[int] = set()
    for batch in results:
        for message in batch:
            origin = message.origin
            if isinstance(origin, int) and 0 <= origin < entered:
                found.add(origin)
            else:
                found.update(_origins(origin, entered))
    return found


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
