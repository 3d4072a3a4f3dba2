"""Takes lines of text apart by expressions made of named patterns."""

from __future__ import annotations

import glob
import math
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from openmeter_collector.api import (
    Batch,
    ConfigError,
    Env,
    Example,
    Message,
    Processor,
    Value,
    field,
    install_extra,
    processor,
)
from openmeter_collector.components.processors.common import Flag
from openmeter_collector.components.processors.grok_patterns import (
    PATTERNS,
    BadPattern,
    Capture,
    expand,
)
from openmeter_collector.values.kinds import Float64

ACCESS = Example(
    "Make events of an access log",
    """
    pipeline:
      processors:
        - grok:
            expressions: ['%{COMMONAPACHELOG}']
        - mapping: |
            root.id = content().hash("sha256").encode("hex")
            root.source = "access-log"
            root.type = "request"
            root.subject = this.auth
            root.data.bytes = this.bytes.number(0)
    """,
)


@processor("grok", categories=("Parsing",), examples=[ACCESS])
class Grok:
    """Tries expressions in turn on each message, and replaces it by an object of what the first that
    finds a value captures.

    `%{WORD:name}` captures what the pattern `WORD` matches as `name`, `%{INT:amount:int}` as a number;
    the types are `int`, `float`, `bool` and `string`. A dot in a name makes an object inside the object.
    Expressions are in the syntax of RE2, and take time in proportion to the text, whatever is in it.
    When none finds anything, the message stays as it is, flagged.

    Needs the extra `grok`.
    """

    expressions: list[str] = field(doc="What is tried, in this order.", minimum=1)
    pattern_definitions: dict[str, str] = field(
        default_factory=dict,
        doc="Patterns of your own by name; they may be made of others.",
        examples=["ORDER: 'order-[0-9]+'"],
    )
    pattern_paths: list[str] = field(
        default_factory=list,
        file=bool,
        doc="Files with more patterns: a name, a space and the expression on each line. Folders and "
        "`*`, `**` are understood.",
    )
    named_captures_only: bool = field(
        default=True,
        advanced=True,
        doc="Keep only what has a name of its own; else `%{WORD}` is kept as `WORD`.",
    )
    use_default_patterns: bool = field(
        default=True,
        advanced=True,
        doc="Know the usual patterns, such as `IP` and `TIMESTAMP_ISO8601`.",
    )
    remove_empty_values: bool = field(
        default=True, advanced=True, doc="Leave empty values out of the result."
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Processor]:
        """Read the files and compile everything."""
        where = f"{env.node.where} grok"
        patterns = dict(PATTERNS) if self.use_default_patterns else {}
        patterns |= self.pattern_definitions
        for path in self.pattern_paths:
            patterns |= _read(path, where)
        compiled = [
            _compiled(one, patterns, where, named_only=self.named_captures_only)
            for one in self.expressions
        ]
        yield _Parser(compiled, env, keep_empty=not self.remove_empty_values)


class _Expression:
    """One expression, compiled."""

    def __init__(self, code: Any, captures: tuple[Capture, ...]) -> None:
        self._search = code.search
        self._captures = captures

    def values(self, text: str, *, keep_empty: bool) -> dict[str, Value]:
        """What is captured, by name.

        Raises:
            ValueError: a value is not of its type.
        """
        found = self._search(text)
        if found is None:
            return {}
        values: dict[str, Value] = {}
        groups = found.groupdict()
        for one in self._captures:
            value = groups[one.group] or ""
            if value or (keep_empty and one.name not in values):
                values[one.name] = _typed(value, one.kind)
        return values


class _Parser:
    def __init__(self, expressions: list[_Expression], env: Env, *, keep_empty: bool) -> None:
        self._expressions = expressions
        self._keep_empty = keep_empty
        self._flag = Flag(env)

    def process(self, batch: Batch) -> list[Batch]:
        return [[self._parsed(message) for message in batch]]

    def _parsed(self, message: Message) -> Message:
        text = message.content.decode(errors="replace")
        reason = "no pattern matches found"
        for expression in self._expressions:
            try:
                if values := expression.values(text, keep_empty=self._keep_empty):
                    return message.with_value(_nested(values))
            except ValueError as error:
                reason = f"no pattern matches found: {error}"
        return self._flag(message, reason)


_INT: Final = re.compile(r"[+-]?[0-9]{1,18}")
_FLOAT: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_BOOLS: Final = {
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}


def _typed(text: str, kind: str) -> Value:
    if kind == "string":
        return text
    if not text:
        return None  # kept because it was asked for; 0 would be a made-up amount
    if kind == "int" and _INT.fullmatch(text):
        return int(text)
    if kind == "float" and _FLOAT.fullmatch(text) and math.isfinite(value := float(text)):
        return Float64(value)
    if kind == "bool" and text in _BOOLS:
        return _BOOLS[text]
    raise ValueError(f"a value that should be of type {kind} is not")


def _nested(values: Mapping[str, Value]) -> dict[str, Value]:
    made: dict[str, Value] = {}
    for name, value in values.items():
        *outer, last = name.split(".")
        target = made
        for key in outer:
            inner = target.get(key)
            if not isinstance(inner, dict):
                inner = target[key] = {}
            target = inner
        target[last] = value
    return made


def _compiled(
    text: str, patterns: Mapping[str, str], where: str, *, named_only: bool
) -> _Expression:
    try:
        import re2  # type: ignore[import-untyped,unused-ignore]  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigError(
            f"{where} needs the extra 'grok'; run: {install_extra('grok')}"
        ) from error
    options = re2.Options()
    options.log_errors = False
    try:
        expanded = expand(text, patterns, named_only=named_only)
        return _Expression(re2.compile(expanded.text, options), expanded.captures)
    except BadPattern as error:
        raise ConfigError(f"{where}: expression {text!r}: {error}") from error
    except re2.error as error:
        reason = error.args[0]
        shown = reason.decode() if isinstance(reason, bytes) else reason
        raise ConfigError(
            f"{where}: expression {text!r} is none of RE2: {shown}; lookaround and backreferences "
            "are not available"
        ) from error


def _read(path: str, where: str) -> dict[str, str]:
    """Patterns out of files."""
    found = f"{path}/*" if Path(path).is_dir() else path
    files = [Path(name) for name in sorted(glob.glob(found, recursive=True))]  # noqa: PTH207 - `**`
    patterns: dict[str, str] = {}
    if not files:
        raise ConfigError(f"{where}: pattern_paths: there is no file {path!r}; check the path")
    for file in files:
        if file.is_dir():
            continue
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{where}: pattern_paths: {file} cannot be read: {error}") from error
        for number, line in enumerate(lines, 1):
            if not line or line.startswith("#"):
                continue
            name, space, pattern = line.partition(" ")
            if not space:
                raise ConfigError(
                    f"{where}: {file}:{number}: no pattern; write a name, a space and an expression"
                )
            patterns[name] = pattern
    return patterns
