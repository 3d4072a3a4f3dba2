"""Which parts of the document a mapping reads, and how often."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from openmeter_collector.bloblang.syntax import (
    Bracket,
    Field,
    Lambda,
    Match,
    Method,
    Node,
    children,
)

Path = tuple[str, ...]


@dataclass
class DocumentUse:
    """What is read of the document.

    Attributes:
        any: whether it is read at all.
        single: whether a path of one segment is read.
        paths: paths that are worth reading once for several uses, with their number.
        read: every path that is read.
    """

    any: bool = False
    single: bool = False
    paths: dict[Path, int] = field(default_factory=dict)
    read: set[Path] = field(default_factory=set)


@dataclass(frozen=True)
class _Scope:
    """Whether `this`, the value before it and the lambdas' parameters are the document."""

    this: bool = True
    previous: bool = True
    names: frozenset[str] = frozenset()


def document_uses(nodes: tuple[Node, ...], *, in_map: bool = False) -> DocumentUse:
    """Look at code that starts with `this` as the document; in a map it starts without."""
    use = DocumentUse()
    counts: dict[Path, int] = {}
    waiting = [(node, _Scope(this=not in_map)) for node in nodes]
    while waiting:
        node, scope = waiting.pop()
        match node:
            case Field(context=context, path=path):
                if scope.this if context == "this" else context in scope.names:
                    _count(use, counts, path)
                continue
            case Lambda(name=name, body=body):
                use.any = use.any or scope.this
                names = scope.names | {name} if scope.this else scope.names - {name}
                waiting.append((body, _Scope(scope.previous, True, names)))
                continue
            case Bracket(target=target, body=body):
                waiting.append((target, scope))
                waiting.append((body, replace(scope, this=False, previous=scope.this)))
                continue
            case Match(subject=subject, cases=cases):
                if subject is None:
                    use.any = use.any or scope.this
                else:
                    waiting.append((subject, scope))
                inner = replace(scope, this=False, previous=scope.this)
                waiting.extend((part, inner) for case in cases for part in case if part)
                continue
            case Method(target=target, entry=entry, arguments=arguments):
                waiting.append((target, scope))
                inner = replace(scope, this=False, previous=scope.this)
                for param, argument in zip(entry.params, arguments, strict=False):
                    if argument.node is not None:
                        query = param.is_query and entry.name != "or"
                        waiting.append((argument.node, inner if query else scope))
                if entry.variadic:
                    waiting.extend((one.node, scope) for one in arguments if one.node)
                continue
        waiting.extend((child, scope) for child in children(node))
    use.paths = _worthwhile(counts)
    return use


def _count(use: DocumentUse, counts: dict[Path, int], path: Path) -> None:
    use.any = True
    use.read.add(path)
    use.single = use.single or len(path) >= 1
    for length in range(1, len(path) + 1):
        counts[path[:length]] = counts.get(path[:length], 0) + 1


def _worthwhile(counts: dict[Path, int]) -> dict[Path, int]:
    longer: dict[Path, int] = {}
    for path, uses in counts.items():
        if len(path) > 1:
            longer[path[:-1]] = max(longer.get(path[:-1], 0), uses)
    return {
        path: uses
        for path, uses in counts.items()
        if uses > 1 and longer.get(path, 0) < uses and "*" not in path
    }
