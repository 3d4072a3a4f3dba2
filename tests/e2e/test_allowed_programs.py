"""Programs are started by a config only if whoever starts the collector says so."""

import os
import subprocess
import sys

import pytest

CONFIG = """
http: {enabled: false}
logger: {level: OFF}
input: {generate: {count: 1, interval: "", mapping: 'root = "meter"'}}
pipeline:
  processors:
    - command: {name: tr, args_mapping: '["a-z", "A-Z"]'}
output: {stdout: {}}
"""


def run(folder, *options, **env):
    (folder / "config.yaml").write_text(CONFIG)
    return subprocess.run(
        [sys.executable, "-m", "openmeter_collector.cli.main", "run", "config.yaml", *options],
        cwd=folder,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_without_permission_it_does_not_start_and_says_what_to_do(tmp_path):
    done = run(tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "config.yaml:7:7" in done.stderr
    assert "start with --allow programs" in done.stderr


@pytest.mark.parametrize(
    ("options", "env"),
    [(["--allow", "programs"], {}), ([], {"OPENMETER_COLLECTOR_ALLOW": "programs"})],
)
def test_with_permission_it_runs(tmp_path, options, env):
    done = run(tmp_path, *options, **env)
    assert (done.returncode, done.stdout) == (0, "METER\n"), done.stderr
