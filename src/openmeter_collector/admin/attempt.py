"""One attempt at a mapping: documents in, and what comes out or why not. Knows neither HTTP nor processes.

Asked.of({"document": ..., "mapping": ..., ...}) ──> attempted(asked, reach)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from openmeter_collector import bloblang
from openmeter_collector.bloblang import DELETED, NOTHING, SimpleDocument
from openmeter_collector.bloblang.plugins import library_with
from openmeter_collector.errors import ConfigError
from openmeter_collector.values import json as value_json
from openmeter_collector.values import json_exact

MOST_LINES: Final = 1_000
MODES: Final = ("mapping", "mutation")


class NotUnderstood(Exception):
    """What was asked for makes no sense; the text says what to write instead."""


@dataclass(frozen=True, slots=True)
class Reach:
    """What a mapping under trial may use besides its documents.

    Attributes:
        outside: the environment and files of this process.
        plugins: Python files with functions of somebody's own.
    """

    outside: bool = False
    plugins: tuple[str, ...] = ()

    def registry(self) -> bloblang.Registry:
        """Functions and methods."""
        return library_with(Path(path) for path in self.plugins)

    def services(self) -> bloblang.Services:
        """Environment and files."""
        return bloblang.Services() if self.outside else bloblang.Services(env={}, read=_no_files)


NOTHING_ELSE: Final = Reach()


def _no_files(path: str, /) -> bytes:
    raise PermissionError(13, "files are not read here", path)


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be tried.

    Attributes:
        mode: `mapping`, or `mutation`, in which `root` starts as the document.
        lines: each line of the document is a message of one batch.
        metadata: an object for every message, or a list of them, one for each; JSON, or "".
    """

    document: str
    mapping: str
    mode: str = "mapping"
    lines: bool = False
    metadata: str = ""

    @classmethod
    def of(cls, value: Any) -> Asked:
        """Read a request.

        Raises:
            NotUnderstood: it is none.
        """
        try:
            made = cls(
                str(value["document"]),
                str(value["mapping"]),
                str(value.get("mode", "mapping")),
                bool(value.get("lines", False)),
                str(value.get("metadata", "")),
            )
        except (KeyError, TypeError, AttributeError):
            raise NotUnderstood("send an object with document and mapping") from None
        if made.mode not in MODES:
            raise NotUnderstood(f"mode: {made.mode!r} is none of {', '.join(MODES)}")
        return made

    def messages(self) -> list[SimpleDocument]:
        """The batch.

        Raises:
            NotUnderstood: there are too many lines, or the metadata is none.
        """
        contents = [self.document]
        if self.lines:
            contents = [line for line in self.document.split("\n") if line.strip()]
        if len(contents) > MOST_LINES:
            raise NotUnderstood(f"the document has more than {MOST_LINES} lines; take fewer")
        return [
            SimpleDocument(content.encode("utf-8", "replace"), metadata)
            for content, metadata in zip(contents, self._metadata(len(contents)), strict=True)
        ]

    def _metadata(self, count: int) -> list[dict[str, Any]]:
        if not self.metadata.strip():
            return [{}] * count
        try:
            found = value_json.loads(self.metadata.encode("utf-8", "replace"))
        except ValueError as error:
            raise NotUnderstood(f"the metadata is no JSON: {error}") from None
        given = found if isinstance(found, list) else [found] * count
        if not all(isinstance(one, dict) for one in given):
            raise NotUnderstood("the metadata is no object, and no list of objects")
        if len(given) != count:
            raise NotUnderstood(
                f"the metadata is a list of {len(given)}, and there are {count} messages; "
                "write one object for each, or one for all"
            )
        return given


def attempted(asked: Asked, reach: Reach = NOTHING_ELSE) -> dict[str, Any]:
    """Run a mapping on its documents.

    Returns:
        `messages`, one each: `result`, `metadata` (or None when unchanged), `note` and `dropped`, or
        `error` as below. Or an `error` that is about all of them, with `line` and `column` of the
        mapping, `shown` (the line with a caret below the place) and `stage`: `ask`, `parse` or `run`.
    """
    try:
        batch = asked.messages()
        program = compiled(asked, reach)
    except NotUnderstood as error:
        return wrong("ask", str(error))
    except bloblang.MappingError as error:
        first = error.diagnostics[0]
        excerpt = error.rendered().partition("\n")[2]
        return wrong("parse", first.text, first.line, first.column, excerpt)
    except ConfigError as error:
        return wrong("ask", str(error))
    return {"messages": [_one(program, asked, batch, index) for index in range(len(batch))]}


def compiled(asked: Asked, reach: Reach) -> bloblang.Mapping:
    """The mapping.

    Raises:
        MappingError: the text is none.
        ConfigError: a plug-in cannot be loaded.
    """
    return bloblang.compile(asked.mapping, registry=reach.registry(), services=reach.services())


def _one(
    program: bloblang.Mapping, asked: Asked, batch: list[SimpleDocument], index: int
) -> dict[str, Any]:
    run = program.mutate if asked.mode == "mutation" else program.run
    try:
        body, metadata = run(batch, index)
        result, note = _shown(body, batch[index])
    except bloblang.MappingFailed as failed:
        excerpt = failed.rendered().partition("\n")[2]
        return wrong("run", str(failed), failed.line, failed.column, excerpt)
    except value_json.EncodeError as error:
        return wrong("run", f"the result has no JSON form: {error}")
    shown = None if metadata is None else {key: _plain(value) for key, value in metadata.items()}
    return {"result": result, "metadata": shown, "note": note, "dropped": body is DELETED}


def wrong(stage: str, text: str, line: int = 0, column: int = 0, shown: str = "") -> dict[str, Any]:
    """An outcome that is none."""
    return {"error": text, "stage": stage, "line": line, "column": column, "shown": shown}


def _shown(body: Any, document: SimpleDocument) -> tuple[str, str]:
    if body is DELETED:
        return "", "The message is dropped."
    if body is NOTHING:
        return document.content.decode("utf-8", "replace"), "The content is unchanged."
    if isinstance(body, bytes):
        return body.decode("utf-8", "replace"), "The content is text, not JSON."
    if isinstance(body, str):
        return body, "The content is text, not JSON."
    return json_exact.dumps(body, "  ").decode("utf-8", "replace"), ""


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json_exact.dumps(value).decode("utf-8", "replace")
