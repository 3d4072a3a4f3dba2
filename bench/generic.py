"""The published http-server config, whose every event goes through general-purpose components, against
our own preset: what is accepted, and what is delivered to a local sink.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from bench.harness import COLLECTOR, folder, free_port, load, metric, started

SECONDS = float(os.environ.get("BENCH_SECONDS", "4"))
PATH = "/api/v1/events"
SANDBOX = ["-m", "openmeter_collector.cli.main", "sandbox", "--light"]

# As it is published, but for addresses and paths and the log's level.
PUBLISHED = """
logger:
  level: "${LOG_LEVEL:WARN}"
  format: "${LOG_FORMAT:json}"
  static_fields:
    service: "openmeter-collector"
    instance: "${K8S_APP_INSTANCE:unknown}"
    version: "${K8S_APP_VERSION:unknown}"
shutdown_timeout: 10s
http:
  enabled: true
  address: 127.0.0.1:${ADMIN}
  debug_endpoints: false
input:
  http_server:
    address: 127.0.0.1:${INGEST}
    path: /api/v1/events
    allowed_verbs:
      - POST
    timeout: 10s
    sync_response:
      status: '${! meta("http_status_code").or("204") }'
      headers:
        Content-Type: '${! meta("content_type").or("application/json") }'
  processors:
    - metric:
        type: counter
        name: openmeter_event_received
        value: 1
    - label: "validation"
      json_schema:
        schema_path: file://./cloudevents.spec.json
    - catch:
      - log:
          level: ERROR
          message: "schema validation failed due to: ${!error()}"
          fields_mapping: |-
            root = this
      - mapping: |
          meta http_status_code = "400"
          meta content_type = "application/problem+json"

          root = {
            "type": "about:blank",
            "title": "Bad Request",
            "status": 400,
            "detail": "invalid event: %s".format(error()),
          }
      - sync_response: {}
      - mapping: root = deleted()
    - mapping: |
        meta http_status_code = "204"
    - sync_response: {}
buffer:
  sqlite:
    path: "${BUFFER_PATH:./buffer.db}"
    post_processors:
      - label: "buffer_split_batch"
        split:
          size: 100
output:
  label: "openmeter"
  drop_on:
    error: false
    error_patterns:
      - Bad Request
    output:
      http_client:
        url: "${OPENMETER_URL:https://openmeter.cloud}/api/v1/events"
        verb: POST
        headers:
          Authorization: "Bearer ${OPENMETER_TOKEN:}"
          Content-Type: "application/json"
        timeout: 30s
        retry_period: 15s
        retries: 3
        max_retry_backoff: 1m
        max_in_flight: 64
        batch_as_multipart: false
        drop_on:
          - 400
        batching:
          count: 100
          period: 1s
          processors:
            - metric:
                type: counter
                name: openmeter_events_sent
                value: 1
            - archive:
                format: json_array
        dump_request_log_level: DEBUG
metrics:
  prometheus:
    add_process_metrics: true
"""


def main() -> None:
    with folder() as where:
        ours = run(where / "ours", ["run", "--preset", "http-server"])
        config = where / "published.yaml"
        config.write_text(PUBLISHED)
        published = run(where / "published", ["run", "-c", str(config)])
        # One request at a time would deliver 500 events a second at most.
        run(where / "published-slow-sink", ["run", "-c", str(config)], "--fault", "slow=0.2")
    print(
        f"published against ours: accepted {published[0] / ours[0]:.2f}, delivered "
        f"{published[1] / ours[1]:.2f}, processor time {published[2] / ours[2]:.2f} times"
    )


def run(where: Path, command: list[str], *sandbox: str) -> tuple[float, float, float]:
    """Accepted and delivered events a second, and microseconds of processor time an event."""
    where.mkdir()
    ingest, admin, sink = free_port(), free_port(), free_port()
    env = {
        "INGEST": str(ingest),
        "ADMIN": str(admin),
        "HTTP_ADDRESS": f"127.0.0.1:{ingest}",
        "METRICS_ADDRESS": f"127.0.0.1:{admin}",
        "BUFFER_PATH": str(where / "buffer.db"),
        "OPENMETER_URL": f"http://127.0.0.1:{sink}",
        "LOG_LEVEL": "WARN",
    }
    with (
        started([*SANDBOX, "--listen", f"127.0.0.1:{sink}", *sandbox], sink),
        started([*COLLECTOR[:2], *command], ingest, **env) as collector,
    ):
        before = collector.cpu
        began = time.perf_counter()
        figures = load(f"http://127.0.0.1:{ingest}{PATH}", seconds=SECONDS)
        waiting = metric(admin, "journal_events")
        while metric(admin, "journal_events"):
            time.sleep(0.02)
        took = time.perf_counter() - began
        sent = metric(admin, "journal_drained_events") or figures["requests"]
        cpu = (collector.cpu - before) / figures["requests"] * 1e6
        accepted = figures["requests_per_second"]
        print(
            f"{where.name}: {accepted:,.0f} events/s accepted one by one (p50 "
            f"{figures['latency_ms']['p50']} ms, p99 {figures['latency_ms']['p99']} ms), "
            f"{waiting:,.0f} waiting at the end, {sent / took:,.0f} events/s delivered; "
            f"{cpu:.0f} us CPU an event"
        )
        return accepted, sent / took, cpu


if __name__ == "__main__":
    main()
