"""For MkDocs: a folder in `nav` of mkdocs.yml stands for all pages in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def on_config(config: Any) -> Any:
    docs = Path(config["docs_dir"])
    config["nav"] = [_expanded(item, docs) for item in config["nav"]]
    return config


def _expanded(item: Any, docs: Path) -> Any:
    if isinstance(item, dict):
        return {title: _expanded(inner, docs) for title, inner in item.items()}
    if isinstance(item, list):
        return [_expanded(inner, docs) for inner in item]
    return _pages(docs / item, docs) if item.endswith("/") else item


def _pages(folder: Path, docs: Path) -> list[Any]:
    pages: list[Any] = []
    overview = folder / "README.md"
    if overview.exists():
        pages.append(str(overview.relative_to(docs)))
    for one in sorted(folder.iterdir()):
        if one.is_dir():
            pages.append({one.name.replace("_", " ").capitalize(): _pages(one, docs)})
        elif one.suffix == ".md" and one != overview:
            pages.append(str(one.relative_to(docs)))
    return pages
