"""When to try again: one gate per output, so that a peer in trouble is not stormed.

While the peer answers, the gate is open and costs nothing. After a failure it closes: the writers
wait in line, and one at a time goes through as a probe when its time has come. The first success opens
it for everybody. A writer that fails goes to the end of the line, so a batch that only fails by its own
fault does not keep the others from trying.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BackOff:
    """Growing pauses with full jitter over their upper half.

    Attributes:
        initial: seconds before the first repetition.
        longest: seconds that no pause exceeds, unless the peer asks for more.
    """

    initial: float = 0.5
    longest: float = 30.0

    def delay(self, attempt: int, random: float) -> float:
        """Seconds to wait before repetition number `attempt` (from 1); `random` in [0, 1)."""
        full = min(self.longest, self.initial * 2.0 ** min(attempt - 1, 30))
        return full * (0.5 + random / 2)


MOST_RETRY_AFTER = 3600.0
"""A peer may ask us to wait for an hour at most; more is a mistake of somebody's clock."""


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """Permission to try once."""

    generation: int


class Gate:
    """Open while all is well; lets single probes through while not."""

    def __init__(
        self,
        monotonic: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        random: Callable[[], float],
    ) -> None:
        self._monotonic = monotonic
        self._sleep = sleep
        self._random = random
        self._line: deque[asyncio.Future[Pass | None]] = deque()
        self._prober: Pass | None = None
        """Whose turn it is while the gate is closed; nobody else is let in."""
        self._opened = asyncio.Event()
        self._until = 0.0
        self.generation = 0
        """Which round of failures the gate is in; a `Pass` of this round counts when it fails."""
        self.attempts = 0
        """Failed rounds since the last success. Writers that were under way together when the
        trouble began count as one round, or 64 of them would jump to the longest pause at once."""
        self.successes = 0

    @property
    def is_open(self) -> bool:
        """Nothing has failed since the last success."""
        return self.attempts == 0

    async def enter(self) -> Pass:
        """Wait for permission to try."""
        while self.attempts:
            if self._prober is None:
                probe = self._prober = Pass(self.generation)
            elif (handed := await self._turn()) is None:
                continue
            else:
                probe = handed
            try:
                await self._wait_out()
            except BaseException:
                self._end_probe(probe)
                raise
            if self._prober is probe:
                return probe
        return Pass(self.generation)

    async def _turn(self) -> Pass | None:
        """Stand in line until the probe is handed over; None when the gate has opened."""
        turn: asyncio.Future[Pass | None] = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and (probe := turn.result()) is not None:
                self._end_probe(probe)
            raise

    async def _wait_out(self) -> None:
        """Wait until it is time to try again, or until somebody who was under way succeeded."""
        self._opened.clear()
        while self.attempts and (wait := self._until - self._monotonic()) > 0:
            sleeping = asyncio.ensure_future(self._sleep(wait))
            opening = asyncio.ensure_future(self._opened.wait())
            try:
                await asyncio.wait({sleeping, opening}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                sleeping.cancel()
                opening.cancel()

    def succeeded(self) -> None:
        """The peer took something (or refused it for what it is, which is an answer as well)."""
        self.successes += 1
        if not self.attempts:
            return
        self.attempts = 0
        self._prober = None
        self._opened.set()
        while self._line:
            self._tell_next(None)

    def failed(self, entered: Pass, back_off: BackOff, at_least: float | None = None) -> None:
        """The peer is in trouble: close, or stay closed for longer.

        Args:
            at_least: seconds the peer asked us to wait.
        """
        if entered.generation == self.generation:
            self.attempts += 1
            self.generation += 1
            self._until = self._monotonic() + back_off.delay(self.attempts, self._random())
        if at_least is not None:
            # Asked by the peer: it holds even when somebody else got through in the meantime.
            self.attempts = max(self.attempts, 1)
            asked = self._monotonic() + min(at_least, MOST_RETRY_AFTER)
            self._until = max(self._until, asked)
        self._end_probe(entered)

    def abandoned(self, entered: Pass) -> None:
        """A writer that was let in ends without an answer (it was cancelled)."""
        self._end_probe(entered)

    def seconds_to_probe(self) -> float:
        """How long until somebody tries again; 0 when open."""
        return max(0.0, self._until - self._monotonic()) if self.attempts else 0.0

    def _end_probe(self, entered: Pass) -> None:
        # Handed over, not let go: whoever failed would be the first to take it again, while
        # those in line are still waking up, and a batch that always fails would keep it for ever.
        if self._prober is entered:
            probe = Pass(self.generation)
            self._prober = probe if self._tell_next(probe) else None

    def _tell_next(self, probe: Pass | None) -> bool:
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(probe)
                return True
        return False
