"""The compose files, as Docker Compose itself reads them, and by the rules we have for them."""

import json
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from kit.needs import require

FOLDER = Path(__file__).parents[2] / "deploy/compose"
FILES = sorted(FOLDER.glob("*.yaml"))
# Services of ours, which are built here.
OURS = {"compose.yaml": {"collector", "openmeter"}, "openmeter.yaml": {"collector"}}


def read(path):
    """The file with all that stands for something else put in."""
    done = subprocess.run(
        [require("Docker Compose"), "-f", path, "config", "--format", "json"],
        env={"PATH": "/usr/bin:/bin", "HOME": "/nowhere"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_compose_finds_nothing_wrong_and_all_that_is_named_is_there(path):
    made = read(path)
    services = made["services"]
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            assert other in services, name
            assert how["condition"] == "service_healthy"
            assert "healthcheck" in services[other], f"{name} would wait for ever"
        for mount in service.get("volumes", ()):
            if mount["type"] == "bind":
                assert Path(mount["source"]).exists()
                assert mount["read_only"]
            else:
                assert mount["source"] in made["volumes"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_only_the_way_in_is_open_to_others(path):
    for name, service in read(path)["services"].items():
        for port in service.get("ports", ()):
            if (name, port["target"]) != ("collector", 8080):
                assert port["host_ip"] == "127.0.0.1", f"{name}: {port}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_is_ours_is_hardened_and_the_journal_kept(path):
    made = read(path)
    assert {name for name, one in made["services"].items() if "build" in one} == OURS[path.name]
    for name in OURS[path.name]:
        service = made["services"][name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["tmpfs"] == ["/tmp"]
        build = service["build"]
        assert (Path(build["context"]) / build["dockerfile"]).exists()
    collector = made["services"]["collector"]
    assert [(one["source"], one["target"]) for one in collector["volumes"]] == [
        ("journal", "/data")
    ]
    assert collector["stop_grace_period"] == "1m0s"
    to = urlsplit(collector["environment"]["OPENMETER_URL"])
    assert to.hostname in made["services"]


def test_openmeter_is_told_of_the_services_that_there_are():
    services = read(FOLDER / "openmeter.yaml")["services"]
    config = yaml.safe_load((FOLDER / "openmeter/config.yaml").read_text())
    named = [
        config["ingest"]["kafka"]["broker"],
        config["sink"]["kafka"]["brokers"],
        config["aggregation"]["clickhouse"]["address"],
        config["sink"]["dedupe"]["config"]["address"],
        urlsplit(config["postgres"]["url"]).netloc.rpartition("@")[2],
    ]
    assert {one.partition(":")[0] for one in named} == {"kafka", "clickhouse", "redis", "postgres"}
    for one in named:
        assert one.partition(":")[0] in services
    postgres = services["postgres"]["environment"]
    url = urlsplit(config["postgres"]["url"])
    assert (url.username, url.password) == (
        postgres["POSTGRES_USER"],
        postgres["POSTGRES_PASSWORD"],
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_commands_in_the_first_lines_reach_what_is_there(path):
    said = [line for line in path.read_text().splitlines() if line.startswith("#")]
    published = {
        str(port["published"])
        for service in read(path)["services"].values()
        for port in service.get("ports", ())
    }
    asked = {
        str(urlsplit(word.rstrip(".")).port)
        for line in said
        for word in line.split()
        if word.startswith("http://localhost")
    }
    assert asked
    assert asked <= published
    assert any(f"-f deploy/compose/{path.name} " in line for line in said)
