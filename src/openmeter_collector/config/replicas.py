"""What several replicas of one collector share: who leads, and how far sources were read."""

from __future__ import annotations

from typing import Literal

from openmeter_collector.spec.component import field, section
from openmeter_collector.values.units import Duration


@section
class KubernetesState:
    """An object in the cluster; needs get, create and update on it."""

    name: str = field(
        default="", doc="Name of the object. Empty: the name of the lease with `-state` after it."
    )
    namespace: str = field(default="", doc="Its namespace. Empty: that of the lease, or our own.")
    kind: Literal["lease", "config_map"] = field(
        default="lease",
        choices={
            "lease": "Annotations of a Lease: no rights beyond those of leader election.",
            "config_map": "Data of a ConfigMap.",
        },
        doc="What kind of object.",
    )
    kubeconfig: str = field(default="", doc="A kubeconfig; empty looks in the usual places.")
    context: str = field(default="", doc="Context of the kubeconfig; empty for its current one.")


@section
class PostgresState:
    """A table, made when it is not there. Needs the extra `postgres`."""

    dsn: str = field(
        secret=True, doc="Connection.", examples=["postgres://user:password@host:5432/db"]
    )
    table: str = field(default="openmeter_collector_state", doc="The table.")


@section
class RedisState:
    """Hashes in Redis. Needs the extra `redis`."""

    url: str = field(secret=True, doc="Connection.", examples=["redis://localhost:6379/0"])
    prefix: str = field(default="openmeter-collector/", doc="What keys begin with.")


@section
class FileState:
    """A file, for replicas that share a file system with locks."""

    path: str = field(doc="The file.")


@section
class State:
    """Where inputs remember how far they have read, when several replicas have to know. One of these.

    Without any, the buffer `sqlite` keeps positions, each replica its own.
    """

    kubernetes: KubernetesState | None = field(default=None, doc="In the cluster.")
    postgres: PostgresState | None = field(default=None, doc="In PostgreSQL.")
    redis: RedisState | None = field(default=None, doc="In Redis.")
    file: FileState | None = field(default=None, doc="In a shared file.")


@section
class PostgresElection:
    """An advisory lock. Needs the extra `postgres`."""

    dsn: str = field(
        secret=True, doc="Connection.", examples=["postgres://user:password@host:5432/db"]
    )
    name: str = field(
        default="openmeter-collector", doc="Replicas with the same name elect one leader."
    )


@section
class FileElection:
    """A lock on a file, for replicas that share a file system with locks."""

    path: str = field(doc="The file.")


@section
class LeaderElection:
    """One of several replicas runs the inputs that fetch; the others stand by.

    Without `postgres` and `file` it is by a Lease in Kubernetes, as told on the command line or by
    environment variables (`--lease-lock-name`, `K8S_NAMESPACE` and so on; see `run --help`).
    """

    enabled: bool = field(default=False, doc="Elect a leader; as `--leader-election` does.")
    postgres: PostgresElection | None = field(default=None, doc="By a lock in PostgreSQL.")
    file: FileElection | None = field(default=None, doc="By a lock on a file.")
    only_on_leader: list[str] = field(
        default_factory=list,
        doc="Further inputs that run on the leader only, by label or by name (`generate`, `sql_select`). "
        "`kubernetes_resources`, `kubernetes_usage`, `prometheus`, `run_ai` and `schedule` always do.",
        examples=[["sql_select"]],
    )
    wait: Duration = field(
        default=Duration("10s"),
        advanced=True,
        doc="With `postgres`: time without an answer after which leadership is given up.",
    )
