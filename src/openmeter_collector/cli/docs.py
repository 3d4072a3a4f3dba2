"""`docs`: writes the reference pages that are derived from the components, or checks them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from openmeter_collector.bloblang.reference import pages as language_pages
from openmeter_collector.cli.metric_pages import page as metric_page
from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.config.upstream import markdown
from openmeter_collector.spec.reference import pages

_BEGIN = "<!-- differences: generated, do not edit -->\n"
_END = "<!-- end of differences -->\n"


@click.command(hidden=True)
@click.option("--check", is_flag=True, help="Write nothing; fail if a page is not current.")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
def docs(check: bool, folder: Path) -> int:
    """Write the reference pages of all components, and of the mapping language, into FOLDER."""
    wanted = {**pages(standard_registry()), **language_pages(), "metric-names.md": metric_page()}
    stale, left_over = differences(folder, wanted)
    guide = folder.parent / "guide" / "migrate.md"
    current = guide.read_text("utf-8") if guide.is_file() else ""
    written = spliced(current, markdown())
    if check:
        if written != current:
            click.echo(f"{guide}: not current; run ./dev docs", err=True)
            return 1
        for name in stale:
            click.echo(f"{folder / name}: not current; run ./dev docs", err=True)
        for name in left_over:
            click.echo(f"{folder / name}: belongs to no component; run ./dev docs", err=True)
        return 1 if stale or left_over else 0
    for name in stale:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[name], "utf-8")
    for name in left_over:
        (folder / name).unlink()
    if written != current:
        guide.write_text(written, "utf-8")
    return 0


def spliced(page: str, table: str) -> str:
    """A page with the table of differences between its marks; as it is when it has none."""
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    return f"{before}{begin}\n{table}\n{end}{after}" if begin and end else page


def differences(folder: Path, wanted: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Pages that are missing or differ, and pages that should not be there."""
    there = {
        path.relative_to(folder).as_posix(): path.read_text("utf-8")
        for path in sorted(folder.rglob("*.md"))
    }
    stale = [name for name, text in wanted.items() if there.get(name) != text]
    return stale, [name for name in there if name not in wanted]
