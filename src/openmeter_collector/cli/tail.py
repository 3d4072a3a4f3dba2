"""`tail`: events as they pass a running collector."""

from __future__ import annotations

import asyncio
from urllib.parse import urlencode

import click
import orjson
import uvloop

from openmeter_collector.cli.admin_client import asked, client_options
from openmeter_collector.cli.journal import printable


@click.command()
@click.argument("text", required=False, default="")
@client_options
@click.option("--pipeline", default="", help="Name of the stream, where several run.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with its names.")
def tail(text: str, url: str, user: str | None, pipeline: str, follow: bool, as_json: bool) -> int:
    r"""Print events that passed lately, those with TEXT in them: an id, a subject, a type.

    The newest event of each batch is kept for looking; this is a sample, not a log.

    \b
    Examples:
      openmeter-collector tail
      openmeter-collector tail customer-1 -f
    """
    query = {"q": text} | ({"pipeline": pipeline} if pipeline else {})
    return uvloop.run(_tail(url, user, f"/ui/tail?{urlencode(query)}", follow, as_json=as_json))


async def _tail(url: str, user: str | None, path: str, follow: bool, *, as_json: bool) -> int:
    before: list[bytes] = []
    while True:
        found = [orjson.dumps(one) for one in await asked(url, user, path)][::-1]
        seen = set(before)
        for line in found:
            if line not in seen:
                shown = line.decode() if as_json else str(orjson.loads(line)["content"])
                click.echo(shown if as_json else printable(shown))
        if not follow:
            return 0
        before = found
        await asyncio.sleep(1.0)
