"""From files or text to a typed configuration, or to everything that is wrong with them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from openmeter_collector.config import source_text, tree
from openmeter_collector.config.decode import FAULTY, Decoder
from openmeter_collector.config.lint import InvalidConfig, Problem
from openmeter_collector.config.model import Config, resources_of
from openmeter_collector.config.source_text import SourceText
from openmeter_collector.spec.registry import Registry

DEFAULTS = {"input": "stdin", "output": "stdout", "buffer": "none", "metrics": "prometheus"}
SCRUBBED = "!!!SECRET_SCRUBBED!!!"


def load(
    source: Path | str,
    registry: Registry,
    *,
    env: Mapping[str, str] = os.environ,
    file: str = "",
) -> Config:
    """Read a configuration: a `Path` is a file, a string is the text itself.

    Args:
        file: the name of a text, for messages.

    Raises:
        InvalidConfig: with every fault that was found.
    """
    if isinstance(source, Path):
        text = source_text.interpolate(source_text.read(source), env, str(source))
    else:
        text = source_text.interpolate(source, env, file)
    decoder = Decoder(registry)
    root = parse(text, decoder.problems)
    config = None if root is None else decoder.section(Config, root, "root")
    if isinstance(config, Config):
        decoder.resources |= set(resources_of(config))
        decoder.check_references()
        config = with_defaults(config, registry)
    problems = finished(decoder.problems, text.secrets)
    if any(problem.severity == "error" for problem in problems) or not isinstance(config, Config):
        raise InvalidConfig(p for p in problems if p.severity == "error")
    return config


def parse(text: SourceText, problems: list[Problem]) -> tree.Mapping | None:
    """The document as a tree; faults go to `problems`."""
    for offset, name in text.missing:
        problems.append(
            Problem(
                text.file, *text.place_of(offset), "missing_env",
                f"required environment variables were not set: [{name}]",
                found=f"environment variable {name} is not set",
                hint=f"set it, or write a default: ${{{name}:value}}",
                lint_at=(1, 1),
            )
        )  # fmt: skip
    for offset, fault in text.bad:
        problems.append(
            Problem(text.file, *text.place_of(offset), "bad_env", fault, lint_at=(1, 1))
        )
    try:
        root = tree.parse(text.text, text.file, text.locate)
    except tree.BadYaml as bad:
        place = bad.place
        problems.append(
            Problem(
                place.file, place.line, place.col, "bad_yaml", bad.lint or bad.text,
                found=bad.text, hint=bad.hint, lint_at=(1, 1),
            )
        )  # fmt: skip
        return None
    if root is None:
        return tree.Mapping({}, tree.Place(text.file, 1, 1))
    if not isinstance(root, tree.Mapping):
        problems.append(
            Problem(
                text.file, root.place.line, root.place.col, "wrong_type",
                f"expected object value, got {root.tag}",
                hint="write fields such as `input:` and `output:`", lint_at=(1, 1),
            )
        )  # fmt: skip
        return None
    return root


def finished(problems: Iterable[Problem], secrets: Iterable[str]) -> list[Problem]:
    """In order of position, and without any secret in their texts."""
    hidden = sorted((s for s in secrets if s), key=len, reverse=True)

    def clean(text: str) -> str:
        for secret in hidden:
            text = text.replace(secret, SCRUBBED)
        return text

    return sorted(
        (
            replace(
                p, message=clean(p.message), found=clean(p.found), hint=clean(p.hint),
                path=clean(p.path),
            )
            for p in problems
        ),
        key=lambda p: (p.file, p.line, p.col),
    )  # fmt: skip


def with_defaults(config: Config, registry: Registry) -> Config:
    """Fill in the components that are there when nothing is said."""
    made: dict[str, Any] = {}
    for kind, name in DEFAULTS.items():
        if getattr(config, kind) is not None:
            continue
        spec = registry.get(kind, name)
        if spec is None:
            continue
        node = Decoder(registry).component(
            kind,
            tree.Mapping({name: tree.Entry(name, _NOWHERE, tree.Mapping({}, _NOWHERE))}, _NOWHERE),
            f"root.{kind}",
        )
        if node is not FAULTY:
            made[kind] = replace(node, where="")
    return replace(config, **made)


_NOWHERE = tree.Place("", 0, 0)
