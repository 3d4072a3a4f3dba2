"""Which of several replicas does what only one may do."""

from __future__ import annotations

from typing import Protocol


class Leadership(Protocol):
    """What this replica knows of its own leadership. Times are those of a local clock: nothing here
    depends on the clocks of other machines.
    """

    @property
    def leading(self) -> bool:
        """This replica leads, as far as can be known without asking: false from the moment on at which
        another one may have been elected.
        """

    @property
    def term(self) -> int:
        """Number of the present leadership, or of the last one; each is higher than all before it."""

    @property
    def fence(self) -> int:
        """What positions are written with: the term, or more if terms once were higher."""

    def outrank(self, term: int) -> None:
        """A leader of that term has written something, and we lead now: the count began anew in between
        (somebody deleted the lease). From now on `fence` is higher.
        """

    async def wait(self) -> int:
        """Return when this replica leads, with the term."""

    async def lost(self, term: int) -> None:
        """Return when the leadership of that term has ended."""
