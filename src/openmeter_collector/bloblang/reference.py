"""The reference pages, made from the declarations of the library."""

from __future__ import annotations

from openmeter_collector.bloblang.definition import REQUIRED, Case, Entry, Param, Registry
from openmeter_collector.bloblang.library import STANDARD

_TITLES = {
    "general": "General",
    "messages": "Message, batch and errors",
    "coercion": "Types",
    "strings": "Text",
    "regex": "Regular expressions",
    "numbers": "Numbers",
    "objects": "Arrays and objects",
    "time": "Time",
    "encoding": "Encoding, hashing, compressing, encrypting",
    "tokens": "Signed tokens",
    "parsing": "Formats",
    "ids": "Ids",
    "random": "Random data and counts",
    "environment": "Environment",
    "kubernetes": "Kubernetes",
}


def pages(registry: Registry = STANDARD) -> dict[str, str]:
    """All pages: path below `docs/reference` -> Markdown."""
    made = {"bloblang/README.md": _index(registry)}
    for category in _categories(registry):
        entries = sorted(
            (entry for entry in registry if entry.category == category),
            key=lambda entry: (entry.name, entry.is_method),
        )
        title = _TITLES.get(category, category)
        body = "\n".join(entry_page(entry) for entry in entries)
        made[f"bloblang/{category}.md"] = f"# Bloblang: {title}\n\n{body}"
    return made


def _categories(registry: Registry) -> list[str]:
    present = {entry.category for entry in registry}
    return [name for name in _TITLES if name in present] + sorted(present - set(_TITLES))


def _index(registry: Registry) -> str:
    lines = ["# Bloblang: functions and methods", ""]
    for category in _categories(registry):
        lines += [f"## [{_TITLES.get(category, category)}]({category}.md)", ""]
        for noun in ("function", "method"):
            found = sorted(
                (entry for entry in registry if entry.category == category and entry.noun == noun),
                key=lambda entry: entry.name,
            )
            if found:
                shown = ", ".join(
                    f"[`{entry.name}`]({category}.md#{_anchor(entry)})" for entry in found
                )
                lines += [f"{noun.capitalize()}s: {shown}", ""]
    if registry.left_out:
        lines += [
            "## Left out",
            "",
            "Using one of these is an error when a mapping is compiled.",
            "",
        ]
        lines += ["| name | reason |", "| --- | --- |"]
        lines += [f"| `{name}` | {why} |" for name, why in sorted(registry.left_out.items())]
        lines.append("")
    return "\n".join(lines)


def _heading(entry: Entry) -> str:
    status = "" if entry.status == "stable" else f" ({entry.status})"
    return f"{entry.noun} {entry.name}{status}"


def _anchor(entry: Entry) -> str:
    """What pages make of a heading, for links to it."""
    return _heading(entry).replace(" ", "-").replace("(", "").replace(")", "")


def entry_page(entry: Entry) -> str:
    """The page of one function or method."""
    lines = [
        f"## {_heading(entry)}",
        "",
        f"`{signature(entry)}`",
        "",
        *(["Only this collector has it.", ""] if entry.ours else []),
        entry.doc,
        "",
    ]
    shown = [param for param in entry.params if param.doc]
    if shown:
        lines += ["| parameter | type | default | |", "| --- | --- | --- | --- |"]
        lines += [_row(param) for param in shown]
        lines.append("")
    for case in entry.cases:
        lines += _example(case)
    return "\n".join(lines)


def signature(entry: Entry) -> str:
    """How a call is written."""
    inside = "..." if entry.variadic else ", ".join(_param(param) for param in entry.params)
    return f"{'value.' if entry.is_method else ''}{entry.name}({inside})"


def _param(param: Param) -> str:
    if param.optional:
        return f"{param.name}?"
    return param.name if param.default is REQUIRED else f"{param.name} = {_default(param)}"


def _default(param: Param) -> str:
    if param.default is True or param.default is False:
        return "true" if param.default else "false"
    if isinstance(param.default, str):
        return f'"{param.default}"'
    return str(param.default)


def _row(param: Param) -> str:
    default = "" if param.default is REQUIRED else f"`{_default(param)}`"
    if param.optional:
        default = "optional"
    return f"| `{param.name}` | {param.kind} | {default} | {param.doc} |"


def _example(case: Case) -> list[str]:
    lines = [case.note, ""] if case.note else []
    lines += ["```coffee", case.mapping, "```", ""]
    given = case.given.decode() if isinstance(case.given, bytes) else case.given
    if case.error is not None:
        outcome = f"error: {case.error}"
    elif case.result is None:
        outcome = "the message is dropped"
    else:
        outcome = case.result.decode() if isinstance(case.result, bytes) else case.result
    lines += ["```text", f"in:  {given}", f"out: {outcome}", "```", ""]
    return lines
