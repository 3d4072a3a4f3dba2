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
        "http_client": "openmeter_collector.components.outputs.http_client:HttpClientOutput",
        "openmeter": "openmeter_collector.components.outputs.openmeter:OpenMeter",
    },
}
