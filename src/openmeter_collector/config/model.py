"""The root document: what a configuration file as a whole may say."""

from __future__ import annotations

from typing import Any, Literal

from openmeter_collector.component.node import Node
from openmeter_collector.spec.component import field, section
from openmeter_collector.spec.fields import (
    BufferNode,
    CacheNode,
    InputNode,
    MetricsNode,
    OutputNode,
    ProcessorNode,
    RateLimitNode,
    TracerNode,
)
from openmeter_collector.values.units import Duration


@section
class Cors:
    """Cross-origin requests to the service."""

    enabled: bool = field(default=False, doc="Answer cross-origin requests.")
    allowed_origins: list[str] = field(default_factory=list, doc="Origins that are allowed.")


@section
class BasicAuth:
    """A password in front of the service."""

    enabled: bool = field(default=False, doc="Ask for a user name and password.")
    realm: str = field(default="restricted", doc="Realm told to the client.")
    username: str = field(default="", doc="User name that is expected.")
    password_hash: str = field(default="", secret=True, doc="Hash of the password, base64.")
    algorithm: Literal["sha256", "md5", "bcrypt", "scrypt"] = field(
        default="sha256", doc="How `password_hash` was made."
    )
    salt: str = field(default="", secret=True, doc="Salt for scrypt, base64.")


@section
class Http:
    """The collector's own HTTP service: health, metrics, and paths mounted by components."""

    enabled: bool = field(default=True, doc="Whether to listen at all.")
    address: str = field(default="0.0.0.0:4195", doc="`host:port` to listen on.")
    root_path: str = field(
        default="/benthos", advanced=True, doc="Prefix under which all endpoints answer as well."
    )
    debug_endpoints: bool = field(default=False, doc="Serve endpoints for debugging.")
    cert_file: str = field(default="", advanced=True, doc="Certificate (PEM) for TLS.")
    key_file: str = field(default="", advanced=True, doc="Private key (PEM) for TLS.")
    cors: Cors = field(default_factory=Cors, advanced=True, doc="Cross-origin requests.")
    basic_auth: BasicAuth = field(
        default_factory=BasicAuth, advanced=True, doc="A password in front of all endpoints."
    )


@section
class LogFile:
    """A file to log to."""

    path: str = field(default="", doc="File to write logs to; empty writes to standard error.")
    rotate: bool = field(default=False, doc="Start a new file from time to time.")
    rotate_max_age_days: int = field(
        default=0, minimum=0, doc="Days after which old files are removed; 0 keeps them."
    )


@section
class Logger:
    """What is logged and how."""

    level: Literal["OFF", "FATAL", "ERROR", "WARN", "INFO", "DEBUG", "TRACE", "ALL", "NONE"] = (
        field(default="INFO", doc="Least severity that is logged.")
    )
    format: Literal["logfmt", "json"] = field(default="logfmt", doc="Form of a log line.")
    add_timestamp: bool = field(default=False, doc="Put a timestamp on each line.")
    level_name: str = field(default="level", advanced=True, doc="Name of the level field.")
    timestamp_name: str = field(default="time", advanced=True, doc="Name of the timestamp field.")
    message_name: str = field(default="msg", advanced=True, doc="Name of the message field.")
    static_fields: dict[str, str] = field(
        default_factory=lambda: {"@service": "openmeter-collector"}, doc="Fields on every line."
    )
    file: LogFile = field(default_factory=LogFile, advanced=True, doc="Log to a file.")


@section
class Pipeline:
    """What happens to messages between buffer and output."""

    threads: int = field(
        default=-1, doc="How many batches are processed at a time; -1 is one for each CPU."
    )
    processors: list[ProcessorNode] = field(
        default_factory=list, doc="Processors, in the order in which they run."
    )


@section
class ErrorHandling:
    """What to do with messages on which a processor failed."""

    strict: bool = field(
        default=False,
        doc="Reject a failed message instead of passing it on, flagged, to what follows.",
    )


@section
class Config:
    """A whole configuration."""

    http: Http = field(default_factory=Http, doc="The collector's own HTTP service.")
    input: InputNode | None = field(default=None, doc="Where messages come from.")
    buffer: BufferNode | None = field(default=None, doc="Where messages become safe.")
    pipeline: Pipeline = field(
        default_factory=Pipeline, doc="Processors between buffer and output."
    )
    output: OutputNode | None = field(default=None, doc="Where messages go.")
    input_resources: list[InputNode] = field(
        default_factory=list, doc="Inputs that are referred to by label."
    )
    processor_resources: list[ProcessorNode] = field(
        default_factory=list, doc="Processors that are referred to by label."
    )
    output_resources: list[OutputNode] = field(
        default_factory=list, doc="Outputs that are referred to by label."
    )
    cache_resources: list[CacheNode] = field(
        default_factory=list, doc="Caches that are referred to by label."
    )
    rate_limit_resources: list[RateLimitNode] = field(
        default_factory=list, doc="Rate limits that are referred to by label."
    )
    logger: Logger = field(default_factory=Logger, doc="What is logged and how.")
    metrics: MetricsNode | None = field(default=None, doc="Where metrics go.")
    tracer: TracerNode | None = field(default=None, doc="Where traces go.")
    shutdown_delay: Duration = field(
        default=Duration("0s"), doc="Wait this long after the signal before stopping."
    )
    shutdown_timeout: Duration = field(
        default=Duration("20s"), doc="Time to finish in order; what is left stays in the buffer."
    )
    error_handling: ErrorHandling = field(
        default_factory=ErrorHandling, advanced=True, doc="What to do with failed messages."
    )
    tests: list[Any] = field(default_factory=list, doc="Unit tests of this configuration.")


RESOURCES: dict[str, str] = {
    "input_resources": "input",
    "processor_resources": "processor",
    "output_resources": "output",
    "cache_resources": "cache",
    "rate_limit_resources": "rate_limit",
}


def resources_of(config: Config) -> dict[tuple[str, str], Node]:
    """All resources by kind and label."""
    return {
        (kind, node.label): node
        for name, kind in RESOURCES.items()
        for node in getattr(config, name)
    }
