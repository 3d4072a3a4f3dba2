"""Every registered component that needs no server keeps the contract of its kind.

A component that cannot be opened as it is, or is allowed an exception, stands in `WAIVERS` with the
reason; a waiver that is not needed any more fails.
"""

import gzip

import pytest

from kit.scanning import scanner_node
from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.component.node import Node
from openmeter_collector.config import load
from openmeter_collector.spec.trust import EVERYTHING
from openmeter_collector.testing import contracts
from openmeter_collector.testing.contracts import Capabilities
from openmeter_collector.testing.env import FakeEnv

CONFIGS = {
    ("buffer", "sqlite"): "{path: FOLDER/buffer.db, min_free_bytes: 1MiB}",
    ("buffer", "memory"): "{}",
    ("buffer", "none"): "{}",
    ("input", "cloudevents"): "{address: '127.0.0.1:0'}",
    ("input", "http_client"): "{url: 'http://peer.test'}",
    ("input", "http_server"): "{path: /post}",
    ("output", "openmeter"): "{url: 'http://openmeter.test'}",
    ("output", "http_client"): "{url: 'http://peer.test'}",
    ("output", "drop"): "{}",
    ("output", "reject"): "no",
    ("processor", "noop"): "{}",
    ("processor", "mapping"): "root = this",
    ("processor", "mutation"): "root.seen = true",
    ("processor", "log"): "{message: seen}",
    ("processor", "bloblang"): "root = this",
    ("processor", "archive"): "{format: json_array}",
    ("processor", "unarchive"): "{format: json_array}",
    ("processor", "catch"): "[]",
    ("processor", "split"): "{size: 2}",
    ("processor", "json_schema"): '{schema: \'{"type":"object"}\'}',
    ("processor", "switch"): "[]",
    ("processor", "sync_response"): "{}",
    ("processor", "metric"): "{type: counter, name: seen}",
    ("output", "dynamic"): "{outputs: {a: {drop: {}}}}",
    ("output", "drop_on"): "{error: true, output: {drop: {}}}",
    ("output", "fallback"): "[{drop: {}}, {drop: {}}]",
    ("output", "broker"): "{outputs: [{drop: {}}]}",
    ("output", "switch"): "{cases: [{output: {drop: {}}}]}",
    ("output", "retry"): "{output: {drop: {}}}",
    ("output", "file"): "{path: FOLDER/out.txt, codec: lines}",
    ("output", "reject_errored"): "{drop: {}}",
    ("output", "sync_response"): "{}",
    ("input", "generate"): "{mapping: 'root = \"x\"', interval: 1s}",
    ("input", "run_ai"): "{url: 'http://x.test', app_id: a, app_secret: b}",
    ("input", "prometheus"): "{url: 'http://x.test', queries: [{query: {name: a, promql: b}}]}",
    ("input", "inproc"): "somewhere",
    ("input", "csv"): "{paths: [FOLDER/config.yaml]}",
    ("input", "dynamic"): "{}",
    ("input", "file"): "{paths: [FOLDER/config.yaml]}",
    ("input", "otel_log"): "{address: '127.0.0.1:0'}",
    ("input", "otlp"): "{grpc_address: '127.0.0.1:0', http_address: '127.0.0.1:0'}",
    ("processor", "bounds_check"): "{max_parts: 100}",
    ("processor", "branch"): "{processors: []}",
    ("processor", "compress"): "{algorithm: gzip}",
    ("processor", "decompress"): "{algorithm: gzip}",
    ("processor", "for_each"): "[]",
    ("processor", "group_by"): "[]",
    ("processor", "group_by_value"): "{value: a}",
    ("processor", "insert_part"): "{content: x}",
    ("processor", "parallel"): "{processors: []}",
    ("processor", "retry"): "{processors: []}",
    ("processor", "select_parts"): "{parts: [0]}",
    ("processor", "sleep"): "{duration: 1ms}",
    ("processor", "try"): "[]",
    ("processor", "command"): "{name: cat}",
    ("processor", "grok"): "{expressions: ['%{WORD:word}']}",
    ("processor", "http"): "{url: 'http://peer.test'}",
    ("processor", "processors"): "[]",
    ("processor", "parse_log"): "{format: syslog_rfc5424}",
    ("processor", "jmespath"): "{query: '@'}",
    ("processor", "jq"): "{query: .}",
    ("processor", "subprocess"): "{name: cat}",
    ("processor", "workflow"): "{branches: {a: {processors: []}}}",
    ("processor", "while"): "{max_loops: 1, processors: []}",
    ("input", "sql_select"): "{SQL, table: t, columns: ['*']}",
    ("input", "sql_raw"): "{SQL, query: SELECT * FROM t}",
    ("output", "sql_insert"): "{SQL, table: t, columns: [id], args_mapping: 'root = [ this.id ]'}",
    ("output", "sql_raw"): "{SQL, query: INSERT INTO t VALUES (1)}",
    ("processor", "sql_select"): "{SQL, table: t, columns: ['*']}",
    ("processor", "sql_raw"): "{SQL, query: SELECT 1}",
    (
        "processor",
        "sql_insert",
    ): "{SQL, table: t, columns: [id], args_mapping: 'root = [ this.id ]'}",
    ("scanner", "chunker"): "{size: 3}",
    ("scanner", "csv"): "{}",
    ("scanner", "decompress"): "{algorithm: gzip, into: {lines: {}}}",
    ("scanner", "json_array"): "{}",
    ("scanner", "json_documents"): "{}",
    ("scanner", "lines"): "{}",
    ("scanner", "re_match"): "{pattern: '[0-9]+'}",
    ("scanner", "skip_bom"): "{into: {lines: {}}}",
    ("scanner", "switch"): "[{scanner: {lines: {}}}]",
    ("scanner", "tar"): "{}",
    ("scanner", "to_the_end"): "{}",
}
SCANNED = {
    "csv": b"a,b\n1,2\n3,4\n",
    "decompress": gzip.compress(b"a\nb\nc"),
    "json_array": b"[1, {}]",
    "tar": bytes(1024),
}
"""What scanners are given that cannot read just anything."""
CAN = {
    ("buffer", "sqlite"): Capabilities(keeps=True, repeats=True),
    ("output", "reject"): Capabilities(drops=True),
}
NOT_OPENED = {
    ("input", "postgres_cdc"): "it needs a server; see tests/integration/sql",
    ("scanner", "avro"): "it reads its own format; tests/unit/components/scanners/test_rows.py",
    ("scanner", "parquet"): "it reads its own format; tests/unit/components/scanners/test_rows.py",
    ("buffer", "system_window"): "it gives out by the clock, and acknowledges what was delivered",
    ("processor", "cache"): "it needs a cache resource",
    ("processor", "cached"): "it needs a cache resource",
    ("processor", "rate_limit"): "it needs a rate limit resource",
    ("processor", "resource"): "it needs a resource in the config",
    ("input", "kubernetes_resources"): "it needs a cluster",
    ("input", "kubernetes_usage"): "it needs a cluster",
    ("input", "schedule"): "a child input says what it does",
    ("input", "batched"): "a child input says what it does",
    ("input", "broker"): "a child input says what it does",
    ("input", "read_until"): "a child input says what it does",
    ("input", "resource"): "it needs a resource in the config",
    ("input", "sequence"): "a child input says what it does",
    ("input", "stdin"): "it reads the standard input of the tests",
    ("processor", "dedupe"): "it needs a cache resource",
    ("output", "cache"): "it needs a cache resource",
    ("output", "inproc"): "a write waits for an input of the same name",
    ("input", "aws_s3"): "it needs a server; tests/unit/components/inputs/test_aws_s3.py has one",
    ("input", "aws_sqs"): "it needs a server; tests/unit/components/inputs/test_aws_sqs.py has one",
    ("input", "azure_blob_storage"): "it needs a server; tests/integration/azure has one",
    ("output", "aws_s3"): "it needs a server; tests/unit/components/outputs/test_aws.py has one",
    ("output", "aws_sqs"): "it needs a server; tests/unit/components/outputs/test_aws.py has one",
    ("output", "otel_log"): "it needs a server; tests/unit/components/outputs/test_otlp.py has one",
    ("output", "otlp"): "it needs a server; tests/unit/components/outputs/test_otlp.py has one",
    ("output", "resource"): "it needs a resource in the config",
    ("output", "stdout"): "it writes to the standard output of the tests",
}
# A database in a file, for the components that need one.
SQL = (
    "driver: sqlite, dsn: 'file:FOLDER/sql.db', "
    "init_statement: 'CREATE TABLE IF NOT EXISTS t (id TEXT)'"
)
WAIVERS: dict[tuple[str, str], str] = {}
REGISTRY = standard_registry()


