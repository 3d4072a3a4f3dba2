"""kill -9 while blobs are read: every record arrives, with one id, and reading goes on where it was."""

import asyncio
import json

import pytest
from test_s3_kill import LINES, ROUNDS, figures, objects, play, received, truth

from kit.azurite import Blobs, azurite, connection


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_a_container_is_read_to_its_end_however_often_the_collector_is_killed(tmp_path, capsys):
    made = objects()
    with azurite() as port:

        async def prepare():
            async with Blobs.at(port) as blobs:
                return await blobs.container(made)

        about = {
            "storage_connection_string": connection(f"127.0.0.1:{port}"),
            "container": asyncio.run(prepare()),
            "interval": "1s",
        }
        fields = "".join(f"    {key}: {json.dumps(value)}\n" for key, value in about.items())
        config = f"input:\n  azure_blob_storage:\n{fields}    scanner: {{lines: {{}}}}\n"
        lives, early = play(tmp_path, config, made, LINES * ROUNDS)
    again = received(lives) - len(truth(made))
    # From the first byte in every life, it would be more than all lines of the first blob.
    assert again < LINES
    with capsys.disabled():
        print(figures("Azure", lives, early, again), end="")
