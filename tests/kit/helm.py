"""Helm against a cluster, in a process of its own: its library brings a Go runtime along."""

import contextlib
import json
import subprocess
import sys

_PROGRAM = """
import json, logging, sys
sys.path.insert(0, sys.argv[1])
import helm_python as helm
helm.enable_logging(logging.WARNING)
with helm.Config(kubeconfig_path=sys.argv[2], namespace=sys.argv[3]) as config:
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            made = getattr(config, asked["do"])(*asked["arguments"])
            made = {"made": made}
        except helm.HelmError as error:
            made = {"refused": str(error)}
        print(json.dumps(made), flush=True)
"""


class Refused(Exception):
    """What Helm says why it did not do it."""


class Helm:
    """One namespace's releases."""

    def __init__(self, process, chart, log):
        self._process = process
        self._chart = str(chart)
        self._log = log

    @classmethod
    @contextlib.contextmanager
    def of(cls, packages, chart, kubeconfig, namespace, log):
        """As long as the block lasts; `log` is a file for what it says beside its answers."""
        with log.open("wb") as said:
            process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, packages, kubeconfig, namespace],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True,
            )  # fmt: skip
        try:
            yield cls(process, chart, log)
        finally:
            process.stdin.close()
            process.wait()
            process.stdout.close()

    def install(self, name, values):
        """The release, with its `manifest`."""
        return self._ask("install", self._chart, name, values)

    def upgrade(self, name, values):
        return self._ask("upgrade", self._chart, name, values)

    def uninstall(self, name):
        return self._ask("uninstall", name)

    def said(self):
        """Warnings, of Helm and of the API server."""
        return self._log.read_text()

    def _ask(self, do, *arguments):
        self._process.stdin.write(json.dumps({"do": do, "arguments": arguments}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "refused" in answer:
            raise Refused(answer["refused"])
        return answer["made"]
