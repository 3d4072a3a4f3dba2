"""The exceptions of the collector, and what the engine does with each.

    CollectorError
    ├── ConfigError        the configuration is wrong: do not start, exit code 1
    ├── Disconnected       a peer went away: open again, with back-off
    ├── Retryable          the attempt failed, the data may be fine: back off with jitter, for ever
    │   └── Overloaded     slow down: as Retryable, but not before `retry_after` seconds
    ├── Paused             the peer refuses *us* (401, 403, 404): keep all, shout, probe slowly
    ├── Rejected           this data can never be accepted: never retried, becomes a dead letter
    ├── BatchFailed        several verdicts at once, one per failed message of a batch
    ├── Final              nothing is to be repeated
    │   ├── Dropped        a rule that somebody wrote let it go: counted, and dealt with
    │   └── Undeliverable  the verdict that ends in a dead letter (in `component.buffer`)
    │   └── Superseded     another replica leads now: what this one still had is the other's to fetch
    ├── EndOfInput         an input has nothing more to give: finish in order
    ├── Unreadable         a source is not what its scanner reads: the input keeps it and says so
    └── StorageError       the journal cannot be read or written

What to do is decided by the type, never by matching text. An exception that is none of these is a
defect of the component that raised it; the engine treats it as Retryable, so nothing is lost by it.
Texts have the form `<where>: <what was found>; <what was expected or what to do>`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class CollectorError(Exception):
    """Root of everything the collector raises on purpose."""


class ConfigError(CollectorError):
    """The configuration cannot be run.

    Attributes:
        problems: every fault found, one finished line of text each, in order of position.
    """

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems: tuple[str, ...] = (
            (problems,) if isinstance(problems, str) else tuple(problems)
        )
        super().__init__("\n".join(self.problems))


class Disconnected(CollectorError):
    """The connection a component held is gone; its life must be opened again."""


class Retryable(CollectorError):
    """The attempt failed in a way that may pass: a timeout, a reset, an answer of 5xx."""


class Overloaded(Retryable):
    """The other side asks us to slow down (429, 503), or we ask it of a sender.

    Attributes:
        retry_after: seconds to wait at least before the next attempt, None when not told.
    """

    def __init__(self, text: str, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(text)


class Paused(CollectorError):
    """The peer refuses us rather than our data: a wrong token, address or permission.

    Nothing is dropped and nothing becomes a dead letter; the engine tries again slowly.
    """


class Rejected(CollectorError):
    """The data itself was refused for good (400, 413, 422) and must not be sent again as it is.

    Attributes:
        response: what the peer answered, bounded, for the dead letter; empty when it said nothing.
    """

    def __init__(self, text: str, response: str = "") -> None:
        self.response = response
        super().__init__(text)


class BatchFailed(CollectorError):
    """Some messages of a batch failed; those not named were dealt with.

    Attributes:
        errors: index in the batch that was handed over -> what happened to that message.
    """

    def __init__(self, errors: Mapping[int, Exception]) -> None:
        self.errors = dict(errors)
        first = next(iter(self.errors.values()), None)
        super().__init__(f"{len(self.errors)} messages failed; the first: {first}")


class ProcessingError(CollectorError):
    """Why a processor flagged a message. Carried by the message (`Message.error`), never raised.

    Attributes:
        name: the processor's type, such as `json_schema`.
        label: its label, empty when it has none.
        path: where it stands in the config.
    """

    def __init__(self, text: str, name: str = "", label: str = "", path: str = "") -> None:
        self.name, self.label, self.path = name, label, path
        super().__init__(text)


class Final(CollectorError):
    """A verdict that asks for no repetition: the message is dealt with, though not delivered."""

    def joined(self, other: Final) -> Final:
        """The verdict on a message when two of its descendants came to their end separately."""
        raise NotImplementedError


class Dropped(Final):
    """Let go by a rule that somebody wrote: a filter, `drop`, `drop_on`.

    Attributes:
        rule: where the rule is, in the words of the config; it names the drop in the books.
    """

    def __init__(self, rule: str) -> None:
        self.rule = rule
        super().__init__(f"dropped by {rule}")

    def joined(self, other: Final) -> Final:
        # Of two descendants the one with the worse fate speaks for the message.
        return self if isinstance(other, Dropped) else other


class DuplicateRule(str):
    """The name of a rule that lets events go because they came before: the books say so, too."""

    __slots__ = ()


class Superseded(Final):
    """Another replica leads: a position of ours may not be advanced by this one any more."""

    def joined(self, other: Final) -> Final:
        del other
        return self


class EndOfInput(CollectorError):
    """An input has given everything it had."""


class Unreadable(CollectorError):
    """The bytes of a source cannot be taken apart from some place on.

    An input that has other sources says it in the log, does not acknowledge this one to its owner,
    and goes on with the next; one that has not lets it end the pipeline.
    """


class StorageError(CollectorError):
    """The journal cannot be read or written; nothing it did not confirm is safe."""


def install_extra(name: str) -> str:
    """What to do when a library is not installed: the end of an error about it."""
    return f"pip install 'openmeter-collector[{name}]' (in the source tree: ./dev extra {name})"
