"""The pieces of which `init` makes a config: sources and destinations, each with its comments and test."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Source:
    """Where events come from.

    Attributes:
        summary: what it is, for whoever chooses.
        input: the config's input, with comments.
        processors: what makes usage events, with comments.
        test: input and output of a unit test.
        then: what to do to see a first event.
        buffered: whoever sends relies on what was acknowledged, so a buffer on disk is needed.
    """

    summary: str
    input: str
    processors: str
    test: str
    then: str
    buffered: bool = True


@dataclass(frozen=True, slots=True)
class Destination:
    """Where events go. `variable` is the one that holds its token, if it needs one."""

    summary: str
    output: str
    url: str = ""
    variable: str = ""


_KEEP = """
# Events arrive as they should be. To change them, add for example:
#   - mapping: |
#       root = this
#       root.data.region = "eu"
processors: []
"""

SOURCES: Final[dict[str, Source]] = {
    "events": Source(
        "usage events in CloudEvents format, from OpenMeter SDKs or curl",
        """
        # Takes what any OpenMeter SDK sends: POST /api/v1/events. 204 means: on disk.
        cloudevents:
          address: ${HTTP_ADDRESS:0.0.0.0:8080}
          # Bearer tokens that senders must show; an empty one asks for none.
          tokens:
            - "${INGEST_TOKEN:}"
        """,
        _KEEP,
        """
        - name: events pass as they are
          input_batch:
            - json_content:
                {specversion: "1.0", id: a1, source: my-app, type: request, subject: customer-1}
          output_batches:
            - - json_equals:
                  {specversion: "1.0", id: a1, source: my-app, type: request, subject: customer-1}
        """,
        "curl -i http://localhost:8080/api/v1/events -H 'Content-Type: application/cloudevents+json' "
        '-d \'{"specversion":"1.0","id":"a1","source":"my-app","type":"request","subject":"customer-1"}\'',
    ),
    "json": Source(
        "JSON of your own over HTTP, made into usage events by a mapping",
        """
        # Takes any JSON object: POST /usage. The answer comes when the event is on disk.
        http_server:
          address: ${HTTP_ADDRESS:0.0.0.0:8080}
          path: /usage
        """,
        """
        processors:
          - label: to_event
            mapping: |
              root = {
                "specversion": "1.0",
                # The same fact sent twice must have the same id: take one that your system has.
                "id": this.request_id.not_null().string(),
                "source": "my-app",
                "type": "request",
                # Who is billed.
                "subject": this.customer.not_null().string(),
                "time": this.at | now(),
                "data": {"tokens": this.tokens.number()},
              }
        """,
        """
        - name: a request becomes a usage event
          input_batch:
            - json_content:
                {request_id: r-1, customer: customer-1, at: "2026-01-01T00:00:00Z", tokens: "12"}
          output_batches:
            - - json_equals:
                  specversion: "1.0"
                  id: r-1
                  source: my-app
                  type: request
                  subject: customer-1
                  time: "2026-01-01T00:00:00Z"
                  data: {tokens: 12}
        - name: without a customer nobody can be billed, so the event is flagged
          input_batch:
            - json_content: {request_id: r-1, tokens: 1}
          output_batches:
            - - bloblang: errored()
        """,
        "curl -i http://localhost:8080/usage "
        '-d \'{"request_id":"r-1","customer":"customer-1","tokens":12}\'',
    ),
    "file": Source(
        "lines of JSON in files",
        """
        # Reads the files once, line by line, and ends.
        file:
          paths: ["${FILES:./usage/*.jsonl}"]
          scanner:
            lines: {}
        """,
        """
        processors:
          - label: to_event
            mapping: |
              root = {
                "specversion": "1.0",
                # Made of the line itself: reading a file again bills nothing twice.
                "id": content().hash("sha256").encode("hex"),
                "source": "usage-files",
                "type": "usage",
                "subject": this.customer.not_null().string(),
                "time": this.at,
                "data": this.without("customer", "at"),
              }
        """,
        """
        - name: a line becomes a usage event, the same line always the same one
          input_batch:
            - content: '{"customer":"customer-1","at":"2026-01-01T00:00:00Z","gb":3}'
          output_batches:
            - - json_equals:
                  specversion: "1.0"
                  id: c1dbae25ea5c27b35469964e092fd4507859ee11bfe7aa95c0c56ff35959352e
                  source: usage-files
                  type: usage
                  subject: customer-1
                  time: "2026-01-01T00:00:00Z"
                  data: {gb: 3}
        """,
        "mkdir -p usage && echo "
        '\'{"customer":"customer-1","at":"2026-01-01T00:00:00Z","gb":3}\' > usage/first.jsonl',
    ),
    "prometheus": Source(
        "values of Prometheus, asked at the end of each window",
        """
        # A window is a minute. One that is missed (a restart, an outage) is asked for later.
        prometheus:
          url: ${PROMETHEUS_URL:http://localhost:9090}
          schedule: "0 * * * * *"
          query_offset: 1m
          queries:
            - query:
                name: cpu_seconds
                promql: sum(increase(node_cpu_seconds_total{mode!="idle"}[$__window])) by (instance)
        """,
        """
        processors:
          - label: to_events
            mapping: |
              root = this.values.map_each(value -> {
                "specversion": "1.0",
                # What is measured and when: asking again for a window bills nothing twice.
                "id": "%s/%s/%s".format(this.name, this.timestamp, value.metric.instance),
                "source": "prometheus",
                "type": this.name,
                "subject": value.metric.instance,
                "time": this.timestamp,
                "data": {"value": value.value.index(1).number()},
              })
          - unarchive:
              format: json_array
        """,
        """
        - name: each sample becomes a usage event
          input_batch:
            - json_content:
                name: cpu_seconds
                timestamp: "2026-01-01T00:01:00Z"
                values:
                  - metric: {instance: node-1}
                    value: [1767225660, "12.5"]
                  - metric: {instance: node-2}
                    value: [1767225660, "3"]
          output_batches:
            - - json_contains:
                  id: cpu_seconds/2026-01-01T00:01:00Z/node-1
                  type: cpu_seconds
                  subject: node-1
                  data: {value: 12.5}
              - json_contains: {subject: node-2, data: {value: 3}}
        """,
        "set PROMETHEUS_URL, and wait for the next minute",
    ),
    "demo": Source(
        "made up events, to see something move",
        """
        generate:
          interval: 1s
          mapping: |
            root = {
              "specversion": "1.0",
              "id": uuid_v4(),
              "source": "demo",
              "type": "request",
              "subject": "customer-1",
              "time": now(),
              "data": {"tokens": random_int(min: 1, max: 100)},
            }
        """,
        _KEEP,
        """
        - name: events pass as they are
          input_batch:
            - json_content: {id: a1, subject: customer-1}
          output_batches:
            - - json_equals: {id: a1, subject: customer-1}
        """,
        "nothing: events are made once a second",
        buffered=False,
    ),
}

_OPENMETER = """
# Refused events become dead letters, everything else is tried until it is delivered.
openmeter:
  url: ${{OPENMETER_URL:{url}}}
  token: ${{{variable}:}}
  batching:
    # At most so many events in a request, and no event waits longer.
    count: 100
    period: 1s
"""

DESTINATIONS: Final[dict[str, Destination]] = {
    "openmeter": Destination(
        "OpenMeter, in the cloud or your own",
        _OPENMETER,
        "https://openmeter.cloud",
        "OPENMETER_TOKEN",
    ),
    "konnect": Destination(
        "Kong Konnect's metering",
        _OPENMETER,
        "https://us.api.konghq.com/v3/openmeter",
        "KONNECT_SYSTEM_ACCESS_TOKEN",
    ),
    "local": Destination(
        "a local OpenMeter (openmeter-collector sandbox)",
        _OPENMETER,
        "http://127.0.0.1:8888",
        "OPENMETER_TOKEN",
    ),
    "stdout": Destination("standard output, to look at", "stdout: {}\n"),
}


_HEAD: Final = """\
# `openmeter-collector test` runs the tests below, `run --dry-run` shows what would be sent.
"""
_LOGGER: Final = """\
logger:
  level: ${{LOG_LEVEL:INFO}}
  format: ${{LOG_FORMAT:{form}}}
"""
_HTTP: Final = """\
# Probes (/ping, /ready) and metrics (/metrics).
http:
  address: ${METRICS_ADDRESS:0.0.0.0:4195}
"""
_BUFFER: Final = """\
# Where events are safe until they are delivered. Put it on a volume.
buffer:
  sqlite:
    path: ${BUFFER_PATH:./buffer.db}
"""


def made(source: str, destination: str, url: str = "") -> str:
    """The text of a config."""
    chosen, to = SOURCES[source], DESTINATIONS[destination]
    output = to.output.format(url=url or to.url, variable=to.variable) if to.variable else to.output
    head = f"# Made by openmeter-collector init: {chosen.summary}, to {to.summary}.\n{_HEAD}"
    logger = _LOGGER.format(form="logfmt" if destination == "stdout" else "json")
    parts = [head, logger, _HTTP, "input:\n" + _indented(chosen.input)]
    if chosen.buffered and destination != "stdout":
        parts.append(_BUFFER)
    parts += [
        "pipeline:\n" + _indented(chosen.processors),
        "output:\n" + _indented(output),
        "tests:\n" + _indented(chosen.test),
    ]
    return "\n".join(parts)


def _indented(text: str) -> str:
    return textwrap.indent(textwrap.dedent(text).strip("\n") + "\n", "  ")
