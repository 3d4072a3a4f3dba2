"""Where each component is. Strings, so that a run imports only what its config names."""

from __future__ import annotations

from typing import Final

INDEX: Final = {
    "input": {
        "cloudevents": "openmeter_collector.components.inputs.cloudevents:CloudEvents",
        "http_server": "openmeter_collector.components.inputs.http_server:HttpServer",
    },
    "buffer": {
        "none": "openmeter_collector.components.buffers.none:NoBuffer",
        "sqlite": "openmeter_collector.components.buffers.sqlite:Sqlite",
    },
    "output": {
        "drop": "openmeter_collector.components.outputs.drop:Drop",
        "http_client": "openmeter_collector.components.outputs.http_client:HttpClientOutput",
        "openmeter": "openmeter_collector.components.outputs.openmeter:OpenMeter",
        "reject": "openmeter_collector.components.outputs.reject:Reject",
        "stdout": "openmeter_collector.components.outputs.stdout:Stdout",
    },
    "rate_limit": {
        "local": "openmeter_collector.components.rate_limits.local:Local",
    },
}
