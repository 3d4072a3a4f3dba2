"""Three real replicas with leader election, under outages, pauses longer than the lease, kills and restarts.

Every window's ids arrive, no id with two payloads, no window is missing. Clocks that are wrong are dealt
with in tests/unit/engine/election, in virtual time. The same against a real API server is in
tests/integration/kubernetes.
"""

import pytest

from kit.replicas import World, rehearse
from openmeter_collector.testing.kubernetes import FakeKubernetes


@pytest.mark.slow
@pytest.mark.parametrize(("count", "seed"), [(2, 1), (3, 2)])
async def test_each_window_arrives_whatever_happens_to_the_replicas(tmp_path, count, seed):
    async with FakeKubernetes().serve() as server, World().serve() as world:
        await rehearse(tmp_path, server, world, count, seed)
