"""Where each component is. Strings, so that a run imports only what its config names."""

from __future__ import annotations

from typing import Final

INDEX: Final = {
    "output": {
        "drop": "openmeter_collector.components.outputs.drop:Drop",
        "reject": "openmeter_collector.components.outputs.reject:Reject",
        "stdout": "openmeter_collector.components.outputs.stdout:Stdout",
    },
    "rate_limit": {
        "local": "openmeter_collector.components.rate_limits.local:Local",
    },
}
