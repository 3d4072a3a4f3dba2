"""Traces end with their test."""

import threading

import pytest


@pytest.fixture(autouse=True)
def no_thread_outlives_its_test():
    """The library goes on sending to a collector that does not answer for a while after the tracer has
    been closed, and draws random pauses as it does: a property test in the same process would find that
    random numbers are not its own.
    """
    yield
    for thread in threading.enumerate():
        if thread.name == "traces":
            thread.join(60)
            assert not thread.is_alive()
