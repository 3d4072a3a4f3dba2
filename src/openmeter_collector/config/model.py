"""The root document: what a configuration file as a whole may say."""

from __future__ import annotations

from typing import Any, Final, Literal

from openmeter_collector.component.node import Node
from openmeter_collector.config.replicas import LeaderElection, State
from openmeter_collector.spec.component import field, section
from openmeter_collector.spec.fields import (
    BufferNode,
    CacheNode,
    InputNode,
    MappingText,
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
    except_probes: bool = field(
        default=False, ours=True, doc="Answer /ping and /ready without a password."
    )


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
    tokens: list[str] = field(
        default_factory=list,
        ours=True,
        secret=True,
        advanced=True,
        doc="Bearer tokens, one of which is asked for by all endpoints but /ping and /ready; for "
        "rotation several. A token may be given as `sha256:` and the hexadecimal SHA-256 of it. "
        "With `basic_auth` either will do.",
    )


@section
class LogFile:
    """A file to log to."""

    path: str = field(
        default="", doc="File to append logs to, instead of writing them to standard output."
    )
    rotate: bool = field(
        default=False, doc="Put the file aside when it has grown to 100 MiB, and start a new one."
    )
    rotate_max_age_days: int = field(
        default=0,
        minimum=0,
        doc="Days after which files that were put aside are removed; 0 keeps them.",
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
        default_factory=lambda: {"@service": "benthos"}, doc="Fields on every line."
    )
    file: LogFile = field(default_factory=LogFile, advanced=True, doc="Log to a file.")


@section
class Pipeline:
    """What happens to messages between buffer and output."""

    threads: int = field(
        default=-1,
        doc="Accepted for compatibility: batches are processed one after the other, in order, and "
        "writes to the output go on at the same time.",
    )
    processors: list[ProcessorNode] = field(
        default_factory=list, doc="Processors, in the order in which they run."
    )


@section
class ErrorHandling:
    """What to do with messages on which a processor failed."""

    strict: bool = field(
        default=False,
        doc="A message on which a processor failed skips all that follows and is refused in front "
        "of the output, instead of being passed on, flagged. `catch` never sees it.",
    )


@section
class TestMessage:
    """A message that a unit test feeds in; one of the three contents."""

    content: str = field(default="", doc="The raw content.")
    json_content: Any = field(default=None, doc="A value; the content is its JSON.")
    file_content: str = field(default="", doc="A file that holds the content.")
    metadata: dict[str, Any] = field(default_factory=dict, doc="Metadata of the message.")


@section
class TestCondition:
    """What a unit test expects of one message; all that is given must hold."""

    bloblang: str = field(default="", doc="A query that must be true.")
    content_equals: str | None = field(default=None, doc="The content, exactly.")
    content_matches: str = field(default="", doc="A regular expression found in the content.")
    metadata_equals: dict[str, Any] | None = field(default=None, doc="Keys and their values.")
    file_equals: str = field(default="", doc="A file with the content, exactly.")
    file_json_equals: str = field(default="", doc="A file with an equal JSON value.")
    file_json_contains: str = field(default="", doc="A file with JSON the content contains.")
    json_equals: Any = field(default=None, doc="An equal JSON value.")
    json_contains: Any = field(default=None, doc="A JSON value the content contains.")


@section
class UnitTest:
    """A unit test of processors."""

    name: str = field(doc="What is tested.")
    environment: dict[str, str] = field(
        default_factory=dict, doc="Environment variables during the test."
    )
    target_processors: str = field(
        default="/pipeline/processors", doc="JSON pointer or label of what is tested."
    )
    target_mapping: str = field(default="", doc="A mapping file to test instead.")
    mocks: dict[str, Any] = field(
        default_factory=dict, doc="Processors by label or JSON pointer, and what replaces each."
    )
    input_batch: list[TestMessage] = field(default_factory=list, doc="One batch to feed in.")
    input_batches: list[list[TestMessage]] = field(
        default_factory=list, doc="Several batches to feed in, one after the other."
    )
    output_batches: list[list[TestCondition]] = field(
        default_factory=list, doc="What must come out: batches of conditions, one for each message."
    )


@section
class Stream:
    """One stream of several that run side by side."""

    input: InputNode | None = field(default=None, doc="Where messages come from.")
    buffer: BufferNode | None = field(default=None, doc="Where messages become safe.")
    pipeline: Pipeline = field(
        default_factory=Pipeline, doc="Processors between buffer and output."
    )
    output: OutputNode | None = field(default=None, doc="Where messages go.")
    tests: list[UnitTest] = field(default_factory=list, doc="Unit tests of this stream.")


@section
class Resources:
    """A file of resources."""

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
    tests: list[UnitTest] = field(default_factory=list, doc="Unit tests of these resources.")


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
    metrics_mapping: MappingText | None = None
    """Renames and drops metrics; written as `mapping` beside the metrics component."""
    tracer: TracerNode | None = field(default=None, doc="Where traces go.")
    shutdown_delay: Duration = field(
        default=Duration("0s"),
        doc="Go on for this long after the signal to stop; a second signal cuts it short.",
    )
    shutdown_timeout: Duration = field(
        default=Duration("20s"), doc="Time to finish in order; what is left stays in the buffer."
    )
    leader_election: LeaderElection = field(
        default_factory=LeaderElection,
        ours=True,
        advanced=True,
        doc="Which of several replicas fetches.",
    )
    state: State = field(
        default_factory=State,
        ours=True,
        advanced=True,
        doc="Where positions in sources are kept for all replicas.",
    )
    error_handling: ErrorHandling = field(
        default_factory=ErrorHandling, advanced=True, doc="What to do with failed messages."
    )
    tests: list[UnitTest] = field(default_factory=list, doc="Unit tests of this configuration.")


RESOURCES: Final[dict[str, str]] = {
    "input_resources": "input",
    "processor_resources": "processor",
    "output_resources": "output",
    "cache_resources": "cache",
    "rate_limit_resources": "rate_limit",
}


def resources_of(config: Config | Resources) -> dict[tuple[str, str], Node]:
    """All resources by kind and label."""
    return {
        (kind, node.label): node
        for name, kind in RESOURCES.items()
        for node in getattr(config, name)
    }
