"""Where each component is. Strings, so that a run imports only what its config names."""

from __future__ import annotations

from typing import Final

INDEX: Final = {
    "input": {
        "batched": "openmeter_collector.components.inputs.batched:Batched",
        "broker": "openmeter_collector.components.inputs.broker:BrokerInput",
        "cloudevents": "openmeter_collector.components.inputs.cloudevents:CloudEvents",
        "file": "openmeter_collector.components.inputs.file:FileInput",
        "generate": "openmeter_collector.components.inputs.generate:Generate",
        "http_server": "openmeter_collector.components.inputs.http_server:HttpServer",
        "inproc": "openmeter_collector.components.inputs.inproc:InprocInput",
        "read_until": "openmeter_collector.components.inputs.read_until:ReadUntil",
        "resource": "openmeter_collector.components.inputs.resource:ResourceInput",
        "sequence": "openmeter_collector.components.inputs.sequence:Sequence",
        "stdin": "openmeter_collector.components.inputs.stdin:Stdin",
    },
    "buffer": {
        "memory": "openmeter_collector.components.buffers.memory:Memory",
        "none": "openmeter_collector.components.buffers.none:NoBuffer",
        "sqlite": "openmeter_collector.components.buffers.sqlite:Sqlite",
    },
    "output": {
        "broker": "openmeter_collector.components.outputs.broker:Broker",
        "cache": "openmeter_collector.components.outputs.cache:CacheOutput",
        "drop": "openmeter_collector.components.outputs.drop:Drop",
        "drop_on": "openmeter_collector.components.outputs.drop_on:DropOn",
        "fallback": "openmeter_collector.components.outputs.fallback:Fallback",
        "file": "openmeter_collector.components.outputs.file:File",
        "http_client": "openmeter_collector.components.outputs.http_client:HttpClientOutput",
        "inproc": "openmeter_collector.components.outputs.inproc:InprocOutput",
        "openmeter": "openmeter_collector.components.outputs.openmeter:OpenMeter",
        "reject": "openmeter_collector.components.outputs.reject:Reject",
        "reject_errored": "openmeter_collector.components.outputs.reject_errored:RejectErrored",
        "resource": "openmeter_collector.components.outputs.resource:ResourceOutput",
        "retry": "openmeter_collector.components.outputs.retry:Retry",
        "stdout": "openmeter_collector.components.outputs.stdout:Stdout",
        "switch": "openmeter_collector.components.outputs.switch:Switch",
        "sync_response": "openmeter_collector.components.outputs.sync_response:SyncResponse",
    },
    "processor": {
        "archive": "openmeter_collector.components.processors.archive:Archive",
        "bloblang": "openmeter_collector.components.processors.bloblang:Bloblang",
        "catch": "openmeter_collector.components.processors.catch:Catch",
        "dedupe": "openmeter_collector.components.processors.dedupe:Dedupe",
        "json_schema": "openmeter_collector.components.processors.json_schema:JsonSchema",
        "log": "openmeter_collector.components.processors.log:Log",
        "mapping": "openmeter_collector.components.processors.mapping:Mapping",
        "metric": "openmeter_collector.components.processors.metric:Metric",
        "mutation": "openmeter_collector.components.processors.mutation:Mutation",
        "noop": "openmeter_collector.components.processors.noop:Noop",
        "split": "openmeter_collector.components.processors.split:Split",
        "switch": "openmeter_collector.components.processors.switch:Switch",
        "sync_response": "openmeter_collector.components.processors.sync_response:SyncResponse",
        "unarchive": "openmeter_collector.components.processors.unarchive:Unarchive",
    },
    "cache": {
        "file": "openmeter_collector.components.caches.file:File",
        "lru": "openmeter_collector.components.caches.lru:Lru",
        "memory": "openmeter_collector.components.caches.memory:Memory",
        "multilevel": "openmeter_collector.components.caches.multilevel:Multilevel",
        "noop": "openmeter_collector.components.caches.noop:Noop",
        "ttlru": "openmeter_collector.components.caches.ttlru:TtlLru",
    },
    "rate_limit": {
        "local": "openmeter_collector.components.rate_limits.local:Local",
    },
    "metrics": {
        "json_api": "openmeter_collector.components.metrics.json_api:JsonApi",
        "logger": "openmeter_collector.components.metrics.logger:LoggerMetrics",
        "none": "openmeter_collector.components.metrics.none:NoMetrics",
        "prometheus": "openmeter_collector.components.metrics.prometheus:Prometheus",
    },
    "tracer": {
        "none": "openmeter_collector.components.tracers.none:NoTracer",
    },
}
