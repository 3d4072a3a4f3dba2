"""Every block of the page about Python runs, in the order it stands there, and its tests pass."""

import ast
import asyncio
import inspect
import re
from pathlib import Path

from openmeter_collector.testing.sandbox import Sandbox

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "python.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)


async def run(block, names):
    code = compile(block, str(PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    made = eval(code, names)
    if inspect.isawaitable(made):
        await made


def test_what_the_page_shows_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page"}
    delivered = []

    async def blocks():
        async with Sandbox().serve() as sandbox:
            for block in BLOCKS:
                await run(block.replace("https://openmeter.cloud", sandbox.url), names)
            delivered.extend(one.id for one in sandbox.events)

    asyncio.run(blocks())
    assert len(BLOCKS) == 7
    assert delivered == ["invoice-7-line-3"]
    assert '{"ID":"1"}' in (tmp_path / "readings.jsonl").read_text()
    tests = {name: one for name, one in names.items() if name.startswith("test_")}
    assert len(tests) == 3
    for test in tests.values():
        if inspect.iscoroutinefunction(test):
            asyncio.run(test())
        else:
            test()
