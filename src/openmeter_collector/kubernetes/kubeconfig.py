"""Where the API server is and who we are: kubeconfig files, or what a pod finds in its own file system.

Looked for in the order that controllers have always used: a file that was named, `KUBECONFIG`, the pod's
service account, `~/.kube/config`.
"""

from __future__ import annotations

import base64
import binascii
import os
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from openmeter_collector.errors import ConfigError
from openmeter_collector.kubernetes.credentials import (
    Credentials,
    ExecPlugin,
    Fixed,
    TokenFile,
    password,
    token,
)

_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_NO_CONTEXT: Final[dict[str, Any]] = {}


@dataclass(frozen=True, slots=True)
class Access:
    """What is needed to talk to an API server.

    Attributes:
        server: its address, without a slash at the end.
        namespace: the one we are in, or that the context names; empty when unknown.
        proxy: an HTTP proxy on the way, or None.
    """

    server: str
    credentials: Credentials
    tls: ssl.SSLContext | None = None
    namespace: str = ""
    proxy: str | None = None


def find_access(
    kubeconfig: str = "",
    context: str = "",
    env: Mapping[str, str] | None = None,
    account: Path = _ACCOUNT,
) -> Access:
    """The cluster to talk to.

    Args:
        kubeconfig: a file, or several with `:` between; empty to look in the usual places.
        context: of the file; empty for its current one.
        account: where a pod has its service account.

    Raises:
        ConfigError: there is none, or it cannot be used; the text says why.
    """
    env = os.environ if env is None else env
    listed = kubeconfig or env.get("KUBECONFIG", "")
    if listed:
        return _from_files([Path(one).expanduser() for one in listed.split(":") if one], context)
    if not context and env.get("KUBERNETES_SERVICE_HOST") and (account / "token").exists():
        return _in_cluster(env, account)
    usual = Path(env.get("HOME", "~")).expanduser() / ".kube" / "config"
    if usual.exists():
        return _from_files([usual], context)
    raise ConfigError(
        "no Kubernetes cluster was found: this is no pod with a service account, KUBECONFIG is not set, "
        f"and {usual} does not exist; set one of them, or `kubeconfig`"
    )


def _in_cluster(env: Mapping[str, str], account: Path) -> Access:
    host = env["KUBERNETES_SERVICE_HOST"]
    port = env.get("KUBERNETES_SERVICE_PORT", "443")
    try:
        tls = ssl.create_default_context(cafile=account / "ca.crt")
        namespace = (account / "namespace").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        tls, namespace = ssl.create_default_context(), ""
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"{account}: the service account cannot be used ({error})") from error
    shown = f"[{host}]" if ":" in host else host
    return Access(f"https://{shown}:{port}", TokenFile(account / "token"), tls, namespace)


