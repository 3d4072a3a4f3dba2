"""OTLP over gRPC: the listener, its limits, and the codes it answers with."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from openmeter_collector.api import ConfigError
from openmeter_collector.components.inputs.http_ingest import Refusal, TlsFiles, TokenCheck
from openmeter_collector.components.inputs.otlp_receive import NOT_WHOLE, Receiver, Signal
from openmeter_collector.components.otlp import status
from openmeter_collector.components.otlp.library import load_grpc, load_otlp

_GRACE = 5.0
"""Seconds that requests under way are given when the input stops."""

_CODES = {
    400: status.INVALID_ARGUMENT,
    401: status.UNAUTHENTICATED,
    413: status.RESOURCE_EXHAUSTED,
    429: status.UNAVAILABLE,
    503: status.UNAVAILABLE,
}


class _NotWhole(Refusal):
    """The call ended before its message."""


class GrpcOptions:
    """Where and how to listen."""

    def __init__(
        self, address: str, tls: TlsFiles, tokens: Sequence[str], most_bytes: int, where: str
    ) -> None:
        """`most_bytes` of one request, also when decompressed."""
        self.address, self.tls, self.most_bytes, self.where = address, tls, most_bytes, where
        self.tokens = TokenCheck(tokens, where)


@asynccontextmanager
async def serving(
    options: GrpcOptions, receiver: Receiver, signals: Sequence[Signal]
) -> AsyncIterator[str]:
    """Serve the services; yields the address bound. Leaving the block takes nothing new and gives
    what is under way a moment to be answered.

    Raises:
        ConfigError: the address cannot be bound, a TLS file is not right, the extra is missing.
    """
    grpc = load_grpc(options.where)
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", options.most_bytes),
            # Two collectors on one port would each get some of the requests.
            ("grpc.so_reuseport", 0),
        ]
    )
    decode_error = load_otlp(options.where).message.DecodeError
    handlers = [
        grpc.method_handlers_generic_handler(
            signal.service,
            {
                # On the wire it is a unary call. Taken as a stream, a message over the bound, which
                # gRPC answers by itself, is at least known to have been there.
                "Export": grpc.stream_unary_rpc_method_handler(
                    _export(grpc, signal, receiver, options, decode_error),
                    response_serializer=_serialize,
                )
            },
        )
        for signal in signals
    ]
    server.add_generic_rpc_handlers(handlers)
    try:
        port = _bind(grpc, server, options)
    except RuntimeError as error:
        raise ConfigError(
            f"{options.where}: {options.address} cannot be bound; is it in use?"
        ) from error
    await server.start()
    host = options.address.rpartition(":")[0]
    try:
        yield f"{host}:{port}"
    finally:
        await _stop(server)


async def _stop(server: Any) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.shield(server.stop(_GRACE))


def _bind(grpc: Any, server: Any, options: GrpcOptions) -> int:
    credentials = _credentials(grpc, options.tls, options.where)
    if credentials is None:
        return int(server.add_insecure_port(options.address))
    return int(server.add_secure_port(options.address, credentials))


def _credentials(grpc: Any, files: TlsFiles, where: str) -> Any:
    """Credentials of the listener, None for plain text.

    Raises:
        ConfigError: a file is missing, or one is given without another it needs.
    """
    if not files.cert_file and not files.key_file:
        if files.client_ca_file:
            raise ConfigError(
                f"{where}.tls: client_ca_file without cert_file; add cert_file and key_file"
            )
        return None
    if not files.cert_file or not files.key_file:
        raise ConfigError(f"{where}.tls: gRPC needs both cert_file and key_file")
    try:
        cert = Path(files.cert_file).read_bytes()
        key = Path(files.key_file).read_bytes()
        authority = Path(files.client_ca_file).read_bytes() if files.client_ca_file else None
    except OSError as error:
        raise ConfigError(f"{where}.tls: {error}; check the files") from error
    return grpc.ssl_server_credentials(
        [(key, cert)], root_certificates=authority, require_client_auth=authority is not None
    )


def _serialize(message: Any) -> bytes:
    made: bytes = message.SerializeToString()
    return made


def _export(
    grpc: Any,
    signal: Signal,
    receiver: Receiver,
    options: GrpcOptions,
    decode_error: type[Exception],
) -> Callable[[Any, Any], Any]:
    """The method of one service."""
    codes = {code.value[0]: code for code in grpc.StatusCode}
    tokens = options.tokens

    async def take(context: Any) -> Any:
        if tokens.active:
            metadata = dict(context.invocation_metadata() or ())
            given = metadata.get("authorization", "")
            tokens.check(given if isinstance(given, bytes) else given.encode())
        body = await context.read()
        if not isinstance(body, bytes):
            raise _NotWhole(
                400, f"no whole message came; it may have at most {options.most_bytes} bytes"
            )
        with receiver.room_for(len(body)):
            try:
                request = signal.request.FromString(body)
            except decode_error as error:
                raise Refusal(400, f"the request is no valid message: {error}") from error
            return signal.answer(await signal.handle(request))

    async def export(messages: Any, context: Any) -> Any:
        del messages  # an iterator over what `read` gives
        reason = None
        try:
            return await take(context)
        except Refusal as error:
            refusal = error
            reason = NOT_WHOLE if isinstance(error, _NotWhole) else None
        except Exception as error:  # noqa: BLE001 - a defect of ours is no reason to give up
            refusal = receiver.defect(error)
        receiver.refused(refusal, reason)
        code = _CODES[refusal.status]
        wait = refusal.headers.get("retry-after")
        details = status.encode(code, refusal.detail, float(wait) if wait else None)
        metadata = (("grpc-status-details-bin", details),)
        await context.abort(codes[code], refusal.detail, trailing_metadata=metadata)
        return None

    return export
