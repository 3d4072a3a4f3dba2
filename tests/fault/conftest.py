"""The helpers beside the tests are imported by name."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def sink():
    """A destination that writes down what it gets."""
    from sink import Sink  # noqa: PLC0415 - found from here on

    made = Sink()
    yield made
    made.close()
