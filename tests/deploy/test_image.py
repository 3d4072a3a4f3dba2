"""The image's Dockerfile and the systemd unit keep the rules we have for them.

There is no Docker here; what can be run of it is run in a plain folder. What is in the image: test_sbom.py.
"""

import fnmatch
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DOCKER = ROOT / "deploy/docker"
ENTRYPOINT = DOCKER / "entrypoint.sh"
UNIT = ROOT / "deploy/systemd/openmeter-collector.service"


@pytest.fixture(scope="module")
def instructions():
    """As (word, rest), continued lines joined, comments left out."""
    text = (DOCKER / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [tuple(line.split(None, 1)) for line in joined.splitlines() if line.strip()]


def of(instructions, word):
    return [rest for found, rest in instructions if found == word]


def last_stage(instructions):
    start = max(at for at, (word, _) in enumerate(instructions) if word == "FROM")
    return instructions[start:]


def test_it_is_built_in_one_stage_and_runs_in_another(instructions):
    assert len(of(instructions, "FROM")) == 2
    assert all("python:${PYTHON}" in one for one in of(instructions, "FROM"))
    (base,) = [one for one in of(instructions, "ARG") if one.startswith("PYTHON=")]
    assert "slim" in base
    assert "latest" not in base
    assert not [one for one in of(last_stage(instructions), "RUN") if "pip" in one or "apt" in one]


def test_it_does_not_run_as_root_and_says_where_it_keeps_things(instructions):
    stage = last_stage(instructions)
    (user,) = of(stage, "USER")
    assert int(user.split(":")[0]) > 1000
    words = [word for word, _ in stage]
    assert words.index("USER") > max(at for at, word in enumerate(words) if word == "RUN")
    assert of(stage, "VOLUME") == ["/data"]
    assert "BUFFER_PATH=/data/buffer.db" in " ".join(of(stage, "ENV"))
    assert "/ping" in of(stage, "HEALTHCHECK")[0]
    assert of(stage, "EXPOSE") == ["4195 8080"]


def test_everything_that_is_downloaded_is_known_by_its_hash(instructions):
    installs = [one for one in of(instructions, "RUN") if "pip install" in one]
    assert installs
    for one in installs:
        for call in re.findall(r"pip install [^;&]*", one):
            assert "--require-hashes" in call or "--no-index" in call
            assert "--no-deps" in call
    (wheel,) = [one for one in of(instructions, "RUN") if "pip wheel" in one]
    assert {"--no-index", "--no-deps", "--no-build-isolation"} <= set(wheel.split())


def test_what_built_it_is_not_left_in_it(instructions):
    (run,) = [one for one in of(instructions, "RUN") if "pip uninstall" in one]
    removed = re.search(r"pip uninstall --yes ([^&]*)", run)[1].split()
    backend = {re.split("[=>]", one)[0] for one in PROJECT["build-system"]["requires"]}
    assert {"pip", *backend} <= set(removed)
    pinned = (ROOT / "requirements/run.txt").read_text()
    assert [one for one in removed if f"\n{one}==" not in pinned] == ["pip", "setuptools"]
    wanted = {re.split("[=>;]", one)[0] for one in PROJECT["project"]["dependencies"]}
    assert wanted.isdisjoint(removed)


def test_the_extras_of_the_image_exist(instructions):
    (extras,) = [one for one in of(instructions, "ARG") if one.startswith("EXTRAS=")]
    names = re.search('"(.*)"', extras)[1].split()
    assert names == sorted(names)
    for name in names:
        assert "--hash=sha256:" in (ROOT / f"requirements/extra-{name}.txt").read_text()


def test_what_is_copied_is_there_and_not_left_out(instructions):
    kept = [
        line[1:]
        for line in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    for one in of(instructions, "COPY"):
        if one.startswith("--from"):
            continue
        *sources, _ = one.split()
        for source in sources:
            path = source.rstrip("/")
            assert (ROOT / path).exists(), path
            assert any(fnmatch.fnmatch(path, pattern) for pattern in kept), f"{path} is ignored"


def run_entrypoint(folder, certificates=None, **env):
    return subprocess.run(
        [ENTRYPOINT, "sh", "-c", 'echo "[${SSL_CERT_FILE:-}]"; cat "${SSL_CERT_FILE:-/dev/null}"'],
        env={"PATH": "/usr/bin:/bin", "TMPDIR": str(folder), "CA_CERTIFICATES": str(certificates), **env},
        capture_output=True,
        text=True,
        check=True,
    ).stdout  # fmt: skip


def test_mounted_certificates_are_trusted_without_root(tmp_path):
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    assert run_entrypoint(tmp_path, mounted) == "[]\n"
    (mounted / "a.crt").write_text("first")
    (mounted / "b").write_text("second\n")
    bundle = tmp_path / "ca-certificates.crt"
    said = run_entrypoint(tmp_path, mounted)
    assert said.startswith(f"[{bundle}]\nfirst\nsecond\n")
    usual = Path("/etc/ssl/certs/ca-certificates.crt")
    if usual.exists():
        assert usual.read_text() in said
    assert run_entrypoint(tmp_path, mounted, SSL_CERT_FILE="/dev/null") == "[/dev/null]\n"
    assert run_entrypoint(tmp_path, tmp_path / "nowhere") == "[]\n"


def test_without_certificates_nothing_has_to_be_writable(tmp_path):
    mounted = tmp_path / "mounted"
    (mounted / "folder").mkdir(parents=True)
    assert run_entrypoint(tmp_path / "nowhere", mounted) == "[]\n"
    (mounted / "a.crt").write_text("first")
    with pytest.raises(subprocess.CalledProcessError):
        run_entrypoint(tmp_path / "nowhere", mounted)


def test_the_unit_is_hardened():
    text = UNIT.read_text()
    for line in (
        "DynamicUser=yes", "NoNewPrivileges=yes", "CapabilityBoundingSet=", "ProtectSystem=strict",
        "ProtectHome=yes", "PrivateDevices=yes", "MemoryDenyWriteExecute=yes", "Restart=always",
        "SystemCallFilter=@system-service", "StateDirectory=openmeter-collector",
    ):  # fmt: skip
        assert f"\n{line}\n" in text, line
    assert "\nKillMode=mixed\n" in text, "each worker would be told to end twice, and so at once"
    stop = int(re.search(r"TimeoutStopSec=(\d+)", text)[1])
    assert stop > 20, "longer than the default shutdown_timeout"


def test_the_unit_is_one(tmp_path):
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is missing; apt-get install systemd")
    copy = tmp_path / UNIT.name
    # What it starts is not installed here.
    copy.write_text(
        UNIT.read_text().replace("/opt/openmeter-collector/bin/openmeter-collector", "/bin/true")
    )
    done = subprocess.run(
        [analyze, "verify", "--man=no", copy], capture_output=True, text=True, check=False
    )
    told = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert told == []
