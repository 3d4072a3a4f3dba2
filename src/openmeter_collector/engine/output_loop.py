"""Takes deliveries out of the buffer, through the processors, to the output, until each is settled.

What an output raises decides (see `errors`): a refused batch is halved until the refused event is
alone, which then becomes a dead letter while its neighbours are delivered; a refusal of ourselves
pauses everything and is said aloud; trouble on the way is repeated with growing pauses, for ever.
Nothing is dropped here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from openmeter_collector.component.buffer import Buffer, DeadLetter, KeepsSent, Undeliverable
from openmeter_collector.component.env import Chain, Env
from openmeter_collector.component.output import Output
from openmeter_collector.engine.batching import Batcher, Policy
from openmeter_collector.engine.chain import through
from openmeter_collector.engine.halving import narrowed
from openmeter_collector.engine.latency import Latency
from openmeter_collector.engine.retry import BackOff, Gate, Pass
from openmeter_collector.errors import (
    BatchFailed,
    Disconnected,
    Dropped,
    EndOfInput,
    Final,
    Overloaded,
    Paused,
    Rejected,
    Retryable,
)
from openmeter_collector.message import Batch, Delivery, as_failure, by_index

_SMALLER_EVERY = 4
_PAUSED = BackOff(initial=5.0, longest=60.0)


MOST_UNDER_WAY = 16_384
"""Messages that writes may hold at a time, unless `count` and `max_in_flight` ask for more."""


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """How the loop drives one output.

    Attributes:
        max_in_flight: concurrent writes.
        repeat: keep trying until delivered; False passes failures back to the buffer at once
            (without a buffer the sender is told and repeats).
        name: how messages and dead letters name the output.
    """

    policy: Policy
    max_in_flight: int
    repeat: bool = True
    back_off: BackOff = field(default_factory=BackOff)
    name: str = "output"


@dataclass(slots=True)
class DeliveryState:
    """What health and the live page say about delivery."""

    last_success: float = 0.0
    """Unix seconds; 0 before the first."""
    last_failure: float = 0.0
    last_error: str = ""
    last_refused: float = 0.0
    last_refusal: str = ""
    """Why an event was refused for good; that is no failure of delivery."""
    paused: bool = False
    delivered: int = 0
    in_flight: int = 0


@dataclass(slots=True)
class _Piece:
    """Messages of a batch that are tried together."""

    indexes: Sequence[int]
    attempts: int = 0
    first_attempt: float = 0.0
    seen_successes: int = -1


class OutputLoop:
    """Drives one output. Belongs to one event loop."""

    def __init__(
        self,
        env: Env,
        buffer: Buffer,
        chain: Chain,
        output: Output,
        batch_chain: Chain,
        options: OutputOptions,
        waits: Latency | None = None,
    ) -> None:
        """Take what it works with.

        Args:
            chain: the pipeline's processors.
            batch_chain: those of the batching policy.
            waits: times what the buffer gives out.
        """
        self._waits = waits
        self._env = env
        self._buffer = buffer
        self._keep = buffer.sent if isinstance(buffer, KeepsSent) and buffer.keeps_sent else None
        self._chain = chain
        self._output = output
        self._batch_chain = batch_chain
        self._options = options
        self.gate = Gate(env.monotonic, env.sleep, env.random)
        self.state = DeliveryState()
        metrics = env.metrics
        created = {
            mechanism: metrics.counter(
                "batch_created", "Batches cut, by reason.", mechanism=mechanism
            )
            for mechanism in ("count", "size", "period", "check")
        }
        cap = options.policy.count or 4096
        # Without a count, each of many writes would take all there is: what is under way is bounded
        # then, or a slow output would hold a whole source in memory.
        self._most = max(options.policy.count * options.max_in_flight, MOST_UNDER_WAY)
        self._under_way = 0
        self._fewer = asyncio.Event()
        self._batcher = Batcher(
            options.policy,
            env.monotonic,
            capacity=2 * cap,
            created=lambda mechanism: created[mechanism].add(),
        )
        self._sent = metrics.counter("output_sent", "Messages delivered.")
        self._batch_sent = metrics.counter("output_batch_sent", "Batches delivered.")
        self._errors = metrics.counter("output_error", "Failed attempts to write.")
        self._rejected = metrics.counter("output_rejected", "Messages refused for good.")
        self._dropped = metrics.counter(
            "output_dropped", "Messages that an output let go by a rule."
        )

    async def run(self) -> None:
        """Until the buffer is drained, or cancelled (then what is unsettled stays in the buffer)."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._feed(), name="output-feed")
            for number in range(self._options.max_in_flight):
                tasks.create_task(self._work(), name=f"output-{number}")

    def hurry(self) -> None:
        """The end is near: no message waits for company any more."""
        self._batcher.hurry()

    async def _feed(self) -> None:
        try:
            while True:
                await self._batcher.room()
                while self._under_way >= self._most:
                    self._fewer.clear()
                    await self._fewer.wait()
                delivery = await self._buffer.read()
                if self._waits is not None:
                    self._waits.watch(delivery)
                for one in await through(self._chain, delivery):
                    self._batcher.add(one)
        except EndOfInput:
            self._batcher.close()

    async def _work(self) -> None:
        while True:
            try:
                batch = await self._batcher.take()
            except EndOfInput:
                return
            count = len(batch.batch)
            self.state.in_flight += 1
            self._under_way += count
            try:
                if self._batch_chain.empty:
                    await self._deliver(batch)
                else:
                    await self._deliver_made(batch)
            finally:
                self.state.in_flight -= 1
                self._under_way -= count
                self._fewer.set()
                # Whoever waits for the next batch must not hold the last one in memory meanwhile.
                del batch

    async def _deliver_made(self, delivery: Delivery) -> None:
        """Deliver what the batching policy's processors make of a batch.

        An `archive` there makes one message of many. When that is refused, its sources are halved
        and archived anew until the bad one is alone: its neighbours are no part of its verdict.
        """
        verdicts = await narrowed(delivery.batch, self._attempt_made, Undeliverable)
        delivery.settle(as_failure(verdicts, len(delivery.batch)))

    async def _attempt_made(self, batch: Batch) -> Exception | None:
        outcome: list[Exception | None] = []
        for made in await through(self._batch_chain, Delivery(batch, outcome.append)):
            await self._deliver(made)
        failure = outcome[0]
        if len(batch) == 1:
            verdict = by_index(failure, 1).get(0)
            if isinstance(verdict, Undeliverable):  # its letter is about the event, not its archive
                return Undeliverable(*(replace(one, message=batch[0]) for one in verdict.letters))
        return failure

    async def _deliver(self, delivery: Delivery) -> None:
        batch = delivery.batch
        verdicts: dict[int, Exception] = {}
        pieces = deque([_Piece(range(len(batch)))])
        while pieces:
            piece = pieces.popleft()
            try:
                entered = await self.gate.enter()
                await self._write(batch, piece, entered)
            except asyncio.CancelledError:
                pieces.append(piece)
                _settle_what_was_answered(delivery, pieces, verdicts)
                raise
            except Rejected as error:
                self._refused(batch, piece, error, pieces, verdicts)
            except Dropped as error:
                verdicts.update(dict.fromkeys(piece.indexes, error))
            except BatchFailed as error:
                self._mixed(batch, piece, error, pieces, verdicts)
            except Exception as error:  # noqa: BLE001 - whatever it was, the data is still ours
                self._again(piece, error, pieces, verdicts)
        delivery.settle(as_failure(verdicts, len(batch)))

    async def _write(self, batch: Batch, piece: _Piece, entered: Pass) -> None:
        indexes = piece.indexes
        whole = len(indexes) == len(batch)
        messages = batch if whole else [batch[index] for index in indexes]
        piece.attempts += 1
        piece.first_attempt = piece.first_attempt or self._env.now()
        piece.seen_successes = self.gate.successes
        try:
            await self._output.write(messages)
        except asyncio.CancelledError:
            self.gate.abandoned(entered)
            raise
        except Rejected:
            # An answer about the data: the way to the peer is fine.
            self._errors.add()
            self._answered()
            raise
        except Dropped:
            # Written, as far as this output is concerned; dashboards count it so.
            self._sent.add(len(messages))
            self._batch_sent.add()
            self._dropped.add(len(messages))
            self._answered()
            raise
        except BatchFailed as error:
            self._errors.add()
            self._partly_answered(error, len(messages), entered)
            raise
        except Paused as error:
            self._errors.add()
            self._shout(error)
            self.gate.failed(entered, _PAUSED)
            raise
        except Exception as error:
            self._errors.add()
            self._trouble(error)
            asked = error.retry_after if isinstance(error, Overloaded) else None
            self.gate.failed(entered, self._options.back_off, asked)
            raise
        if self._keep is not None:
            self._keep(messages)
        self._sent.add(len(messages))
        self._batch_sent.add()
        self.state.delivered += len(messages)
        self.state.last_success = self._env.now()
        self._answered()

    # ---- verdicts ----------------------------------------------------------------------------

    def _refused(
        self,
        batch: Batch,
        piece: _Piece,
        error: Rejected,
        pieces: deque[_Piece],
        verdicts: dict[int, Exception],
    ) -> None:
        """Halve; alone, it is dead. Costs at most 2 log2(n) + 1 writes per bad message."""
        if len(piece.indexes) > 1:
            pieces.extendleft(reversed(_halves(piece)))
            return
        index = piece.indexes[0]
        self._rejected.add()
        self.state.last_refused = self._env.now()
        self.state.last_refusal = str(error)
        verdicts[index] = Undeliverable(
            DeadLetter(
                message=batch[index],
                reason=str(error),
                response=error.response,
                attempts=piece.attempts,
                first_attempt=piece.first_attempt,
                last_attempt=self.state.last_refused,
                output=self._options.name,
            )
        )

    def _mixed(
        self,
        batch: Batch,
        piece: _Piece,
        failed: BatchFailed,
        pieces: deque[_Piece],
        verdicts: dict[int, Exception],
    ) -> None:
        """The output could tell its messages apart: those not named are delivered."""
        if not all(0 <= at < len(piece.indexes) for at in failed.errors):
            # It names messages that were not there: taken as speaking for all of them.
            error = next(iter(failed.errors.values()))
            if isinstance(error, Rejected):
                self._refused(batch, piece, error, pieces, verdicts)
            else:
                self._again(piece, error, pieces, verdicts)
            return
        repeat: list[int] = []
        last: Exception = failed
        for at, error in failed.errors.items():
            index = piece.indexes[at]
            if isinstance(error, Final):
                verdicts[index] = error
                self._dropped.add(isinstance(error, Dropped))
            elif isinstance(error, Rejected):
                alone = _Piece([index], piece.attempts, piece.first_attempt)
                self._refused(batch, alone, error, pieces, verdicts)
            else:
                repeat.append(index)
                last = error
        delivered = len(piece.indexes) - len(failed.errors)
        self._sent.add(delivered)
        self.state.delivered += delivered
        if delivered:
            self.state.last_success = self._env.now()
            if self._keep is not None:
                self._keep(
                    [batch[one] for at, one in enumerate(piece.indexes) if at not in failed.errors]
                )
        if repeat:
            rest = _Piece(sorted(repeat), piece.attempts, piece.first_attempt, piece.seen_successes)
            self._again(rest, last, pieces, verdicts)

    def _again(
        self,
        piece: _Piece,
        error: Exception,
        pieces: deque[_Piece],
        verdicts: dict[int, Exception],
    ) -> None:
        if not self._options.repeat:
            verdicts.update(dict.fromkeys(piece.indexes, error))
            return
        # Others got through between two failures of this one: the fault is in it, not on the way.
        # Smaller pieces find where, and lose less to an answer that never comes.
        its_own = (
            piece.attempts > 1
            and not isinstance(error, Paused)
            and self.gate.successes > piece.seen_successes
        )
        # Nobody gets through: perhaps because all that is under way is too much at a time. Pieces
        # of a batch that gets no answer are made smaller now and then; one probe at a time is
        # under way then, so this costs the peer nothing.
        no_answer = not isinstance(error, Paused | Overloaded)
        tired = no_answer and piece.attempts % _SMALLER_EVERY == 0
        if (its_own or tired) and len(piece.indexes) > 1:
            pieces.extend(_halves(piece))
        else:
            pieces.append(piece)

    def _partly_answered(self, failed: BatchFailed, count: int, entered: Pass) -> None:
        """What verdicts on single messages say about the way to the peer."""
        trouble = [one for one in failed.errors.values() if not isinstance(one, Rejected | Final)]
        if len(trouble) < count:
            self._answered()
            entered = Pass(self.gate.generation)
        if trouble:
            waits = [one.retry_after or 0.0 for one in trouble if isinstance(one, Overloaded)]
            self._trouble(trouble[-1])
            self.gate.failed(entered, self._options.back_off, max(waits, default=None))

    # ---- saying so ---------------------------------------------------------------------------

    def _answered(self) -> None:
        if not self.gate.is_open:
            self._env.log.info(
                "delivery recovered", failed_attempts=self.gate.attempts, paused=self.state.paused
            )
        self.state.paused = False
        self.gate.succeeded()

    def _trouble(self, error: Exception) -> None:
        self.state.last_failure = self._env.now()
        self.state.last_error = str(error)
        if self.gate.is_open:
            kind = "connection lost" if isinstance(error, Disconnected) else "delivery failed"
            self._env.log.warning(f"{kind}, backing off", error=str(error))

    def _shout(self, error: Paused) -> None:
        self.state.last_failure = self._env.now()
        self.state.last_error = str(error)
        if not self.state.paused:
            self.state.paused = True
            self._env.log.error(
                "delivery paused: we are refused, nothing is lost", error=str(error)
            )


def _settle_what_was_answered(
    delivery: Delivery, pieces: deque[_Piece], verdicts: dict[int, Exception]
) -> None:
    """The end came in the middle of a batch: pieces that were answered must not be sent again."""
    unanswered = [index for piece in pieces for index in piece.indexes]
    if len(unanswered) < len(delivery.batch):
        rest: dict[int, Exception] = dict.fromkeys(
            unanswered, Retryable("stopped before an answer")
        )
        delivery.settle(as_failure(verdicts | rest, len(delivery.batch)))


def _halves(piece: _Piece) -> list[_Piece]:
    middle = len(piece.indexes) // 2
    return [
        _Piece(part, piece.attempts, piece.first_attempt)
        for part in (piece.indexes[:middle], piece.indexes[middle:])
    ]
