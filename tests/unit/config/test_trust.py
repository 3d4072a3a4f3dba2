"""What a component may do depends on who wrote the config it stands in."""

from contextlib import asynccontextmanager

import pytest

from openmeter_collector.api import field, processor
from openmeter_collector.bloblang import SimpleDocument
from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.config import Config, Stream, read
from openmeter_collector.errors import CollectorError, ConfigError
from openmeter_collector.spec.trust import EVERYTHING, of_the_api, of_the_operator, powers_of

WRITES = "output:\n  file:\n    path: /etc/passwd\n"
NESTED = """
pipeline:
  processors:
    - try:
        - label: runs
          starter:
            name: rm
"""


@processor("starter", dangerous="programs")
class Starter:
    """Stands for a component that starts programs and comes from another package."""

    name: str = field(doc="A program.")

    @asynccontextmanager
    async def open(self, env):
        yield None


REGISTRY = standard_registry().with_(Starter)


def faults(text, trust, document=Stream):
    reading = read(text, REGISTRY, document, env={}, trust=trust, file="s.yaml")
    found = [one.friendly() for one in reading.problems if one.severity == "error"]
    assert (reading.config is None) == bool(found)
    return found


def test_what_comes_over_the_api_writes_no_files_unless_that_is_allowed():
    (fault,) = faults(WRITES, of_the_api())
    assert fault.startswith(
        "s.yaml:2:3 root.output: output 'file' is not allowed here: it reads or writes"
    )
    assert "--allow-api files" in fault
    assert faults(WRITES, of_the_api("files")) == []


READS = {
    "pipeline: {processors: [{mapping: 'file:///etc/hostname'}]}": "files are not read here",
    "pipeline: {processors: [{mapping: 'import \"/etc/hostname\"'}]}": "files are not read here",
    "pipeline: {processors: [{mapping: 'from \"/etc/hostname\"'}]}": "files are not read here",
    "pipeline: {processors: [{mapping: 'root = file(\"/etc/hostname\")'}]}": "files are not read here",
    "pipeline: {processors: [{log: {message: '${! file(\"/etc/hostname\") }'}}]}": "files are not read here",
    "pipeline: {processors: [{json_schema: {schema_path: 'file:///etc/hostname'}}]}": "field 'schema_path'",
    "output: {http_client: {url: 'https://x', tls: {enabled: true, root_cas_file: /etc/hostname}}}": (
        "field 'root_cas_file'"
    ),
    "output: {http_client: {url: 'https://x', tls: {client_certs: [{key_file: /etc/hostname}]}}}": (
        "field 'key_file'"
    ),
    "input: {http_server: {address: ':1', cert_file: /etc/hostname}}": "field 'cert_file'",
    "input: {schedule: {interval: 1m, input: {kubernetes_resources: {namespaces: [], kubeconfig: /etc/hostname}}}}": (
        "field 'kubeconfig'"
    ),
    "output: {sql_raw: {driver: sqlite, dsn: 'file:/etc/hostname', query: x}}": "field 'driver'",
}


@pytest.mark.parametrize("text", READS)
def test_what_comes_over_the_api_has_no_files_read_by_fields_or_mappings(text):
    (fault,) = faults(text, of_the_api())
    assert READS[text] in fault
    assert "start with --allow-api files if you trust" in fault
    assert not [
        fault for fault in faults(text, of_the_api("files")) if "not" in fault and "here" in fault
    ]


def test_a_path_that_a_mapping_computes_is_refused_for_each_message():
    text = "pipeline: {processors: [{mapping: 'root = file(this.path)'}]}"
    stream = read(text, REGISTRY, Stream, env={}, trust=of_the_api()).or_raise()
    mapping = stream.pipeline.processors[0].config.mapping.program
    with pytest.raises(CollectorError, match="files are not read here"):
        mapping.run([SimpleDocument(b'{"path":"/etc/hostname"}')], 0)


def test_the_schema_that_published_configs_name_is_for_everybody():
    text = (
        "pipeline: {processors: [{json_schema: {schema_path: 'file://./cloudevents.spec.json'}}]}"
    )
    assert faults(text, of_the_api()) == []


def test_a_file_of_the_operators_may_write_files_and_start_no_programs():
    assert faults(WRITES, of_the_operator(), Config) == []
    (fault,) = faults(NESTED, of_the_operator(), Config)
    assert "processor 'starter' is not allowed here: it starts programs" in fault
    assert "--allow programs, or set OPENMETER_COLLECTOR_ALLOW=programs" in fault
    assert faults(NESTED, of_the_operator("programs"), Config) == []


def test_nothing_is_said_means_a_file_on_this_machine(monkeypatch):
    assert faults(NESTED, None, Config) == faults(NESTED, of_the_operator(), Config)
    monkeypatch.setenv("OPENMETER_COLLECTOR_ALLOW", "programs")
    assert faults(NESTED, None, Config) == []
    assert len(faults(NESTED, of_the_api("plugins"), Config)) == 1


def test_what_is_allowed_to_the_operator_is_not_allowed_to_the_api():
    """A plug-in that starts programs needs both."""
    assert len(faults(NESTED, of_the_api("programs"))) == 1
    assert "is code from another package" in faults(NESTED, of_the_api("programs"))[0]
    assert faults(NESTED, of_the_api("programs", "plugins")) == []


def test_who_only_looks_is_told_nothing():
    assert faults(NESTED + WRITES, EVERYTHING) == []


def test_chilled_does_not_help():
    reading = read(WRITES, REGISTRY, Stream, env={}, trust=of_the_api(), chilled=True)
    assert reading.config is None


def test_words_that_allow_nothing_are_refused():
    assert powers_of(["files, programs", ""], "--allow") == ("files", "programs")
    with pytest.raises(ConfigError, match="--allow: 'program' cannot be allowed; use one of"):
        powers_of(["program"], "--allow")
