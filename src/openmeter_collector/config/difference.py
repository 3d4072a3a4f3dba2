"""What one difference from the Go collector is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference.

    Attributes:
        about: what it concerns: `output drop_on`, a kind and a name; or an area that concerns every
            config (`files`, `service`, `logs`, `command line`, `delivery`).
        title: what it is about, in a few words.
        there: what the Go collector does.
        here: what this one does.
        why: the reason.
        act: what somebody who moves has to do; empty for nothing.
    """

    about: str
    title: str
    there: str
    here: str
    why: str
    act: str = ""
