"""A second opinion: the language run by walking its tree, without any of the emitter.

It shares the parser and the library with the real thing, and nothing that decides order, scope,
laziness or what a statement does. What stands around a failure is said on the way up, by the
expression that computes its part; the real thing finds that out afterwards, from positions.
"""

from openmeter_collector.bloblang import arithmetic, compare, convert, paths
from openmeter_collector.bloblang import syntax as s
from openmeter_collector.bloblang.annotate import annotation
from openmeter_collector.bloblang.failure import (
    ConditionFail,
    DivideFail,
    Fail,
    MismatchFail,
    TypeFail,
    machine_type,
)
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
    def __init__(self, program, document, source=None, start=1):
        self.program, self.document = program, document
        self.source, self.start = source or program.source, start
        self.root, self.variables, self.meta = NOTHING, {}, {}

    def go(self):
        self.statements(self.program.statements, Scope(self))
        return self.root, self.meta

    def statements(self, statements, scope):
        """Run the statements of the mapping or of a map, each of which names its own line."""
        for statement in statements:
            try:
                self.statement(statement, scope)
            except Fail as fail:
                line = self.source.position(statement.span.start)[0] - self.start + 1
                fail.closed = False
                raise fail.under(f"failed assignment (line {line}): ") from None

    def block(self, statements, scope):
        for statement in statements:
            self.statement(statement, scope)

    def statement(self, node, scope):
        if isinstance(node, s.IfStatement):
            for count, (condition, body) in enumerate(node.branches, 1):
                if condition is None or test(condition, scope, f"condition {count}", null=False):
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
        definition = self.program.maps[name]
        first = definition.source.position(definition.span.start)[0]
        inner = Run(self.program, self.document, definition.source, first)
        inner.meta = self.meta
        try:
            inner.statements(definition.body, Scope(inner, value))
        except Fail as fail:
            fail.closed = True
            raise
        return inner.root


def part(node, scope, lead):
    """The value of a part that the expression around it mentions in failures."""
    try:
        return evaluate(node, scope)
    except Fail as fail:
        raise fail.under(lead) from None


def test(node, scope, noun, *, null):
    value = part(node, scope, f"failed to check if {noun}: ")
    if value is None and null:
        return False
    if not isinstance(value, bool):
        raise ConditionFail(value).under(annotation(node))
    return value


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
            raise Fail(f"variable '{node.name}' undefined")
        return scope.run.variables[node.name]
    if isinstance(node, s.Metadata):
        return scope.run.meta.get(node.key) if node.key else dict(scope.run.meta)
    if isinstance(node, s.Not):
        return inverted(node.operand, evaluate(node.operand, scope))
    if isinstance(node, s.Binary):
        return binary(node, scope)
    if isinstance(node, s.Array):
        values = [evaluate(item, scope) for item in node.items]
        return [value for value in values if not any(value is one for one in MARKERS)]
    if isinstance(node, s.Object):
        return structure(node, scope)
    if isinstance(node, s.If):
        for count, (condition, value) in enumerate(node.branches):
            if test(condition, scope, f"condition {count}" if count else "condition", null=True):
                return evaluate(value, scope)
        return NOTHING if node.otherwise is None else evaluate(node.otherwise, scope)
    if isinstance(node, s.Match):
        return match(node, scope)
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


def inverted(operand, value):
    if isinstance(value, bool):
        return not value
    raise TypeFail(value, "bool", origin=annotation(operand))


def structure(node, scope):
    made = {}
    for key, value in node.pairs:
        name = key if isinstance(key, str) else part(key, scope, "failed to resolve key: ")
        if not isinstance(name, str):
            raise Fail(f"mapping returned invalid key type: {machine_type(name)}")
        found = part(value, scope, f"failed to resolve '{name}' value: ")
        if not any(found is one for one in MARKERS):
            made[name] = found
    return made


def match(node, scope):
    value = scope.value(scope.this) if node.subject is None else evaluate(node.subject, scope)
    inner = scope.inside(value)
    for count, (condition, result) in enumerate(node.cases):
        if condition is None:
            return evaluate(result, inner)
        if isinstance(condition, s.Literal):
            if compare.equal(value, condition.value):
                return evaluate(result, inner)
        elif part(condition, inner, f"failed to check match case {count}: ") is True:
            return evaluate(result, inner)
    return NOTHING


def binary(node, scope):
    if node.operator == "|":
        left = attempt(node.left, scope)
        return evaluate(node.right, scope) if left is None or left in MARKERS else left
    left = evaluate(node.left, scope)
    if node.operator in ("&&", "||"):
        left = convert.get_bool(left)
        if left is (node.operator == "||"):
            return left
        return convert.get_bool(evaluate(node.right, scope))
    right = evaluate(node.right, scope)
    try:
        return arithmetic.OPERATIONS[node.operator](left, right)
    except MismatchFail as fail:
        fail.names = annotation(node.left), annotation(node.right)
        raise
    except DivideFail as fail:
        raise fail.under(f"{annotation(node.right)}: ") from None


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
    if name in ("number", "bool") and first.value is not None:
        try:
            return node.entry.call(evaluate(node.target, scope))
        except Fail:
            return first.value
    arguments = [
        argument_value(node, param, argument, scope)
        for param, argument in zip(node.entry.params, node.arguments, strict=False)
    ]
    target = evaluate(node.target, scope)
    if name == "map":
        return arguments[0](target)
    try:
        if name == "apply":
            return scope.run.apply(first.value, target)
        if name == "not":
            return inverted(node.target, target)
        if node.entry.prepared:
            return node.entry.call(*arguments)(target)
        return node.entry.call(target, *arguments)
    except Fail as fail:
        raise blamed(node, fail) from None


def argument_value(node, param, argument, scope):
    if argument.node is None:
        return argument.value
    if param.is_query:
        return lambda value: evaluate(argument.node, scope.inside(value))
    lead = f"method '{node.entry.name}': failed to extract input arg '{param.name}': "
    value = part(argument.node, scope, lead)
    try:
        return convert.argument(param.kind, value)
    except Fail as fail:
        raise fail.under(lead) from None


def blamed(node, fail):
    """A failure of a method itself: its receiver, or the query it asked, is named."""
    if node.entry.plugin:
        return fail
    if fail.by:
        (query,) = [
            argument.node
            for param, argument in zip(node.entry.params, node.arguments, strict=True)
            if param.name == fail.by
        ]
        fail.by = ""
        fail.attribute(annotation(query or node.target))
        fail.under(fail.by_lead)
    if fail.closed:
        fail.closed = False
    else:
        fail.attribute(annotation(node.target))
    return fail


def fallback(argument, scope):
    return argument.value if argument.node is None else evaluate(argument.node, scope)
