"""A local OpenMeter: what people try the collector against, and what its tests judge by.

    async with Sandbox(tokens=["secret"]).serve() as running:
        ...  # send to running.url, then look at running.events and running.requests

It speaks the ingest and list APIs as the real server does, keeps exactly what it got, and can be
told to fail in every way a server can (`faults`).
"""

from openmeter_collector.testing.sandbox.server import Running, Sandbox

__all__ = ["Running", "Sandbox"]
