"""What a mapping depends on, for people and for planning."""

from __future__ import annotations

from dataclasses import dataclass, field

from openmeter_collector.bloblang.annotate import dotted
from openmeter_collector.bloblang.stability import Unstable, unstable_of
from openmeter_collector.bloblang.survey import document_uses
from openmeter_collector.bloblang.syntax import (
    Function,
    Literal,
    Metadata,
    Method,
    Node,
    Program,
    children,
)


@dataclass(frozen=True)
class Reads:
    """What a mapping reads.

    Attributes:
        paths: dot paths of the document; "" stands for all of it.
        metadata: keys of the metadata; "" stands for all of it.
        env: names of environment variables; "" stands for computed names.
        files: paths of files; "" stands for computed ones.
        batch: whether it looks at other messages of the batch.
        content: whether it looks at the raw bytes.
        unstable: what another run would answer otherwise, and where it is written to.
        ours: names of functions and methods that only this collector has.
    """

    paths: frozenset[str] = frozenset()
    metadata: frozenset[str] = frozenset()
    env: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()
    batch: bool = False
    content: bool = False
    unstable: Unstable = field(default_factory=Unstable)
    ours: frozenset[str] = frozenset()

    @property
    def random(self) -> frozenset[str]:
        """Functions called that give random data or counts, such as `uuid_v4`."""
        kinds = self.unstable.everywhere
        return frozenset(name for name, kind in kinds.items() if kind != "clock")

    @property
    def clock(self) -> frozenset[str]:
        """Functions called that look at the clock, such as `now`."""
        kinds = self.unstable.everywhere
        return frozenset(name for name, kind in kinds.items() if kind == "clock")


def reads_of(program: Program) -> Reads:
    """Look through a program and its maps."""
    paths: set[str] = {dotted(path) for path in document_uses(program.statements).read}
    found: dict[str, set[str]] = {"metadata": set(), "env": set(), "file": set()}
    batch = content = False
    ours: set[str] = set()
    waiting: list[Node] = [*program.statements, *program.maps.values()]
    while waiting:
        node = waiting.pop()
        waiting.extend(children(node))
        if isinstance(node, Literal) and node.written is not None:
            waiting.append(node.written)
        if isinstance(node, (Function, Method)) and node.entry.ours:
            ours.add(node.entry.name)
        if isinstance(node, Metadata):
            found["metadata"].add(node.key)
        elif isinstance(node, Method):
            batch = batch or node.entry.name in ("from", "from_all")
        elif isinstance(node, Function):
            name = node.entry.name
            batch = batch or name in ("batch_size", "batch_index")
            content = content or name == "content"
            kind = {"meta": "metadata", "root_meta": "metadata", "file_rel": "file"}.get(name, name)
            first = node.arguments[0] if node.arguments else None
            known = first is not None and first.node is None
            argument = str(first.value) if known and first is not None else ""
            if kind in found:
                found[kind].add(argument)
            elif name == "json":
                paths.add(argument)
    return Reads(
        frozenset(paths),
        frozenset(found["metadata"]),
        frozenset(found["env"]),
        frozenset(found["file"]),
        batch,
        content,
        unstable_of(program),
        frozenset(ours),
    )
