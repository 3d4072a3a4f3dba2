"""Random programs of the language, most of which compile and many of which run."""

from hypothesis import strategies as st

NAMES = ("a", "b", "n", "list", "obj")
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(-1e6, 1e6, width=32)
    | st.sampled_from(["", "x", "5", "true", "2020-01-01T00:00:00Z"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)
    ),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=5)


@st.composite
def expressions(draw, depth=3, names=(), maps=False):
    """The text of an expression."""
    deeper = expressions(depth=depth - 1, names=names, maps=maps)
    leaves = [
        st.sampled_from(["1", "2.5", "0", '"x"', '""', "true", "false", "null", "[]", "{}", "-3"]),
        st.sampled_from([f"this.{name}" for name in NAMES]),
        st.sampled_from(["this", "this.obj.a", "this.list.0", "root.a", "$v", "@k", 'this."a b"']),
        st.sampled_from(["deleted()", "nothing()"]),
    ]
    if names:
        leaves.append(st.sampled_from([*names, *(f"{name}.a" for name in names)]))
    if depth <= 0:
        return draw(st.one_of(leaves))
    kind = draw(st.integers(0, 13))
    if kind <= 1:
        return draw(st.one_of(leaves))
    if kind == 2:
        operator = draw(
            st.sampled_from(["+", "-", "*", "/", "%", "==", "!=", "<", ">", "&&", "||", "|"])
        )
        return f"({draw(deeper)}) {operator} ({draw(deeper)})"
    if kind == 3:
        return f"[{draw(deeper)}, {draw(deeper)}]"
    if kind == 4:
        return f'{{"a": {draw(deeper)}, "b": {draw(deeper)}}}'
    if kind == 5:
        end = draw(st.sampled_from(["", f" else {{ {draw(deeper)} }}"]))
        return f"if {draw(deeper)} {{ {draw(deeper)} }}{end}"
    if kind == 6:
        case = draw(st.sampled_from(["1", '"x"', "null", "this == 1"]))
        return f"(match {draw(deeper)} {{ {case} => {draw(deeper)}, _ => {draw(deeper)} }})"
    if kind == 7:
        return f"({draw(deeper)}).catch({draw(st.sampled_from(['1', 'this', 'null']))})"
    if kind == 8:
        return f"({draw(deeper)}).or({draw(deeper)})"
    if kind == 9:
        return f"({draw(deeper)}).({draw(deeper)})"
    if kind == 10:
        name = f"p{len(names)}"
        method = draw(st.sampled_from(["map_each", "filter", "any", "all", "unique", "sort_by"]))
        body = draw(expressions(depth=depth - 1, names=(*names, name), maps=maps))
        return f"({draw(deeper)}).{method}({name} -> {body})"
    if kind == 11:
        method = draw(
            st.sampled_from(
                ["uppercase()", "length()", "string()", "number(0)", "number()", "type()", "not()",
                 "keys()", "sum()", "bool(true)", "index(0)", "round()", "not_null()", "array()"]
            )
        )  # fmt: skip
        return f"({draw(deeper)}).{method}"
    if kind == 12:
        return f"({draw(deeper)}).slice({draw(deeper)})"
    return f"!({draw(deeper)})" if not maps else f'({draw(deeper)}).apply("m")'


@st.composite
def programs(draw):
    """The text of a mapping."""
    lines = []
    maps = draw(st.booleans())
    if maps:
        lines.append(f"map m {{\n  root = {draw(expressions(depth=2))}\n}}")
    lines.append(f"let v = {draw(expressions(depth=1, maps=maps))}")
    for _ in range(draw(st.integers(1, 4))):
        target = draw(
            st.sampled_from(["root", "root.a", "root.b.c", "root.list.0", "meta k", "let v"])
        )
        line = f"{target} = {draw(expressions(maps=maps))}"
        if draw(st.integers(0, 4)) == 0:
            line = f"if {draw(expressions(depth=1, maps=maps))} {{\n  {line}\n}}"
        lines.append(line)
    return "\n".join(lines)
