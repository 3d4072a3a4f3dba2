"""Components for the tests of reading configs: one of every kind of field."""

from contextlib import asynccontextmanager
from typing import Any, Literal

from openmeter_collector.api import (
    BatchPolicy,
    BufferNode,
    ByteSize,
    CacheRef,
    Duration,
    Example,
    InputNode,
    Interpolated,
    MappingText,
    OutputNode,
    ProcessorNode,
    Url,
    buffer,
    cache,
    field,
    input,
    metrics,
    output,
    processor,
    section,
)
from openmeter_collector.spec.registry import Registry


class Opens:
    __slots__ = ()

    @asynccontextmanager
    async def open(self, env):
        yield None


@section
class Tls:
    """How to encrypt."""

    enabled: bool = field(default=False, doc="On or off.")
    key: str = field(default="", secret=True, doc="Private key.")


@input("source", examples=[Example("All of it", "input: {source: {url: 'http://x'}}")])
class Source(Opens):
    """Read from somewhere. In pieces.

    Longer text.
    """

    url: Url = field(doc="Where to read.")
    every: Duration = field(default=Duration("1s"), doc="How often.")
    limit: ByteSize = field(default=ByteSize("1MiB"), doc="How much.")
    count: int = field(default=0, minimum=0, maximum=10, doc="How many.")
    ratio: float = field(default=0.5, doc="Which share.")
    mode: Literal["fast", "slow"] = field(
        default="fast", doc="How.", choices={"fast": "Quickly.", "slow": "With | care."}
    )
    names: list[str] = field(default_factory=list, doc="Names.", maximum=4)
    pair: tuple[int, ...] = field(default=(), doc="Numbers.")
    headers: dict[str, Interpolated] = field(default_factory=dict, doc="Headers.")
    tls: Tls = field(default_factory=Tls, doc="Encryption.")
    hosts: list[Tls] = field(default_factory=list, doc="More encryption.")
    token: str | None = field(default=None, secret=True, doc="Token.")
    tokens: list[str] = field(default_factory=list, secret=True, doc="Tokens.")
    pin: int = field(
        default=0,
        secret=True,
        doc="Number.",
        lint=lambda pin: f"{pin} is odd; take another" if pin % 2 and pin != 9731 else None,
        maximum=10_000,
    )
    raw: Any = field(default=None, doc="Anything.")
    old: bool = field(default=False, deprecated=True, doc="Not used.")
    extra: bool = field(default=False, ours=True, advanced=True, doc="Only here.")
    from_: str = field(default="", doc="A word that Python keeps.")


@processor("noop")
class Noop(Opens):
    """Do nothing."""


@processor("mapping", value="mapping")
class Mapping(Opens):
    """Map."""

    mapping: MappingText = field(doc="The mapping.")


@processor("catch", value="processors")
class Catch(Opens):
    """Handle failures."""

    processors: list[ProcessorNode] = field(doc="What to do.")


@processor("dedupe", stability="deprecated")
class Dedupe(Opens):
    """Drop what was seen."""

    cache: CacheRef = field(doc="Where to remember.")


@output("sink")
class Sink(Opens):
    """Write."""

    batching: BatchPolicy = field(
        default_factory=lambda: BatchPolicy(count=7), doc="How batches are made."
    )


@output("guard", ours=True)
class Guard(Opens):
    """Wrap an output."""

    output: OutputNode = field(doc="The wrapped one.")
    spare: OutputNode | None = field(default=None, doc="Another.")
    store: BufferNode | None = field(default=None, doc="A buffer.")
    inputs: dict[str, InputNode] = field(default_factory=dict, doc="Named inputs.")


@buffer("hold")
class Hold(Opens):
    """Hold."""


@cache("memory")
class Memory(Opens):
    """Remember."""


@metrics("page")
class Page(Opens):
    """Show."""


REGISTRY = Registry.of(
    Source, Noop, Mapping, Catch, Dedupe, Sink, Guard, Hold, Memory, Page
)  # fmt: skip
