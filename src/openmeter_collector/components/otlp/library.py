"""The libraries of OTLP, imported when a component that needs them is opened."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from openmeter_collector.components import extras

_PROTO = "opentelemetry.proto"


@dataclass(frozen=True, slots=True)
class Otlp:
    """The generated modules of the protocol, and what reads its JSON form."""

    logs_service: Any
    metrics_service: Any
    traces_service: Any
    logs: Any
    metrics: Any
    json_format: Any
    message: Any


def load_otlp(where: str) -> Otlp:
    """The messages of the protocol.

    Raises:
        ConfigError: the extra is not installed.
    """
    return Otlp(
        *extras.load(
            where,
            "otlp",
            f"{_PROTO}.collector.logs.v1.logs_service_pb2",
            f"{_PROTO}.collector.metrics.v1.metrics_service_pb2",
            f"{_PROTO}.collector.trace.v1.trace_service_pb2",
            f"{_PROTO}.logs.v1.logs_pb2",
            f"{_PROTO}.metrics.v1.metrics_pb2",
            "google.protobuf.json_format",
            "google.protobuf.message",
        )
    )


def load_grpc(where: str) -> Any:
    """The `grpc` module, with `grpc.aio`.

    Raises:
        ConfigError: the extra is not installed.
    """
    # Its C part writes to standard error by itself, where our log lines are.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    return extras.load(where, "otlp", "grpc", "grpc.aio")[0]
