"""OTLP over HTTP: protobuf and JSON, compressed or not, and the answers that exporters understand."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any, Final

import orjson

from openmeter_collector.api import AsgiReceive, AsgiSend, ByteSize, Scope
from openmeter_collector.components.inputs.http_ingest import (
    Refusal,
    TokenCheck,
    decompress,
    read_body,
    send_whole,
    too_large,
)
from openmeter_collector.components.inputs.otlp_receive import Receiver, Signal
from openmeter_collector.components.otlp import status
from openmeter_collector.components.otlp.library import Otlp

_PROTOBUF: Final = "application/x-protobuf"
_JSON: Final = "application/json"
_IDS: Final = frozenset({"traceId", "spanId", "parentSpanId", "trace_id", "span_id"})
_DEEP: Final = 64
_CODES: Final = {
    400: status.INVALID_ARGUMENT,
    401: status.UNAUTHENTICATED,
    413: status.RESOURCE_EXHAUSTED,
    415: status.INVALID_ARGUMENT,
    429: status.UNAVAILABLE,
    503: status.UNAVAILABLE,
}


class HttpHandler:
    """The ASGI application."""

    def __init__(
        self,
        otlp: Otlp,
        receiver: Receiver,
        signals: Sequence[Signal],
        tokens: TokenCheck,
        most_bytes: ByteSize,
    ) -> None:
        """`most_bytes` of one body, as it comes and when decompressed."""
        self._otlp = otlp
        self._receiver = receiver
        self._signals = {signal.path: signal for signal in signals}
        self._tokens = tokens
        self._most = most_bytes

    async def __call__(self, scope: Scope, receive: AsgiReceive, send: AsgiSend) -> None:
        headers = {name.decode("latin-1"): value for name, value in scope["headers"]}
        kind = headers.get("content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
        try:
            response = await self._take(scope, receive, headers, kind)
        except Refusal as error:
            refusal = error
        except Exception as error:  # noqa: BLE001 - a defect of ours is no reason to give up
            refusal = self._receiver.defect(error)
        else:
            body = self._encoded(response, kind)
            await send_whole(send, 200, body, {"content-type": kind})
            return
        self._receiver.refused(refusal)
        await self._refuse(send, refusal, kind)

    async def _take(
        self, scope: Scope, receive: AsgiReceive, headers: dict[str, bytes], kind: str
    ) -> Any:
        signal = self._signals.get(scope["path"])
        if signal is None:
            raise Refusal(404, f"nothing is served at {scope['path'][:200]}")
        if scope["method"] != "POST":
            raise Refusal(405, "only POST is served here", {"allow": "POST"})
        if self._tokens.active:
            self._tokens.check(headers.get("authorization", b""))
        if kind not in {_PROTOBUF, _JSON}:
            raise Refusal(415, f"the content type {kind[:200]!r} is not {_PROTOBUF} or {_JSON}")
        length = int(headers.get("content-length", b"0"))
        if length > self._most:
            raise too_large(self._most)
        with self._receiver.room_for(length or self._most):
            body = await read_body(receive, self._most)
            encoding = headers.get("content-encoding", b"")
            if encoding:
                body = decompress(body, encoding, self._most)
            return signal.answer(await signal.handle(self._parsed(signal, body, kind)))

    def _parsed(self, signal: Signal, body: bytes, kind: str) -> Any:
        otlp = self._otlp
        try:
            if kind == _PROTOBUF:
                return signal.request.FromString(body)
            document = ids_as_base64(orjson.loads(body))
            if not isinstance(document, dict):
                raise ValueError("it is no JSON object")  # noqa: TRY301, TRY004 - answered as the others
            return otlp.json_format.ParseDict(
                document, signal.request(), ignore_unknown_fields=True
            )
        except (
            otlp.message.DecodeError,
            otlp.json_format.ParseError,
            ValueError,
            RecursionError,
        ) as error:
            raise Refusal(400, f"the body is no valid message: {error}") from error

    def _encoded(self, message: Any, kind: str) -> bytes:
        if kind == _JSON:
            text: str = self._otlp.json_format.MessageToJson(message, indent=None)
            return text.encode()
        made: bytes = message.SerializeToString()
        return made

    async def _refuse(self, send: AsgiSend, refusal: Refusal, kind: str) -> None:
        code = _CODES.get(refusal.status, 2)
        if kind == _JSON:
            body = orjson.dumps({"code": code, "message": refusal.detail})
        else:
            kind = _PROTOBUF
            body = status.encode(code, refusal.detail)
        await send_whole(send, refusal.status, body, {"content-type": kind, **refusal.headers})


def ids_as_base64(value: Any, depth: int = 0) -> Any:
    """OTLP/JSON with its hexadecimal ids as base64, which is what the JSON form of other bytes is.

    Attributes are left alone: a key of theirs that is called like an id stands in `key`.

    Raises:
        ValueError: an id is not hexadecimal, or the document is nested too deeply.
    """
    if depth > _DEEP:
        raise ValueError(f"nested more than {_DEEP} deep")
    if isinstance(value, list):
        return [ids_as_base64(one, depth + 1) for one in value]
    if not isinstance(value, dict):
        return value
    made = {}
    for key, one in value.items():
        if key in _IDS and isinstance(one, str):
            try:
                made[key] = base64.b64encode(bytes.fromhex(one)).decode()
            except (ValueError, binascii.Error) as error:
                raise ValueError(f"{key} {one[:64]!r} is not hexadecimal") from error
        elif isinstance(one, dict | list) and key != "attributes":
            made[key] = ids_as_base64(one, depth + 1)
        else:
            made[key] = one
    return made
