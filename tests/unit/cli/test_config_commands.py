"""`lint`, `echo`, `list`, `create` and `docs` over the components there are."""

import json

import pytest
import yaml
from click.testing import CliRunner

from openmeter_collector.cli.create import create
from openmeter_collector.cli.docs import docs
from openmeter_collector.cli.echo import echo
from openmeter_collector.cli.lint import lint
from openmeter_collector.cli.list import list_
from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.cli.schema import schema
from openmeter_collector.config import Config, load
from openmeter_collector.config.lint import SCRUBBED
from openmeter_collector.errors import ConfigError

GOOD = "output: {stdout: {}}\n"
BAD = "output:\n  stdout: {codecs: lines}\n"


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TOKEN", raising=False)

    def call(command, *arguments, **files):
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/").replace("_yaml", ".yaml")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        result = CliRunner().invoke(command, arguments, standalone_mode=False)
        if result.exception is not None:
            raise result.exception
        return result.return_value, result.stdout, result.stderr

    return call


def test_lint_prints_faults_and_fails(run):
    code, out, err = run(lint, "good.yaml", "bad.yaml", good_yaml=GOOD, bad_yaml=BAD)
    assert (code, out, err) == (1, "", "bad.yaml(2,1) field codecs not recognised\n")
    assert run(lint, "good.yaml") == (0, "", "")
    code, _, err = run(lint, "--verbose", "bad.yaml")
    assert code == 1
    assert err == "bad.yaml:2:12 root.output.stdout: no field 'codecs'; did you mean 'codec'?\n"


def test_lint_finds_files(run):
    files = {"a_yaml": BAD, "sub__b_yaml": BAD, "sub__c.txt": BAD}
    for arguments, wanted in (
        (["./..."], {"a.yaml", "sub/b.yaml"}),
        (["sub"], {"sub/b.yaml"}),
        (["*.yaml"], {"a.yaml"}),
        (["**/*.yaml", "a.yaml"], {"a.yaml", "sub/b.yaml"}),
        (["-c", "a.yaml"], {"a.yaml"}),
    ):
        _, _, err = run(lint, *arguments, **files)
        assert {line.partition("(")[0] for line in err.splitlines()} == wanted
    with pytest.raises(ConfigError, match=r"nope\.yaml: no such file"):
        run(lint, "nope.yaml")


def test_lint_tells_more_when_asked(run):
    text = "output: {stdout: {}}\nhttp: {address: '${NOT_SET_AT_ALL}'}\n"
    code, _, err = run(lint, "a.yaml", a_yaml=text)
    assert (code, err) == (
        1,
        "a.yaml(1,1) required environment variables were not set: [NOT_SET_AT_ALL]\n",
    )
    assert run(lint, "--skip-env-var-check", "a.yaml") == (0, "", "")
    assert run(lint, "a.yaml", "-e", ".env", **{".env": "NOT_SET_AT_ALL=x\n"}) == (0, "", "")
    code, _, err = run(lint, "--skip-env-var-check", "--labels", "a.yaml")
    assert (code, err) == (1, "a.yaml(1,1) label is required for root.output\n")
    code, _, err = run(lint, "--upstream", "b.yaml", b_yaml="input: {cloudevents: {}}\n")
    assert (code, err) == (1, "b.yaml(1,1) input 'cloudevents' is known to this collector only\n")


def test_lint_leaves_files_alone_that_ask_for_it(run):
    assert run(lint, "a.yaml", a_yaml=f"# BENTHOS LINT DISABLE\n{BAD}") == (0, "", "")


def test_lint_minds_references_only_where_resources_are_known(run):
    text = "rate_limit_resources: [{label: a, local: {}}]\n"
    files = {"a_yaml": "input: {http_server: {rate_limit: a}}\n", "r_yaml": text}
    assert run(lint, "a.yaml", **files) == (0, "", "")
    assert run(lint, "-r", "r.yaml", "a.yaml") == (0, "", "")
    code, _, err = run(
        lint, "-r", "r.yaml", "b.yaml", b_yaml="input: {http_server: {rate_limit: b}}\n"
    )
    assert (code, err) == (1, "b.yaml(1,1) rate_limit resource 'b' was not found\n")


