"""Where a cluster is looked for, and how we show who we are."""

import base64
import ssl
import sys

import pytest
import trustme
import yaml

from openmeter_collector.errors import ConfigError, Retryable
from openmeter_collector.kubernetes.credentials import ExecPlugin
from openmeter_collector.kubernetes.kubeconfig import find_access


def config(user=None, cluster=None, name="one", **more):
    return {
        "current-context": name,
        "contexts": [
            {"name": name, "context": {"cluster": name, "user": name, "namespace": f"ns-{name}"}}
        ],
        "clusters": [{"name": name, "cluster": cluster or {"server": f"http://{name}:8080/"}}],
        "users": [{"name": name, "user": user or {}}],
        **more,
    }


def write(path, content):
    path.write_text(yaml.safe_dump(content))
    return str(path)


async def test_the_current_context_is_taken_or_the_one_that_was_named(tmp_path):
    file = write(tmp_path / "a", config({"token": "t"}))
    other = write(tmp_path / "b", config(name="two"))
    access = find_access(f"{file}:{other}")
    assert (access.server, access.namespace) == ("http://one:8080", "ns-one")
    assert await access.credentials.header(0) == "Bearer t"
    assert find_access(f"{file}:{other}", "two").server == "http://two:8080"
    with pytest.raises(ConfigError, match="no context 'three'; known: one, two"):
        find_access(f"{file}:{other}", "three")


def test_a_cluster_is_looked_for_in_the_usual_order(tmp_path):
    account = tmp_path / "account"
    account.mkdir()
    home = {"HOME": str(tmp_path)}
    with pytest.raises(ConfigError, match="no Kubernetes cluster was found"):
        find_access(env=home, account=account)
    (tmp_path / ".kube").mkdir()
    write(tmp_path / ".kube" / "config", config(name="home"))
    assert find_access(env=home, account=account).server == "http://home:8080"
    (account / "token").write_text("t")
    inside = home | {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "6443"}
    assert find_access(env=inside, account=account).server == "https://10.0.0.1:6443"
    named = inside | {"KUBECONFIG": write(tmp_path / "named", config(name="named"))}
    assert find_access(env=named, account=account).server == "http://named:8080"


async def test_the_token_of_a_service_account_may_be_renewed(tmp_path):
    (tmp_path / "token").write_text("one\n")
    (tmp_path / "namespace").write_text("billing\n")
    (tmp_path / "ca.crt").write_bytes(trustme.CA().cert_pem.bytes())
    env = {"KUBERNETES_SERVICE_HOST": "fd00::1"}
    access = find_access(env=env, account=tmp_path)
    assert access.server == "https://[fd00::1]:443"
    assert access.namespace == "billing"
    assert await access.credentials.header(0) == "Bearer one"
    (tmp_path / "token").write_text("two\n")
    assert await access.credentials.header(0) == "Bearer two"
    (tmp_path / "token").unlink()
    with pytest.raises(Retryable, match="cannot be read"):
        await access.credentials.header(0)


async def test_paths_in_a_kubeconfig_are_relative_to_it(tmp_path):
    ca = trustme.CA()
    ours = ca.issue_cert("me")
    (tmp_path / "ca.pem").write_bytes(ca.cert_pem.bytes())
    (tmp_path / "me.pem").write_bytes(ours.cert_chain_pems[0].bytes())
    (tmp_path / "me.key").write_bytes(ours.private_key_pem.bytes())
    (tmp_path / "token").write_text("t")
    user = {"client-certificate": "me.pem", "client-key": "me.key", "tokenFile": "token"}
    cluster = {"server": "https://x", "certificate-authority": "ca.pem"}
    access = find_access(write(tmp_path / "config", config(user, cluster)))
    assert isinstance(access.tls, ssl.SSLContext)
    assert await access.credentials.header(0) == "Bearer t"


def test_certificates_may_be_in_the_file_itself(tmp_path):
    ca = trustme.CA()
    ours = ca.issue_cert("me")

    def data(blob):
        return base64.b64encode(blob.bytes()).decode()

    user = {
        "client-certificate-data": data(ours.cert_chain_pems[0]),
        "client-key-data": data(ours.private_key_pem),
    }
    cluster = {"server": "https://x", "certificate-authority-data": data(ca.cert_pem)}
    assert find_access(write(tmp_path / "c", config(user, cluster))).tls is not None
    cluster["certificate-authority-data"] = "bm8="
    with pytest.raises(ConfigError, match="certificates cannot be used"):
        find_access(write(tmp_path / "c", config(user, cluster)))


async def test_an_exec_plug_in_is_asked_once_until_its_token_ends(tmp_path):
    plugin = tmp_path / "plugin.py"
    plugin.write_text(
        "import json, os, pathlib, sys\n"
        "info = json.loads(os.environ['KUBERNETES_EXEC_INFO'])\n"
        "assert info['spec']['cluster']['server'] == 'http://x'\n"
        f"count = pathlib.Path({str(tmp_path / 'count')!r})\n"
        "n = int(count.read_text()) + 1 if count.exists() else 1\n"
        "count.write_text(str(n))\n"
        "token = f\"{os.environ['WHO']}-{n}\"\n"
        "status = {'token': token, 'expirationTimestamp': '2023-11-14T22:13:20Z'}\n"
        "print(json.dumps({'kind': 'ExecCredential', 'status': status}))\n"
    )
    about = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": [str(plugin)],
        "env": [{"name": "WHO", "value": "me"}],
        "provideClusterInfo": True,
    }
    file = write(tmp_path / "c", config({"exec": about}, {"server": "http://x"}))
    credentials = find_access(file).credentials
    assert await credentials.header(1_600_000_000) == "Bearer me-1"
    assert await credentials.header(1_600_000_001) == "Bearer me-1"
    assert await credentials.header(1_700_000_001) == "Bearer me-2", "it had ended"
    credentials.forget()
    assert await credentials.header(1_600_000_001) == "Bearer me-3", "it was refused"


async def test_a_plug_in_that_fails_says_why():
    missing = ExecPlugin(["/nowhere/plugin"], {}, "v1", "install it with x")
    with pytest.raises(Retryable, match=r"No such file.*; install it with x"):
        await missing.header(0)
    failing = ExecPlugin([sys.executable, "-c", "import sys; sys.exit('log in first')"], {}, "v1")
    with pytest.raises(Retryable, match="ended with 1: log in first"):
        await failing.header(0)
    silent = ExecPlugin([sys.executable, "-c", "print('{}')"], {}, "v1")
    with pytest.raises(Retryable, match="printed no token"):
        await silent.header(0)


def test_what_cannot_be_read_is_told_without_its_content(tmp_path):
    file = tmp_path / "c"
    file.write_text("users: [{token: s3cret")
    with pytest.raises(ConfigError, match="cannot be read as a kubeconfig") as refused:
        find_access(str(file))
    assert "s3cret" not in str(refused.value)
    with pytest.raises(ConfigError, match="auth-provider"):
        find_access(write(file, config({"auth-provider": {"name": "gcp"}})))