def node_of(kind, name, folder):
    if kind == "scanner":
        return scanner_node(f"{name}: {CONFIGS[kind, name]}")
    text = f"{kind}:\n  {name}: {CONFIGS[kind, name]}\n"
    if kind == "processor":
        text = f"pipeline:\n  processors:\n    - {name}: {CONFIGS[kind, name]}\n"
    text = text.replace("SQL,", SQL + ",").replace("FOLDER", str(folder))
    path = folder / "config.yaml"
    path.write_text(text)
    config = load(path, REGISTRY, trust=EVERYTHING)
    node = config.pipeline.processors[0] if kind == "processor" else getattr(config, kind)
    assert isinstance(node, Node)
    return node


def test_every_component_is_checked_or_says_why_not():
    kinds = ("input", "buffer", "processor", "output", "scanner")
    registered = {(kind, name) for kind in kinds for name in REGISTRY.names(kind)}
    unknown = registered - set(CONFIGS) - set(NOT_OPENED)
    assert not unknown, f"add to CONFIGS, or to NOT_OPENED with a reason: {sorted(unknown)}"
    assert set(CONFIGS) | set(NOT_OPENED) == registered
    assert not set(CONFIGS) & set(NOT_OPENED)


@pytest.mark.parametrize("key", CONFIGS, ids="-".join)
async def test_a_component_keeps_the_contract_of_its_kind(key, tmp_path):
    kind, name = key
    node = node_of(*key, tmp_path)
    env = FakeEnv(node)
    can = CAN.get(key, Capabilities())
    try:
        if kind == "buffer":
            await contracts.check_buffer(node.config.open, env, can)
        elif kind == "output":
            await contracts.check_output(node.config.open, env, can)
        elif kind == "processor":
            await contracts.check_processor(node.config.open, env, can)
        elif kind == "scanner":
            data = SCANNED.get(name, b'{"a":1}\n{"b":2}\n')
            await contracts.check_scanner(node.config.open, env, data)
        else:
            await contracts.check_input(node.config.open, env)
    except AssertionError as broken:
        if key not in WAIVERS:
            raise
        pytest.xfail(f"{WAIVERS[key]}: {broken}")
    assert key not in WAIVERS, f"the waiver of {key} is not needed any more"