def test_echo_prints_what_was_understood_without_secrets(run):
    text = "output: {openmeter: {url: 'http://u:pw@h', token: hunter2}}\n"
    code, out, _ = run(echo, "-c", "a.yaml", "-s", "shutdown_timeout=3s", a_yaml=text)
    shown = yaml.safe_load(out)
    assert code == 0
    assert shown["shutdown_timeout"] == "3s"
    assert shown["http"]["address"] == "0.0.0.0:4195"
    assert shown["output"]["openmeter"]["token"] == SCRUBBED
    assert "hunter2" not in out
    assert "pw@" not in out
    with pytest.raises(ConfigError, match="did you mean 'codec'"):
        run(echo, "b.yaml", b_yaml=BAD)


def test_list_knows_every_component(run):
    _, out, _ = run(list_)
    assert "Outputs:\n" in out
    assert "\n  - drop\n" in out
    _, out, _ = run(list_, "outputs", "rate-limits", "--format", "json")
    found = json.loads(out)
    assert set(found) == {"outputs", "rate-limits"}
    assert "local" in found["rate-limits"]
    _, out, _ = run(list_, "metrics", "--status", "deprecated")
    assert out == "\n"
    _, out, _ = run(list_, "--format", "jsonschema")
    assert "output.stdout" in json.loads(out)["$defs"]
    with pytest.raises(ConfigError, match="there is no type 'sauces'"):
        run(list_, "sauces")


@pytest.mark.parametrize("options", [[], ["--small"]])
@pytest.mark.parametrize(
    "expression", ["cloudevents//openmeter", "http_server//drop", "cloudevents"]
)
def test_what_create_prints_can_be_read(run, expression, options):
    _, out, _ = run(create, expression, *options)
    text = out.replace('url: ""', "url: http://x")
    config = load(text, standard_registry(), env={})
    assert isinstance(config, Config)
    assert config.input.name == expression.partition("/")[0]


def test_create_says_what_it_does_not_know(run):
    with pytest.raises(ConfigError, match="no output 'dorp'; did you mean 'drop'"):
        run(create, "cloudevents//dorp")
    with pytest.raises(ConfigError, match="more than three parts"):
        run(create, "a/b/c/d")


def test_docs_are_written_and_checked(run, tmp_path):
    assert run(docs, "--check", "pages")[0] == 1
    assert run(docs, "pages")[0] == 0
    assert run(docs, "--check", "pages") == (0, "", "")
    (tmp_path / "pages/outputs/drop.md").write_text("old")
    (tmp_path / "pages/outputs/gone.md").write_text("old")
    code, _, err = run(docs, "--check", "pages")
    assert code == 1
    assert err.splitlines() == [
        "pages/outputs/drop.md: not current; run ./dev docs",
        "pages/outputs/gone.md: belongs to no component; run ./dev docs",
    ]
    run(docs, "pages")
    assert run(docs, "--check", "pages") == (0, "", "")


def test_lint_reads_blocks_of_yaml_in_markdown(run):
    page = "# Page\n\n```yaml\noutput:\n  stdout: {codecs: lines}\n```\n\n```sh\nls\n```\n\n```yaml\noutput: {drop: {}}\n```\n"
    code, _, err = run(lint, "page.md", **{"page.md": page})
    assert (code, err) == (1, "page.md(5,1) field codecs not recognised\n")
    assert run(lint, "good.md", **{"good.md": page.replace("codecs", "codec")}) == (0, "", "")


def test_lint_can_be_read_by_machines(run):
    code, out, _ = run(lint, "--json", "bad.yaml", bad_yaml=BAD)
    (fault,) = json.loads(out)
    assert code == 1
    assert (fault["line"], fault["code"], fault["todo"]) == (
        2, "unknown_field", "did you mean 'codec'?",
    )  # fmt: skip


def test_list_tells_all_fields_of_all_components(run):
    _, out, _ = run(list_, "--format", "json-full")
    found = json.loads(out)
    (openmeter,) = [one for one in found["outputs"] if one["name"] == "openmeter"]
    fields = {one["name"]: one for one in openmeter["config"]["children"]}
    assert fields["token"]["is_secret"]
    assert fields["timeout"]["ours"]
    assert fields["url"]["description"]
    assert {one["name"] for one in found["config"]} >= {"input", "logger", "error_handling"}
    _, out, _ = run(list_, "--format", "json-full-scrubbed")
    assert "description" not in out


def test_schemas_are_of_configs_streams_and_resources(run):
    for document, there, absent in (
        ("config", "http", "xyz"), ("stream", "buffer", "http"), ("resources", "cache_resources", "input"),
    ):  # fmt: skip
        _, out, _ = run(schema, "--of", document)
        properties = json.loads(out)["properties"]
        assert there in properties
        assert absent not in properties
