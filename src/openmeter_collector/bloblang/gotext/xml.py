"""XML as objects: elements by name, attributes with a `-`, text beside them as `#text`."""

from __future__ import annotations

import re
from typing import Any, Final
from xml.parsers import expat
from xml.sax.saxutils import escape

from openmeter_collector.bloblang.convert import to_string
from openmeter_collector.bloblang.failure import Fail
from openmeter_collector.bloblang.gotext import strconv
from openmeter_collector.values.kinds import Float64, Value

_TAG: Final = re.compile(r"<[A-Za-z][^<>]*>")
_VALUE: Final = re.compile(r"""("[^"]*"|'[^']*')|=([^"'\s<>/]+)""")


def _quoted(tag: re.Match[str]) -> str:
    """A tag with quotes around the values of its attributes that have none."""
    return _VALUE.sub(lambda found: found[0] if found[1] else f'="{found[2]}"', tag[0])


def read_xml(text: str, *, cast: bool) -> Value:
    """The document as an object."""
    text = _TAG.sub(_quoted, text)
    root: dict[str, Value] = {}
    stack: list[tuple[str, dict[str, Value], list[str]]] = [("", root, [])]
    parser = expat.ParserCreate()

    def start(name: str, attributes: dict[str, str]) -> None:
        fields = {f"-{_local(key)}": _cast(value, cast) for key, value in attributes.items()}
        stack.append((_local(name), fields, []))

    def end(_: str) -> None:
        name, fields, texts = stack.pop()
        content = "".join(texts).strip()
        value: Value = fields
        if content and fields:
            fields["#text"] = _cast(content, cast)
        elif not fields:
            value = _cast(content, cast)
        parent = stack[-1][1]
        if name not in parent:
            parent[name] = value
        elif isinstance(parent[name], list):
            parent[name].append(value)
        else:
            parent[name] = [parent[name], value]

    def entity(*_: Any) -> None:
        raise Fail("parsing value as XML: entity declarations are not accepted")

    def text_of(data: str) -> None:
        stack[-1][2].append(data)

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text_of
    parser.EntityDeclHandler = entity
    try:
        parser.Parse(text.encode("utf-8", "replace"), True)
    except expat.ExpatError as error:
        # What follows the first element is ignored, as if the document ended there.
        if root and error.code == expat.errors.codes[expat.errors.XML_ERROR_JUNK_AFTER_DOC_ELEMENT]:
            return root
        nothing = "EOF" if "<" not in text else str(error)
        raise Fail(f"parsing value as XML: {nothing}") from None
    return root


def _local(name: str) -> str:
    """A name without its namespace."""
    return name.partition(":")[2] or name


def _cast(text: str, cast: bool) -> Value:
    if not cast:
        return text
    try:
        return Float64(strconv.parse_float(text))
    except Fail:
        pass
    found = strconv.parse_bool(text)
    return text if found is None else found


def write_xml(value: dict[str, Value], indent: str | None, root_tag: str | None) -> str:
    """An object as a document."""
    if root_tag is None and len(value) == 1 and not isinstance(next(iter(value.values())), list):
        ((root_tag, inner),) = value.items()
    else:
        root_tag, inner = root_tag or "doc", value
    out: list[str] = []
    _element(root_tag, inner, indent, 0, out)
    return ("\n" if indent is not None else "").join(out)


def _element(name: str, value: Value, indent: str | None, depth: int, out: list[str]) -> None:
    lead = (indent or "") * depth
    if isinstance(value, list):
        for one in value:
            _element(name, one, indent, depth, out)
        return
    if not isinstance(value, dict):
        text = "" if value is None else escape(to_string(value))
        out.append(f"{lead}<{name}>{text}</{name}>" if text else f"{lead}<{name}/>")
        return
    attributes = "".join(
        f' {key[1:]}="{escape(to_string(one), {chr(34): "&quot;"})}"'
        for key, one in sorted(value.items())
        if key.startswith("-")
    )
    inner = {key: one for key, one in sorted(value.items()) if not key.startswith("-")}
    if not inner:
        out.append(f"{lead}<{name}{attributes}/>")
    elif set(inner) == {"#text"}:
        out.append(f"{lead}<{name}{attributes}>{escape(to_string(inner['#text']))}</{name}>")
    else:
        out.append(f"{lead}<{name}{attributes}>")
        for key, one in inner.items():
            if key == "#text":
                out.append((indent or "") * (depth + 1) + escape(to_string(one)))
            else:
                _element(key, one, indent, depth + 1, out)
        out.append(f"{lead}</{name}>")
