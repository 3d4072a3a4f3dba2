"""Names and labels of metrics as a mapping says: that of a config, or of a template."""

from __future__ import annotations

from collections.abc import Mapping

from openmeter_collector.bloblang import DELETED, SimpleDocument
from openmeter_collector.bloblang import Mapping as LanguageMapping
from openmeter_collector.errors import CollectorError
from openmeter_collector.telemetry.counters import Rewrite
from openmeter_collector.telemetry.logs import Log
from openmeter_collector.values import json


def rewrite_by(mapping: LanguageMapping, log: Log) -> Rewrite:
    """The mapping asked about each metric: `this` is its name, metadata are its labels."""

    def rewrite(name: str, labels: Mapping[str, str]) -> tuple[str, Mapping[str, str]] | None:
        try:
            document = SimpleDocument(json.dumps(name), dict(labels))
            body, metadata = mapping.run([document], 0)
        except CollectorError as error:
            log.warning("the metrics mapping failed; the metric stays", name=name, error=str(error))
            return name, labels
        if body is DELETED:
            return None
        # A text is raw content to a pipeline.
        renamed = body.decode() if isinstance(body, bytes) and body else name
        if metadata is not None:
            labels = {key: str(value) for key, value in metadata.items()}
        return renamed, labels

    return rewrite
