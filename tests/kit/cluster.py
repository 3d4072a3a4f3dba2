"""A real Kubernetes control plane for tests: etcd and kube-apiserver on the loopback, with RBAC.

No nodes: pods are admitted and stored, and run nowhere. Their status is what a test writes, as a kubelet
would. Nothing of it is on a disk that is waited for.
"""

from __future__ import annotations

import base64
import contextlib
import json
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import trustme
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from kit.databases import free_port

_ADMIN = "admin-of-the-tests"
_PATIENCE = 90.0
_AUDIT = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
  - level: Metadata
    userGroups: ["system:serviceaccounts"]
"""


class ApiError(Exception):
    """An answer that is not 2xx: `code`, `reason` and the words of the server."""

    def __init__(self, code: int, status: Mapping[str, Any]) -> None:
        self.code = code
        self.reason = str(status.get("reason", ""))
        super().__init__(f"{code} {self.reason}: {status.get('message', '')}")


class Cluster:
    """The control plane; `serve` gives one that answers."""

    def __init__(self, folder: Path, programs: tuple[Path, Path]) -> None:
        self._folder = folder
        self._programs = programs
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._etcd, self._peers, self._port = free_port(), free_port(), free_port()
        self.url = f"https://127.0.0.1:{self._port}"
        self._make_secrets()

    @classmethod
    @contextlib.contextmanager
    def serve(cls, folder: Path, programs: tuple[Path, Path]) -> Iterator[Cluster]:
        """Started and ready; all of it is ended with the block. `programs`: API server and etcd."""
        made = cls(folder, programs)
        try:
            made._start_etcd()
            made.start_api_server()
            yield made
        finally:
            for name in reversed(list(made._processes)):
                made._end(name, signal.SIGKILL)

    # ---- its life ----------------------------------------------------------------------

    def start_api_server(self, *, wait: bool = True) -> None:
        """Return when it is ready, if it is to be waited for."""
        own = self._folder
        self._start(
            self._programs[0],
            f"--etcd-servers=http://127.0.0.1:{self._etcd}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self._port}",
            f"--tls-cert-file={own}/server.pem",
            f"--tls-private-key-file={own}/server.key",
            f"--token-auth-file={own}/tokens.csv",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={own}/accounts.key",
            f"--service-account-signing-key-file={own}/accounts.key",
            "--service-cluster-ip-range=10.0.0.0/24",
            f"--audit-policy-file={own}/audit.yaml",
            f"--audit-log-path={own}/audit.log",
            "--shutdown-delay-duration=0s",
            "--v=1",
        )
        if not wait:
            return
        self._await(lambda: self.get("/readyz", plain=True) == "ok", "kube-apiserver")
        self._await(lambda: self.get("/api/v1/namespaces/default"), "kube-apiserver")

    def stop_api_server(self, number: int = signal.SIGTERM) -> None:
        """It keeps what is in etcd."""
        self._end("kube-apiserver", number)

    def start_controllers(self, program: Path) -> None:
        """Those of workloads and garbage; for tests in which objects have to come to life."""
        kubeconfig = self._folder / "controllers.yaml"
        kubeconfig.write_text(self.kubeconfig(_ADMIN))
        self._start(
            program,
            f"--kubeconfig={kubeconfig}",
            "--controllers=statefulset-controller,garbage-collector-controller,disruption-controller",
            "--leader-elect=false",
            "--secure-port=0",
        )

    def forget(self) -> None:
        """Keep no version but the newest, on disk nor in memory.

        The server's memory has the latest versions even after etcd has compacted them, so it is started anew.
        """
        self.stop_api_server(signal.SIGKILL)
        key = base64.b64encode(b"/").decode()
        reached = self._ask_etcd("/v3/kv/range", {"key": key})["header"]["revision"]
        self._ask_etcd("/v3/kv/compaction", {"revision": reached})
        self.start_api_server()

    def asked_by(self, namespace: str, account: str) -> list[Mapping[str, Any]]:
        """What an account has asked for, as the server's audit log has it; a watch when it has ended."""
        who = f"system:serviceaccount:{namespace}:{account}"
        lines = (self._folder / "audit.log").read_text().splitlines()
        return [one for one in map(json.loads, lines) if one["user"]["username"] == who]

    # ---- its API, as its administrator -------------------------------------------------

    def get(self, path: str, *, plain: bool = False) -> Any:
        return self.request("GET", path, plain=plain)

    def create(self, path: str, body: Mapping[str, Any], **query: str) -> Any:
        return self.request("POST", path, body, **query)

    def replace(self, path: str, body: Mapping[str, Any]) -> Any:
        return self.request("PUT", path, body)

    def delete(self, path: str) -> Any:
        # Pods would wait for a kubelet that there is not.
        return self.request("DELETE", path, {"gracePeriodSeconds": 0})

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        token: str = _ADMIN,
        content_type: str = "application/json",
        plain: bool = False,
        **query: str,
    ) -> Any:
        """One request; raises `ApiError`. The answer's warnings are in `warnings`."""
        asked = "?" + "&".join(f"{name}={value}" for name, value in query.items()) if query else ""
        made = urllib.request.Request(
            f"{self.url}{path}{asked}",
            None if body is None else json.dumps(body).encode(),
            {"Authorization": f"Bearer {token}", "Content-Type": content_type},
            method=method,
        )
        try:
            with urllib.request.urlopen(made, context=self._trust, timeout=30) as answer:
                self.warnings = answer.headers.get_all("Warning") or []
                content = answer.read()
        except urllib.error.HTTPError as error:
            content = error.read()
            with contextlib.suppress(ValueError):
                raise ApiError(error.code, json.loads(content)) from None
            raise ApiError(error.code, {"message": content.decode(errors="replace")}) from None
        return content.decode() if plain else json.loads(content)

    def namespace(self, name: str, labels: Mapping[str, str] | None = None) -> str:
        """Make one, with the account that pods get when they name none."""
        self.create("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels or {}}})
        self.account(name, "default")
        return name

    def apply(self, text: str) -> None:
        """Make the objects of a manifest about rights."""
        for one in yaml.safe_load_all(text):
            place = one["metadata"].get("namespace")
            scope = f"/namespaces/{place}" if place else ""
            self.create(f"/apis/{one['apiVersion']}{scope}/{one['kind'].lower()}s", one)

    def account(self, namespace: str, name: str) -> None:
        """Make a ServiceAccount."""
        self.create(f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": name}})

    def token(self, namespace: str, account: str, seconds: int = 3600) -> str:
        """What a kubelet mounts into a pod of this account."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        made = self.create(path, {"spec": {"expirationSeconds": seconds}})
        return str(made["status"]["token"])

    def kubeconfig(self, token: str = _ADMIN, namespace: str = "default") -> str:
        """The text of a kubeconfig file that leads here."""
        return json.dumps(self._kubeconfig({"token": token}, namespace))

    def kubeconfig_with_file(self, token_file: Path, namespace: str) -> str:
        """The same with a token that is in a file, which somebody renews."""
        return json.dumps(self._kubeconfig({"tokenFile": str(token_file)}, namespace))

    def _kubeconfig(self, user: Mapping[str, str], namespace: str) -> dict[str, Any]:
        place = {"cluster": "real", "user": "me", "namespace": namespace}
        authority = {"server": self.url, "certificate-authority": str(self._folder / "ca.pem")}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "real",
            "contexts": [{"name": "real", "context": place}],
            "clusters": [{"name": "real", "cluster": authority}],
            "users": [{"name": "me", "user": dict(user)}],
        }

    # ---- processes ---------------------------------------------------------------------

    def _make_secrets(self) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self._folder / "ca.pem"))
        server = authority.issue_cert("127.0.0.1", "localhost")
        server.private_key_pem.write_to_path(str(self._folder / "server.key"))
        for part in server.cert_chain_pems:
            part.write_to_path(str(self._folder / "server.pem"), append=True)
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        (self._folder / "accounts.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
        )
        (self._folder / "audit.yaml").write_text(_AUDIT)
        (self._folder / "tokens.csv").write_text(f'{_ADMIN},admin,admin,"system:masters"\n')
        self._trust = ssl.create_default_context(cafile=str(self._folder / "ca.pem"))
        self.warnings: list[str] = []

    def _start_etcd(self) -> None:
        client = f"http://127.0.0.1:{self._etcd}"
        peer = f"http://127.0.0.1:{self._peers}"
        self._start(
            self._programs[1],
            f"--data-dir={self._folder}/etcd",
            "--unsafe-no-fsync",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
        )
        self._await(lambda: self._ask_etcd("/v3/kv/range", {"key": "YQ=="}), "etcd")

    def _ask_etcd(self, path: str, body: Mapping[str, Any]) -> Any:
        made = urllib.request.Request(
            f"http://127.0.0.1:{self._etcd}{path}", json.dumps(body).encode(), method="POST"
        )
        with urllib.request.urlopen(made, timeout=10) as answer:
            return json.loads(answer.read())

    def _start(self, program: Path, *arguments: str) -> None:
        name = program.name
        with (self._folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen([program, *arguments], stdout=log, stderr=log)

    def _end(self, name: str, number: int) -> None:
        process = self._processes.pop(name)
        process.send_signal(number)
        process.wait()

    def _await(self, condition: Any, name: str) -> None:
        end = time.monotonic() + _PATIENCE
        while True:
            with contextlib.suppress(OSError, ApiError):
                if condition():
                    return
            log = self._folder / f"{name}.log"
            process = self._processes[name]
            assert process.poll() is None, f"{name} ended: {log.read_text()[-2000:]}"
            assert time.monotonic() < end, f"{name} is not ready: {log.read_text()[-2000:]}"
            time.sleep(0.1)
