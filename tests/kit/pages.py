"""The pages about sources: their configs, the events they show and the meters that count them."""

import json
import re
from pathlib import Path

import yaml

SOURCES = Path(__file__).parents[2] / "docs" / "sources"
_BLOCK = re.compile(r'^```(\w+) title="([^"]+)"\n(.*?)^```', re.MULTILINE | re.DOTALL)


class Page:
    """One page, by its blocks with titles.

    Attributes:
        configs: YAML by file name, such as `orders.yaml`.
        events: what is shown as an event, in order.
        meters: what is below `meters:`.
        scripts: everything else, by title.
    """

    def __init__(self, path):
        self.name = path.stem
        self.text = path.read_text()
        self.configs, self.events, self.meters, self.scripts = {}, [], [], {}
        for _, title, content in _BLOCK.findall(self.text):
            if title == "meters":
                self.meters += yaml.safe_load(content)["meters"]
            elif title.startswith("event"):
                self.events.append(json.loads(content))
            elif title.endswith(".yaml"):
                self.configs[title] = content
            else:
                self.scripts[title] = content


def page(name):
    return Page(SOURCES / f"{name}.md")


def pages():
    return [Page(path) for path in sorted(SOURCES.glob("*.md")) if path.stem != "README"]


def like(event, shown, *moving):
    """The event as it came, with those of its parts that every run has anew as the page shows them.

    `moving` are names of fields, or `data.NAME`.
    """
    made = {**event, "data": dict(event["data"])}
    for name in moving:
        outer, _, inner = name.partition(".")
        if inner:
            assert inner in made[outer], f"{name} is on the page and not in the event"
            made[outer][inner] = shown[outer][inner]
        else:
            assert made[name], f"{name} is on the page and not in the event"
            made[name] = shown[name]
    return made
