"""A second opinion: the language run by walking its tree, without any of the emitter.

It shares the parser and the library with the real thing, and nothing that decides order, scope,
laziness or what a statement does.
"""

from openmeter_collector.bloblang import arithmetic, compare, convert, paths
from openmeter_collector.bloblang import syntax as s
from openmeter_collector.bloblang.failure import Fail
from openmeter_collector.values.kinds import DELETED, NOTHING

MARKERS = (DELETED, NOTHING)
DOCUMENT = object()


class Scope:
    def __init__(self, run, this=DOCUMENT, previous=DOCUMENT, names=None):
        self.run, self.this, self.previous, self.names = run, this, previous, names or {}

    def value(self, held):
        return self.run.document if held is DOCUMENT else held

    def inside(self, value):
        return Scope(self.run, value, self.this, self.names)


class Run:
    def __init__(self, program, document):
        self.program, self.document = program, document
        self.root, self.variables, self.meta = NOTHING, {}, {}

    def go(self):
        self.block(self.program.statements, Scope(self))
        return self.root, self.meta

    def block(self, statements, scope):
        for statement in statements:
            self.statement(statement, scope)

    def statement(self, node, scope):
        if isinstance(node, s.IfStatement):
            for condition, body in node.branches:
                test = True if condition is None else evaluate(condition, scope)
                if not isinstance(test, bool):
                    raise Fail("condition")
                if test:
                    self.block(body, scope)
                    return
            return
        if isinstance(node, (s.MapDefinition, s.Import)):
            return
        value = evaluate(node.value, scope)
        if value is NOTHING:
            return
        if isinstance(node, s.Let):
            self.variables.pop(node.name, None)
            if value is not DELETED:
                self.variables[node.name] = value
        elif isinstance(node, s.Meta):
            self.meta.pop(node.key, None)
            if value is not DELETED:
                self.meta[node.key] = value
        elif not node.path:
            self.root = value
        elif value is DELETED:
            self.root = paths.remove(self.root, node.path)
        else:
            self.root = paths.put(self.root, node.path, value)

    def apply(self, name, value):
        inner = Run(self.program, self.document)
        inner.meta = self.meta
        inner.block(self.program.maps[name].body, Scope(inner, value))
        return inner.root


def boolean(value):
    return convert.get_bool(value)


def attempt(node, scope):
    try:
        return evaluate(node, scope)
    except Fail:
        return None


def evaluate(node, scope):
    if isinstance(node, s.Literal):
        return node.value
    if isinstance(node, s.Field):
        if node.context == "root":
            base = scope.run.root
        elif node.context == "this":
            base = scope.value(scope.this)
        else:
            base = scope.names[node.context]
        return paths.get(base, node.path) if node.path else base
    if isinstance(node, s.Get):
        return paths.get(evaluate(node.target, scope), node.path)
    if isinstance(node, s.Variable):
        if node.name not in scope.run.variables:
            raise Fail("variable")
        return scope.run.variables[node.name]
    if isinstance(node, s.Metadata):
        return scope.run.meta.get(node.key) if node.key else dict(scope.run.meta)
    if isinstance(node, s.Not):
        value = evaluate(node.operand, scope)
        if not isinstance(value, bool):
            raise Fail("not")
        return not value
    if isinstance(node, s.Binary):
        return binary(node, scope)
    if isinstance(node, s.Array):
        values = [evaluate(item, scope) for item in node.items]
        return [value for value in values if not any(value is one for one in MARKERS)]
    if isinstance(node, s.Object):
        made = {}
        for key, value in node.pairs:
            name = key if isinstance(key, str) else evaluate(key, scope)
            if not isinstance(name, str):
                raise Fail("key")
            found = evaluate(value, scope)
            if not any(found is one for one in MARKERS):
                made[name] = found
        return made
    if isinstance(node, s.If):
        for condition, value in node.branches:
            test = evaluate(condition, scope)
            if test is not None and not isinstance(test, bool):
                raise Fail("condition")
            if test:
                return evaluate(value, scope)
        return NOTHING if node.otherwise is None else evaluate(node.otherwise, scope)
    if isinstance(node, s.Match):
        value = scope.value(scope.this) if node.subject is None else evaluate(node.subject, scope)
        inner = scope.inside(value)
        for condition, result in node.cases:
            if condition is None:
                return evaluate(result, inner)
            if isinstance(condition, s.Literal):
                if compare.equal(value, condition.value):
                    return evaluate(result, inner)
            elif evaluate(condition, inner) is True:
                return evaluate(result, inner)
        return NOTHING
    if isinstance(node, s.Bracket):
        return evaluate(node.body, scope.inside(evaluate(node.target, scope)))
    if isinstance(node, s.Lambda):
        names = {**scope.names}
        if node.name != "_":
            names[node.name] = scope.value(scope.this)
        return evaluate(node.body, Scope(scope.run, scope.previous, DOCUMENT, names))
    if isinstance(node, s.Method):
        return method(node, scope)
    return node.entry.call(*[argument.value for argument in node.arguments])


def binary(node, scope):
    if node.operator == "|":
        left = attempt(node.left, scope)
        return evaluate(node.right, scope) if left is None or left in MARKERS else left
    left = evaluate(node.left, scope)
    if node.operator in ("&&", "||"):
        if boolean(left) is (node.operator == "||"):
            return boolean(left)
        return boolean(evaluate(node.right, scope))
    return arithmetic.OPERATIONS[node.operator](left, evaluate(node.right, scope))


def method(node, scope):
    name = node.entry.name
    first = node.arguments[0] if node.arguments else None
    if name == "or":
        left = attempt(node.target, scope)
        return fallback(first, scope) if left is None or left in MARKERS else left
    if name == "catch":
        try:
            return evaluate(node.target, scope)
        except Fail as fail:
            return fallback(first, scope.inside(str(fail)))
    if name == "apply":
        return scope.run.apply(first.value, evaluate(node.target, scope))
    if name in ("number", "bool") and first.value is not None:
        try:
            return node.entry.call(evaluate(node.target, scope))
        except Fail:
            return first.value
    arguments = []
    for param, argument in zip(node.entry.params, node.arguments, strict=False):
        if argument.node is None:
            arguments.append(argument.value)
        elif param.is_query:
            arguments.append(
                lambda value, inner=argument.node: evaluate(inner, scope.inside(value))
            )
        else:
            arguments.append(convert.argument(param.kind, evaluate(argument.node, scope)))
    target = evaluate(node.target, scope)
    if name == "map":
        return arguments[0](target)
    if name == "not":
        if not isinstance(target, bool):
            raise Fail("not")
        return not target
    if node.entry.prepared:
        return node.entry.call(*arguments)(target)
    return node.entry.call(target, *arguments)


def fallback(argument, scope):
    return argument.value if argument.node is None else evaluate(argument.node, scope)
