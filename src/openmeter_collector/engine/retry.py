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


@dataclass(frozen=True, slots=True)
class Pass:
    """Permission to try once."""

    generation: int
    probe: bool


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
        self._line: deque[asyncio.Future[None]] = deque()
        self._probing = False
        self._until = 0.0
        self._pass = Pass(0, probe=False)
        self.attempts = 0
        """Failed rounds since the last success. Writers that were under way together when the
        trouble began count as one round, or 64 of them would jump to the longest pause at once."""
        self.successes = 0

    @property
    def generation(self) -> int:
        """Which round of failures the gate is in; a `Pass` of this round counts when it fails."""
        return self._pass.generation

    @property
    def is_open(self) -> bool:
        """Nothing has failed since the last success."""
        return self.attempts == 0

    async def enter(self) -> Pass:
        """Wait for permission to try."""
        while self.attempts:
            if self._probing:
                turn = asyncio.get_running_loop().create_future()
                self._line.append(turn)
                try:
                    await turn
                except asyncio.CancelledError:
                    if turn.done() and not turn.cancelled():
                        self._next_in_line()
                    raise
                continue
            self._probing = True
            try:
                while (wait := self._until - self._monotonic()) > 0:
                    await self._sleep(wait)
            except BaseException:
                self._end_probe()
                raise
            return Pass(self._pass.generation, probe=True)
        return self._pass

    def succeeded(self) -> None:
        """The peer took something (or refused it for what it is, which is an answer as well)."""
        self.successes += 1
        if not self.attempts:
            return
        self.attempts = 0
        self._probing = False
        while self._line:
            self._next_in_line()

    def failed(self, entered: Pass, back_off: BackOff, at_least: float | None = None) -> None:
        """The peer is in trouble: close, or stay closed for longer.

        Args:
            at_least: seconds the peer asked us to wait.
        """
        if entered.generation == self._pass.generation:
            self.attempts += 1
            self._pass = Pass(entered.generation + 1, probe=False)
            self._until = self._monotonic() + back_off.delay(self.attempts, self._random())
        if at_least is not None:
            asked = self._monotonic() + min(at_least, MOST_RETRY_AFTER)
            self._until = max(self._until, asked)
        if entered.probe:
            self._end_probe()

    def abandoned(self, entered: Pass) -> None:
        """A writer that was let in ends without an answer (it was cancelled)."""
        if entered.probe:
            self._end_probe()

    def seconds_to_probe(self) -> float:
        """How long until somebody tries again; 0 when open."""
        return max(0.0, self._until - self._monotonic()) if self.attempts else 0.0

    def _end_probe(self) -> None:
        self._probing = False
        self._next_in_line()

    def _next_in_line(self) -> None:
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(None)
                return
