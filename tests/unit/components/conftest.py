"""Servers that tests of components share."""

import pytest

from kit.aws import Aws, moto


@pytest.fixture(scope="session")
def moto_server():
    with moto() as url:
        yield url


@pytest.fixture
async def aws(moto_server):
    async with Aws.at(moto_server) as made:
        yield made