def _from_files(paths: list[Path], context: str) -> Access:
    clusters: dict[str, Any] = {}
    users: dict[str, Any] = {}
    contexts: dict[str, Any] = {}
    current = context
    read = 0
    for path in paths:
        if not path.exists():
            continue  # as kubectl does: a list may name files that are not there yet
        read += 1
        made = _read(path)
        for kind, singular, known in (
            ("clusters", "cluster", clusters),
            ("users", "user", users),
            ("contexts", "context", contexts),
        ):
            for one in made.get(kind) or ():
                # The first file that knows a name wins; paths in it are relative to it.
                known.setdefault(str(one.get("name")), (one.get(singular) or {}, path.parent))
        current = current or str(made.get("current-context") or "")
    where = ":".join(map(str, paths))
    if not read:
        raise ConfigError(f"{where}: does not exist; set `kubeconfig` to the file of a cluster")
    if current not in contexts:
        known_names = ", ".join(sorted(contexts)) or "none"
        raise ConfigError(f"{where}: there is no context {current!r}; known: {known_names}")
    chosen = contexts[current][0]
    try:
        cluster, cluster_folder = clusters[str(chosen.get("cluster"))]
        user, user_folder = users.get(str(chosen.get("user")), ({}, Path()))
        server = str(cluster["server"]).rstrip("/")
    except KeyError as error:
        raise ConfigError(
            f"{where}: context {current!r} names {error}, which is not there"
        ) from error
    return Access(
        server,
        _credentials(user, user_folder, cluster, where),
        _tls(cluster, cluster_folder, user, user_folder, where),
        str(chosen.get("namespace") or ""),
        str(cluster["proxy-url"]) if cluster.get("proxy-url") else None,
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        made = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        # Not the error's own text: it quotes lines, and they hold secrets.
        raise ConfigError(f"{path}: cannot be read as a kubeconfig") from error
    if not isinstance(made, dict):
        raise ConfigError(f"{path}: is no kubeconfig")
    return made


def _credentials(
    user: Mapping[str, Any], folder: Path, cluster: Mapping[str, Any], where: str
) -> Credentials:
    if user.get("token"):
        return token(str(user["token"]))
    if user.get("tokenFile"):
        return TokenFile(folder / str(user["tokenFile"]))
    if user.get("username"):
        return password(str(user["username"]), str(user.get("password", "")))
    if user.get("exec"):
        return _plugin(user["exec"], folder, cluster)
    if user.get("auth-provider"):
        raise ConfigError(
            f"{where}: `auth-provider` was removed from Kubernetes; use an exec plug-in instead"
        )
    return Fixed()


def _plugin(about: Mapping[str, Any], folder: Path, cluster: Mapping[str, Any]) -> ExecPlugin:
    command = str(about.get("command", ""))
    if "/" in command and not command.startswith("/"):
        command = str(folder / command)
    told = None
    if about.get("provideClusterInfo"):
        names = (
            "server",
            "certificate-authority-data",
            "insecure-skip-tls-verify",
            "tls-server-name",
        )
        told = {name: cluster[name] for name in names if name in cluster}
    return ExecPlugin(
        [command, *(str(one) for one in about.get("args") or ())],
        {str(one["name"]): str(one["value"]) for one in about.get("env") or ()},
        str(about.get("apiVersion", "client.authentication.k8s.io/v1")),
        " ".join(str(about.get("installHint") or "").split()),
        told,
    )


def _tls(
    cluster: Mapping[str, Any],
    cluster_folder: Path,
    user: Mapping[str, Any],
    user_folder: Path,
    where: str,
) -> ssl.SSLContext | None:
    if not str(cluster["server"]).startswith("https://"):
        return None
    if cluster.get("tls-server-name"):
        raise ConfigError(f"{where}: `tls-server-name` is not supported; use the name in `server`")
    try:
        data = cluster.get("certificate-authority-data")
        file = cluster.get("certificate-authority")
        made = ssl.create_default_context(
            cafile=str(cluster_folder / str(file)) if file and not data else None,
            cadata=base64.b64decode(data).decode() if data else None,
        )
        if cluster.get("insecure-skip-tls-verify"):
            made.check_hostname = False
            made.verify_mode = ssl.CERT_NONE
        _show_certificate(made, user, user_folder)
    except (OSError, ssl.SSLError, binascii.Error, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}: its certificates cannot be used ({error})") from error
    return made


def _show_certificate(context: ssl.SSLContext, user: Mapping[str, Any], folder: Path) -> None:
    shown = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("client-certificate", "client-key"):
            if user.get(f"{name}-data"):
                # Python reads certificates from files only; this one is ours alone, and gone at once.
                path = Path(scratch) / name
                path.touch(0o600)
                path.write_bytes(base64.b64decode(user[f"{name}-data"]))
                shown[name] = path
            elif user.get(name):
                shown[name] = folder / str(user[name])
        if "client-certificate" in shown:
            context.load_cert_chain(shown["client-certificate"], shown.get("client-key"))
