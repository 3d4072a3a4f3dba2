"""The usual way to run a language in Python: a closure for each node of the tree.

Shares parser, operators and library with the compiler, so that what is compared is running.
"""

# ruff: noqa: ARG005 - all of a kind are called alike

from __future__ import annotations

from openmeter_collector.bloblang import arithmetic, compare, convert, paths
from openmeter_collector.bloblang import syntax as s
from openmeter_collector.bloblang.failure import Fail
from openmeter_collector.values.kinds import DELETED, NOTHING


class State:
    __slots__ = ("batch", "document", "index", "meta", "names", "root", "this", "variables")

    def __init__(self, batch, index):
        self.batch, self.index = batch, index
        self.document = self.this = batch[index].structured()
        self.root, self.variables, self.names = NOTHING, {}, {}
        self.meta = batch[index].metadata


def closures(program):
    """A function that runs a program: `run(batch, index)`."""
    statements = [statement(one) for one in program.statements]

    def run(batch, index):
        state = State(batch, index)
        for one in statements:
            one(state)
        return state.root, None

    return run


def statement(node):
    value = closure(node.value)
    if isinstance(node, s.Let):
        name = node.name

        def let(state):
            found = value(state)
            if found is not NOTHING:
                state.variables[name] = found

        return let
    path = node.path

    def assign(state):
        found = value(state)
        if found is NOTHING:
            return
        if not path:
            state.root = found
        elif found is DELETED:
            state.root = paths.remove(state.root, path)
        else:
            state.root = paths.put(state.root, path, found)

    return assign


def closure(node):
    if isinstance(node, s.Literal):
        value = node.value
        return lambda state: value
    if isinstance(node, s.Field):
        return field(node)
    if isinstance(node, s.Get):
        target, path = closure(node.target), node.path
        return lambda state: paths.get(target(state), path)
    if isinstance(node, s.Variable):
        name = node.name
        return lambda state: state.variables[name]
    if isinstance(node, s.Metadata):
        key = node.key
        return lambda state: state.meta.get(key)
    if isinstance(node, s.Binary):
        return binary(node)
    if isinstance(node, s.Object):
        pairs = [(key, closure(value)) for key, value in node.pairs]

        def build(state):
            made = {}
            for key, value in pairs:
                found = value(state)
                if found is not DELETED and found is not NOTHING:
                    made[key] = found
            return made

        return build
    if isinstance(node, s.Array):
        items = [closure(item) for item in node.items]
        return lambda state: [item(state) for item in items]
    if isinstance(node, s.If):
        return branches(node)
    if isinstance(node, s.Method):
        return method(node)
    return function(node)


def field(node):
    path = node.path
    if node.context == "this":
        return (lambda state: paths.get(state.this, path)) if path else (lambda state: state.this)
    name = node.context
    return lambda state: paths.get(state.names[name], path)


def binary(node):
    left, right = closure(node.left), closure(node.right)
    if node.operator == "|":
        return coalesce(left, right)
    if node.operator == "&&":
        return lambda state: convert.get_bool(left(state)) and convert.get_bool(right(state))
    operation = arithmetic.OPERATIONS[node.operator]
    return lambda state: operation(left(state), right(state))


def coalesce(left, right):
    def run(state):
        try:
            found = left(state)
        except Fail:
            return right(state)
        return right(state) if found is None or found is DELETED or found is NOTHING else found

    return run


def branches(node):
    tests = [(closure(test), closure(value)) for test, value in node.branches]
    otherwise = (lambda state: NOTHING) if node.otherwise is None else closure(node.otherwise)

    def run(state):
        for test, value in tests:
            if test(state) is True:
                return value(state)
        return otherwise(state)

    return run


def function(node):
    call, lead = node.prepared or node.entry.call, node.entry.context
    arguments = [argument.value for argument in node.arguments]
    if lead:
        return lambda state: call(state.batch, state.index, *arguments)
    return lambda state: call(*arguments)


def query(node):
    name = node.name if isinstance(node, s.Lambda) else None
    body = closure(node.body if name else node)

    def bind(state):
        def run(value):
            if name:
                before = state.names.get(name)
                state.names[name] = value
                try:
                    return body(state)
                finally:
                    state.names[name] = before
            before, state.this = state.this, value
            try:
                return body(state)
            finally:
                state.this = before

        return run

    return bind


def argument_of(param, one):
    if one.node is None:
        return lambda state: one.value
    if param is not None and param.is_query:
        return query(one.node)
    inner = closure(one.node)
    kind = "any" if param is None else param.kind
    return lambda state: convert.argument(kind, inner(state))


def method(node):
    target, name = closure(node.target), node.entry.name
    if name == "or":
        one = node.arguments[0]
        return coalesce(
            target, (lambda state: one.value) if one.node is None else closure(one.node)
        )
    call = node.entry.call
    if name == "number" and node.arguments[0].value is not None:
        default = node.arguments[0].value

        def number(state):
            try:
                return call(target(state))
            except Fail:
                return default

        return number
    if node.prepared is not None:
        prepared = node.prepared
        return lambda state: prepared(target(state))
    params = node.entry.params if not node.entry.variadic else [None] * len(node.arguments)
    arguments = [
        argument_of(param, one) for param, one in zip(params, node.arguments, strict=False)
    ]
    return lambda state: call(target(state), *[argument(state) for argument in arguments])


__all__ = ["closures", "compare"]
