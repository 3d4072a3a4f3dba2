"""Checks messages against a JSON Schema."""

from __future__ import annotations

import asyncio
import urllib.parse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import Final

from openmeter_collector.api import (
    Batch,
    ConfigError,
    Env,
    Example,
    Processor,
    field,
    processor,
)
from openmeter_collector.components.processors import schema_check
from openmeter_collector.components.processors.common import Flag
from openmeter_collector.values import json

CLOUD_EVENTS = Example(
    "Let only CloudEvents pass",
    """
    pipeline:
      processors:
        - json_schema:
            schema_path: file://./cloudevents.spec.json
        - catch:
            - log:
                level: ERROR
                message: 'no event: ${! error() }'
            - mapping: root = deleted()
    """,
)
_PRESETS: Final = "openmeter_collector.presets"
_SHIPPED: Final = "cloudevents.spec.json"
_SCHEMES: Final = ("file://", "http://", "https://")


def _check_path(path: str) -> str | None:
    if not path or path.startswith(_SCHEMES):
        return None
    return f"{path!r} is no address of a schema; it starts with file://, http:// or https://"


def _is_file(path: str) -> bool:
    """Whether it is a file other than the one that published configs name, which comes with us."""
    return path.startswith("file://") and path != f"file://./{_SHIPPED}"


@processor("json_schema", categories=("Mapping",), examples=[CLOUD_EVENTS])
class JsonSchema:
    """Checks each message against a JSON Schema. A message that does not fit is flagged, unchanged.

    `error()` then has a line for each fault, such as `(root) subject is required` or
    `id string length must be greater than or equal to 1`; for a message that is no JSON, what is
    wrong with it.

    The schema is read once, at the start. Drafts 4 to 2020-12 are understood; without `$schema` it
    is draft 7. References to other documents are not followed.

    `file://./cloudevents.spec.json` need not be there: without such a file, the schema of usage
    events that comes with the collector is used.
    """

    schema: str = field(default="", doc="The schema itself; this or `schema_path`.")
    schema_path: str = field(
        default="",
        doc="Where the schema is: `file://` and a path, or an `http://` or `https://` address.",
        examples=["file://./cloudevents.spec.json"],
        lint=_check_path,
        file=_is_file,
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Processor]:
        """Read the schema."""
        where = f"{env.node.where} json_schema"
        if not self.schema and not self.schema_path:
            raise ConfigError(f"{where}: there is no schema; set schema or schema_path")
        text = self.schema.encode() or await _fetch(self.schema_path, env, where)
        try:
            check = schema_check.compile_schema(json.loads(text))
        except ValueError as error:
            raise ConfigError(f"{where}: the schema cannot be used: {error}") from error
        yield _Checker(check, env)


class _Checker:
    def __init__(self, check: schema_check.Check, env: Env) -> None:
        self._check = check
        self._flag = Flag(env)

    def process(self, batch: Batch) -> list[Batch]:
        fits = self._check.fits
        for index, message in enumerate(batch):
            try:
                if fits(message.structured()):
                    continue
            except (ValueError, RecursionError):
                pass
            return [self._flagged(batch, index)]
        return [batch]

    def _flagged(self, batch: Batch, start: int) -> Batch:
        """The batch, of which the messages before `start` are known to fit."""
        made = batch[:start]
        for message in batch[start:]:
            try:
                faults = self._check.faults(message.structured())
            except (ValueError, RecursionError) as error:
                faults = str(error) or "the document is nested too deeply"
            made.append(self._flag(message, faults) if faults else message)
        return made


async def _fetch(address: str, env: Env, where: str) -> bytes:
    if address.startswith("file://"):
        return await asyncio.to_thread(_read, address, where)
    async with env.http(max_response_bytes=4 << 20) as client:
        answer = await client.request("GET", address)
    if answer.status != 200:
        raise ConfigError(
            f"{where}: {address} answered {answer.status}; is it the schema's address?"
        )
    return answer.body


def _read(address: str, where: str) -> bytes:
    path = Path(urllib.parse.unquote(address.removeprefix("file://")))
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        if path.name == _SHIPPED:
            return (resources.files(_PRESETS) / _SHIPPED).read_bytes()
        raise ConfigError(f"{where}: there is no file {path}; check schema_path") from error
    except OSError as error:
        raise ConfigError(f"{where}: {path} cannot be read: {error}") from error
