"""What the image writes down about itself: the Dockerfile's command, run on the environment of the tests."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jsonschema_rs
import pytest

from kit.needs import require

ROOT = Path(__file__).parents[2]
_MADE = "/opt/collector/sbom.cdx.json"


def command():
    """The arguments of cyclonedx-py in the Dockerfile."""
    text = (ROOT / "deploy/docker/Dockerfile").read_text().replace("\\\n", " ")
    (found,) = re.findall(r"/opt/sbom/bin/cyclonedx-py (.*)", text)
    return found.split()


@pytest.fixture(scope="module")
def packages():
    return require("cyclonedx-bom")


@pytest.fixture(scope="module")
def made(packages, tmp_path_factory):
    """The document."""
    file = tmp_path_factory.mktemp("sbom") / "sbom.cdx.json"
    here = {_MADE: str(file), "/opt/collector/bin/python": sys.executable}
    subprocess.run(
        [sys.executable, "-m", "cyclonedx_py", *(here.get(one, one) for one in command())],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(packages)}, check=True, capture_output=True,
    )  # fmt: skip
    return json.loads(file.read_text())


def validator(packages, version):
    """CycloneDX's own schema of a version, with those it refers to."""
    folder = packages / "cyclonedx/schema/_res"
    resources = []
    for name in ("spdx", "jsf-0.82"):
        schema = json.loads((folder / f"{name}.SNAPSHOT.schema.json").read_text())
        resources.append((f"http://cyclonedx.org/schema/{name}.SNAPSHOT.schema.json", schema))
    registry = jsonschema_rs.Registry(resources)
    schema = json.loads((folder / f"bom-{version}.SNAPSHOT.schema.json").read_text())
    return jsonschema_rs.validator_for(schema, registry=registry)


def test_it_is_a_document_of_cyclonedx(made, packages):
    assert made["bomFormat"] == "CycloneDX"
    checker = validator(packages, made["specVersion"])
    assert [error.message for error in checker.iter_errors(made)] == []
    made = made | {"components": [{"name": "x", "type": "no such type"}]}
    assert not checker.is_valid(made), "the schema is one that finds something"


def test_it_is_about_the_collector_and_names_all_that_is_installed(made):
    about = made["metadata"]["component"]
    assert (about["name"], about["type"]) == ("openmeter-collector", "application")
    found = {one["name"].lower().replace("_", "-"): one for one in made["components"]}
    pinned = re.findall(
        r"^([a-z0-9-]+)==(\S+)", (ROOT / "requirements/run.txt").read_text(), re.MULTILINE
    )
    for name, version in pinned:
        if name in found:
            assert found[name]["version"] == version
            assert found[name]["purl"] == f"pkg:pypi/{name}@{version}"
    # Those with a marker may be missing here; most are not.
    assert len(found.keys() & {name for name, _ in pinned}) > 20
    needs = next(one for one in made["dependencies"] if one["ref"] == about["bom-ref"])
    assert any(one.startswith("aiohttp==") for one in needs["dependsOn"])


def test_it_is_the_same_for_the_same_image(made):
    assert "timestamp" not in made["metadata"]
    assert "serialNumber" not in made
