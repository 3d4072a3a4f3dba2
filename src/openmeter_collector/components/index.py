"""Where each component is. Strings, so that a run imports only what its config names."""

from __future__ import annotations

from typing import Final

INDEX: Final = {
    "input": {
        "cloudevents": "openmeter_collector.components.inputs.cloudevents:CloudEvents",
        "generate": "openmeter_collector.components.inputs.generate:Generate",
        "http_server": "openmeter_collector.components.inputs.http_server:HttpServer",
        "inproc": "openmeter_collector.components.inputs.inproc:InprocInput",
    },
    "buffer": {
        "memory": "openmeter_collector.components.buffers.memory:Memory",
        "none": "openmeter_collector.components.buffers.none:NoBuffer",
        "sqlite": "openmeter_collector.components.buffers.sqlite:Sqlite",
    },
    "output": {
        "broker": "openmeter_collector.components.outputs.broker:Broker",
        "drop": "openmeter_collector.components.outputs.drop:Drop",
        "drop_on": "openmeter_collector.components.outputs.drop_on:DropOn",
        "http_client": "openmeter_collector.components.outputs.http_client:HttpClientOutput",
        "inproc": "openmeter_collector.components.outputs.inproc:InprocOutput",
        "openmeter": "openmeter_collector.components.outputs.openmeter:OpenMeter",
        "reject": "openmeter_collector.components.outputs.reject:Reject",
        "stdout": "openmeter_collector.components.outputs.stdout:Stdout",
        "switch": "openmeter_collector.components.outputs.switch:Switch",
    },
    "processor": {
        "archive": "openmeter_collector.components.processors.archive:Archive",
        "bloblang": "openmeter_collector.components.processors.bloblang:Bloblang",
        "bounds_check": "openmeter_collector.components.processors.bounds_check:BoundsCheck",
        "branch": "openmeter_collector.components.processors.branch:Branch",
        "cache": "openmeter_collector.components.processors.cache:CacheProcessor",
        "cached": "openmeter_collector.components.processors.cached:Cached",
        "catch": "openmeter_collector.components.processors.catch:Catch",
        "compress": "openmeter_collector.components.processors.compress:Compress",
        "decompress": "openmeter_collector.components.processors.decompress:Decompress",
        "dedupe": "openmeter_collector.components.processors.dedupe:Dedupe",
        "for_each": "openmeter_collector.components.processors.for_each:ForEach",
        "group_by": "openmeter_collector.components.processors.group_by:GroupBy",
        "group_by_value": "openmeter_collector.components.processors.group_by_value:GroupByValue",
        "insert_part": "openmeter_collector.components.processors.insert_part:InsertPart",
        "json_schema": "openmeter_collector.components.processors.json_schema:JsonSchema",
        "log": "openmeter_collector.components.processors.log:Log",
        "mapping": "openmeter_collector.components.processors.mapping:Mapping",
        "metric": "openmeter_collector.components.processors.metric:Metric",
        "mutation": "openmeter_collector.components.processors.mutation:Mutation",
        "noop": "openmeter_collector.components.processors.noop:Noop",
        "parallel": "openmeter_collector.components.processors.parallel:Parallel",
        "rate_limit": "openmeter_collector.components.processors.rate_limit:RateLimitProcessor",
        "resource": "openmeter_collector.components.processors.resource:Resource",
        "retry": "openmeter_collector.components.processors.retry:Retry",
        "select_parts": "openmeter_collector.components.processors.select_parts:SelectParts",
        "sleep": "openmeter_collector.components.processors.sleep:Sleep",
        "split": "openmeter_collector.components.processors.split:Split",
        "switch": "openmeter_collector.components.processors.switch:Switch",
        "sync_response": "openmeter_collector.components.processors.sync_response:SyncResponse",
        "try": "openmeter_collector.components.processors.try_:Try",
        "unarchive": "openmeter_collector.components.processors.unarchive:Unarchive",
        "while": "openmeter_collector.components.processors.while_:While",
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
