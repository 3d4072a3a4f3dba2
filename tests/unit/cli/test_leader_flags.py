"""What the command line and the environment say about leader election."""

import pytest
from click.testing import CliRunner

from openmeter_collector.cli.leader import LeaderArguments
from openmeter_collector.cli.main import cli
from openmeter_collector.engine.replicas import LeaderFlags
from openmeter_collector.errors import ConfigError

CHART = {
    "LEADER_ELECTION": "true",
    "K8S_NAMESPACE": "billing",
    "K8S_APP_INSTANCE": "release",
    "K8S_POD_NAME": "release-0",
    "LEASE_DURATION": "10s",
    "LEASE_RENEW_DEADLINE": "5s",
    "LEASE_RETRY_PERIOD": "2s",
}


def test_the_variables_that_a_chart_sets_are_enough():
    assert LeaderArguments({}).flags(CHART) == LeaderFlags(
        True, "billing", "release", "release-0", 10.0, 5.0, 2.0
    )


def test_nothing_said_is_no_election_with_the_usual_times():
    assert LeaderArguments({}).flags({}) == LeaderFlags()
    assert LeaderArguments({}).flags({"LEADER_ELECTION": "", "LEASE_DURATION": ""}) == LeaderFlags()
    assert LeaderFlags().who(), "the host's name"


def test_the_first_variable_and_the_option_win():
    env = {"K8S_NAMESPACE": "first", "LEASE_LOCK_NAMESPACE": "second", "LEASE_LOCK_NAME": "own"}
    flags = LeaderArguments({"duration": "1m", "enabled": True}).flags(
        env | {"LEASE_DURATION": "9s"}
    )
    assert (flags.namespace, flags.name, flags.duration) == ("first", "own", 60.0)
    assert flags.enabled
    assert LeaderArguments({"namespace": "said"}).flags(env).namespace == "said"


@pytest.mark.parametrize(
    ("env", "text"),
    [
        ({"LEASE_DURATION": "10"}, "LEASE_DURATION: '10' is not a duration"),
        ({"LEADER_ELECTION": "maybe"}, "neither true nor false"),
    ],
)
def test_what_is_no_value_is_named(env, text):
    with pytest.raises(ConfigError, match=text):
        LeaderArguments({}).flags(env)


def test_run_and_streams_have_all_options():
    for command in ("run", "streams"):
        shown = CliRunner().invoke(cli, [command, "--help"], terminal_width=200).output
        for name in (
            "leader-election", "lease-lock-namespace", "lease-lock-name", "lease-lock-identity",
            "lease-duration", "lease-renew-deadline", "lease-retry-period",
            "lease-health-check-timeout",
        ):  # fmt: skip
            assert f"--{name}" in shown
