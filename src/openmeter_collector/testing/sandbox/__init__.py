"""A local OpenMeter: what people try the collector against, and what its tests judge by.

    async with serve(Sandbox(tokens=["secret"])) as running:
        ...  # send to running.url, then look at running.events and running.requests

It speaks the ingest and list APIs as the real server does, keeps exactly what it got, and can be
told to fail in every way a server can (`faults`).
"""

from openmeter_collector.testing.sandbox.app import Sandbox
from openmeter_collector.testing.sandbox.server import Running, serve

__all__ = ["Running", "Sandbox", "serve"]
