"""The chart, rendered by Helm itself: for the values of upstream's chart and for ours."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from kit.chart import CHART, CONFIG, SETS
from kit.needs import require
from openmeter_collector.presets import presets

ROOT = Path(__file__).parents[2]
# In a process of its own: the library brings a Go runtime along, which wants no company.
RENDER = """
import json, sys
sys.path.insert(0, sys.argv[1])
import helm_python as helm
made = {"lint": helm.lint(sys.argv[2]), "rendered": []}
with helm.Chart.load(sys.argv[2]) as chart:
    for values in json.load(sys.stdin):
        try:
            made["rendered"].append(chart.render(values, name="demo", namespace="prod"))
        except helm.HelmError as error:
            made["rendered"].append(str(error))
print(json.dumps(made))
"""
WRONG = {
    "One of 'config', 'configFile' or 'preset' is required": {},
    "ingress.enabled needs service.enabled": {"preset": "otel", "ingress": {"enabled": True}},
    "replicaCount": {"preset": "otel", "replicaCount": "three"},
    "sotrage": {"preset": "otel", "sotrage": {"enabled": True}},
    "/workers": {"preset": "otel", "workers": 0},
    "duration": {"preset": "otel", "leaderElection": {"lease": {"duration": "10 seconds"}}},
}


@pytest.fixture(scope="module")
def rendered():
    packages = require("Helm")
    values = [*SETS.values(), *WRONG.values()]
    done = subprocess.run(
        [sys.executable, "-c", RENDER, packages, CHART],
        input=json.dumps(values),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    made["rendered"] = dict(zip([*SETS, *WRONG], made["rendered"], strict=True))
    return made


def objects_of(rendered, name):
    files = rendered["rendered"][name]
    assert isinstance(files, dict), files
    found = {}
    for path, text in files.items():
        if path.endswith(".yaml"):
            for one in yaml.safe_load_all(text):
                if one is not None:
                    key = one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]
                    assert key not in found, f"{key} is there twice"
                    found[key] = one
    return list(found.values())


def one_of(rendered, name, kind):
    (found,) = [one for one in objects_of(rendered, name) if one["kind"] == kind]
    return found


def kinds(rendered, name):
    return sorted(one["kind"] for one in objects_of(rendered, name))


def pod_of(rendered, name):
    return one_of(rendered, name, "StatefulSet")["spec"]["template"]["spec"]


def env_of(rendered, name):
    (container,) = pod_of(rendered, name)["containers"]
    return {one["name"]: one.get("value") for one in container["env"]}


def test_the_chart_has_nothing_that_helm_finds_wrong(rendered):
    worst = [one for one in rendered["lint"]["messages"] if one["severity"] > 1]
    assert (worst, rendered["lint"]["errors"]) == ([], [])


@pytest.mark.parametrize("name", SETS)
def test_what_is_rendered_is_whole_and_hardened(rendered, name):
    found = objects_of(rendered, name)
    for one in found:
        assert one["apiVersion"]
        assert len(one["metadata"]["name"]) <= 63
    statefulset = one_of(rendered, name, "StatefulSet")
    spec = statefulset["spec"]
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    assert any(
        one["kind"] == "Service" and one["metadata"]["name"] == spec["serviceName"] for one in found
    )
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["readinessProbe"]["httpGet"] == {"path": "/ready", "port": "metrics"}
    assert container["livenessProbe"]["httpGet"] == {"path": "/ping", "port": "metrics"}
    assert container["startupProbe"]["httpGet"] == {"path": "/ping", "port": "metrics"}
    # Everything that is mounted is there, and everything that is there is mounted.
    volumes = {one["name"] for one in pod["volumes"]}
    volumes |= {one["metadata"]["name"] for one in spec.get("volumeClaimTemplates", ())}
    assert {one["name"] for one in container["volumeMounts"]} == volumes
    # The token is in a Secret and nowhere else.
    assert "om_secret" not in json.dumps([one for one in found if one["kind"] != "Secret"])


def test_words_that_yaml_reads_as_something_else_stay_words(rendered):
    found = objects_of(rendered, "words of YAML")
    for one in found:
        metadata = one["metadata"]
        named = [metadata["name"], metadata.get("namespace", ""), *metadata["labels"].values()]
        assert [text for text in named if not isinstance(text, str)] == []
    pod = pod_of(rendered, "words of YAML")
    assert pod["serviceAccountName"] == "true"
    assert pod["priorityClassName"] == "0x1"
    assert {"N": "true", "y": "16", "NO": "no"}.items() <= env_of(rendered, "words of YAML").items()
    ports = [one["name"] for one in pod["containers"][0]["ports"]]
    assert ports == ["metrics", "http", "on"]


@pytest.mark.parametrize("name", SETS)
def test_the_journal_is_on_the_volume(rendered, name):
    (container,) = pod_of(rendered, name)["containers"]
    mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    path = env_of(rendered, name)["BUFFER_PATH"]
    assert Path(path).parent == Path(mounts["data"])
    claims = one_of(rendered, name, "StatefulSet")["spec"].get("volumeClaimTemplates")
    assert bool(claims) == SETS[name].get("storage", {}).get("enabled", True)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("config", ["run", "-c", "/etc/openmeter-collector/config.yaml"]),
        ("config before the others", ["run", "-c", "/etc/openmeter-collector/config.yaml"]),
        ("configFile", ["run", "-c", "/config/c.yaml"]),
        ("existing secrets", ["run", "-c", "/etc/openmeter-collector/config.yaml"]),
        ("preset", ["run", "--preset", "http-server"]),
    ],
)
def test_where_the_configuration_comes_from(rendered, name, expected):
    assert pod_of(rendered, name)["containers"][0]["args"] == expected


def test_workers_are_asked_for_and_each_is_scraped(rendered):
    assert pod_of(rendered, "workers")["containers"][0]["args"] == [
        "run", "--preset", "http-server", "--workers", "3"
    ]  # fmt: skip
    names = ["metrics", "metrics-1", "metrics-2"]
    ports = pod_of(rendered, "workers")["containers"][0]["ports"]
    assert {"metrics": 4195, "metrics-1": 4196, "metrics-2": 4197}.items() <= {
        one["name"]: one["containerPort"] for one in ports
    }.items()
    found = objects_of(rendered, "workers")
    headless = next(one for one in found if one.get("spec", {}).get("clusterIP") == "None")
    assert [one["name"] for one in headless["spec"]["ports"]] == names
    policy = one_of(rendered, "workers", "NetworkPolicy")["spec"]["ingress"][0]
    assert [one["port"] for one in policy["ports"]] == names
    for kind, where in (("ServiceMonitor", "endpoints"), ("PodMonitor", "podMetricsEndpoints")):
        monitor = one_of(rendered, "workers", kind)
        assert [one["port"] for one in monitor["spec"][where]] == names
    assert "--workers" not in pod_of(rendered, "preset")["containers"][0]["args"]


def test_a_config_arrives_as_it_was_written(rendered):
    secret = next(
        one
        for one in objects_of(rendered, "config")
        if one["kind"] == "Secret" and "config.yaml" in one["stringData"]
    )
    assert yaml.safe_load(secret["stringData"]["config.yaml"]) == CONFIG


def test_existing_secrets_are_used_instead_of_own_ones(rendered):
    assert "Secret" not in kinds(rendered, "existing secrets")
    pod = pod_of(rendered, "existing secrets")
    assert pod["containers"][0]["envFrom"] == [{"secretRef": {"name": "my-secret"}}]
    assert [one["secret"]["secretName"] for one in pod["volumes"] if "secret" in one] == [
        "my-config"
    ]


def test_nobody_gets_rights_that_the_configuration_does_not_need(rendered):
    for name in ("preset", "config", "scaled out", "no roles", "own service account"):
        assert not [kind for kind in kinds(rendered, name) if "Role" in kind], name
    assert pod_of(rendered, "preset")["automountServiceAccountToken"] is False
    leader = objects_of(rendered, "upstream's kubernetes")
    role = next(one for one in leader if one["kind"] == "Role")
    assert [(rule["resources"], rule["verbs"]) for rule in role["rules"]] == [
        (["leases"], ["create"]),
        (["leases"], ["get", "update"]),
    ]
    # Called as the collector calls them: after K8S_APP_INSTANCE.
    assert role["rules"][1]["resourceNames"] == ["demo", "demo-state"]
    cluster = next(one for one in leader if one["kind"] == "ClusterRole")
    assert cluster["rules"] == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]}
    ]
    assert pod_of(rendered, "upstream's kubernetes")["automountServiceAccountToken"] is True


def test_reading_of_named_namespaces_takes_no_cluster_role(rendered):
    found = objects_of(rendered, "namespaced reading")
    assert sorted(
        (one["kind"], one["metadata"]["namespace"]) for one in found if "Role" in one["kind"]
    ) == [("Role", "a"), ("Role", "b"), ("RoleBinding", "a"), ("RoleBinding", "b")]


def test_several_replicas_are_spread_and_not_taken_down_together(rendered):
    budget = one_of(rendered, "scaled out", "PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] == 1
    (spread,) = pod_of(rendered, "scaled out")["topologySpreadConstraints"]
    assert spread["topologyKey"] == "kubernetes.io/hostname"
    assert "PodDisruptionBudget" not in kinds(rendered, "preset")


def test_an_orderly_end_has_more_time_than_the_collector_takes(rendered):
    for one in presets():
        config = yaml.safe_load(one.path.read_text().replace("${", "$("))
        seconds = int(str(config.get("shutdown_timeout", "20s")).removesuffix("s"))
        grace = pod_of(rendered, f"preset {one.name}")["terminationGracePeriodSeconds"]
        assert grace >= 2 * seconds


def test_monitoring_objects_find_what_they_are_for(rendered):
    found = objects_of(rendered, "monitoring")
    monitor = next(one for one in found if one["kind"] == "ServiceMonitor")
    services = [one for one in found if one["kind"] == "Service"]
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    (service,) = [one for one in services if wanted <= one["metadata"]["labels"].items()]
    assert [port["name"] for port in service["spec"]["ports"]] == ["metrics"]
    rule = next(one for one in found if one["kind"] == "PrometheusRule")
    source = yaml.safe_load((ROOT / "deploy/prometheus/rules.yaml").read_text())
    assert rule["spec"] == source
    boards = next(one for one in found if one["metadata"]["name"].endswith("-dashboards"))
    assert json.loads(boards["data"]["collector.json"])["uid"] == "openmeter-collector"


@pytest.mark.parametrize("fault", WRONG)
def test_what_cannot_work_is_refused_with_the_reason(rendered, fault):
    told = rendered["rendered"][fault]
    assert isinstance(told, str), "it was rendered"
    assert fault in told


def test_the_chart_ships_the_rules_and_dashboards_of_this_project():
    for name, folder in (("rules.yaml", "prometheus"), ("collector.json", "grafana")):
        assert (CHART / "files" / name).read_bytes() == (
            ROOT / "deploy" / folder / name
        ).read_bytes()


def test_every_value_is_in_the_schema_and_has_a_default():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert set(schema["properties"]) == {*values, "global"}
