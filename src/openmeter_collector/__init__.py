"""OpenMeter Collector: collects usage events and delivers them to OpenMeter, durably."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__: str = "0.1.0"
__all__ = ["Collector", "__version__"]

if TYPE_CHECKING:
    from openmeter_collector.embedded import Collector as Collector
else:  # a type checker would take any name for one that is there

    def __getattr__(name: str) -> Any:
        # Late: whoever imports one module of the package shall not pay for all of them.
        if name == "Collector":
            from openmeter_collector.embedded import Collector  # noqa: PLC0415

            return Collector
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
