"""A store of positions that several replicas share.

Each value carries the term of the leader that wrote it. Whoever reads in a term writes that term beside
the value (it *seals* it), so that what a former leader still has under way is refused from then on,
however late it comes. Without leader election nothing is compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from openmeter_collector.component.leader import Leadership
from openmeter_collector.errors import Superseded
from openmeter_collector.message import Checkpoint


@dataclass(frozen=True, slots=True)
class Kept:
    """A value and the term it was last touched in."""

    term: int
    value: bytes | None


class Backend(Protocol):
    """Where values are kept."""

    async def read(self, key: str) -> Kept | None:
        """What is kept, None for nothing.

        Raises:
            Retryable: the store does not answer now.
        """

    async def all(self) -> dict[str, Kept]:
        """Everything that is kept, for people to look at.

        Raises:
            Retryable: the store does not answer now.
        """

    async def write(self, changes: Mapping[str, Kept]) -> None:
        """Write all or none; a value of None leaves the value and raises the term only.

        Raises:
            Superseded: something kept is of a higher term (terms of 0 are not compared).
            Retryable: the store does not answer now, or another wrote at the same time.
        """


class SharedStore:
    """See `component.state.StateStore`."""

    def __init__(self, backend: Backend, leadership: Leadership | None) -> None:
        self._backend = backend
        self._leadership = leadership

    async def load(self, key: str) -> bytes | None:
        kept = await self._backend.read(key)
        if self._leadership is not None and kept is not None:
            self._leadership.outrank(kept.term)
        term = self._leadership.fence if self._leadership else 0
        if term and (kept is None or kept.term != term):
            # What another has written in between is read below, after the seal.
            await self._backend.write({key: Kept(term, None)})
            kept = await self._backend.read(key)
        return None if kept is None else kept.value

    async def save(self, checkpoints: list[Checkpoint]) -> None:
        leadership = self._leadership
        if leadership is not None and checkpoints and not leadership.leading:
            raise Superseded("this replica leads no more; another one fetches what is missing")
        await self._backend.write({one.key: Kept(one.term, one.value) for one in checkpoints})


def refuse_older(key: str, kept: Kept | None, written: Kept) -> None:
    """The guard itself.

    Raises:
        Superseded: what is kept is of a higher term.
    """
    if kept is not None and written.term and written.term < kept.term:
        raise Superseded(
            f"position {key!r} is in the hands of the leader of term {kept.term}; "
            f"this replica led in term {written.term}"
        )


def merged(kept: Kept | None, written: Kept) -> Kept:
    """What is kept after a write."""
    known = Kept(0, None) if kept is None else kept
    return Kept(
        max(known.term, written.term), known.value if written.value is None else written.value
    )
