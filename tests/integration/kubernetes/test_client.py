"""What the client relies on, of the API server in memory and of a real one: both have to keep these rules."""

import asyncio
import contextlib

import orjson
import pytest

from kit.sides import InMemory, Real, plain_pod
from openmeter_collector.engine.http_client import open_http_client
from openmeter_collector.errors import Paused
from openmeter_collector.kubernetes import client as module
from openmeter_collector.kubernetes.client import Conflict, Gone, KubernetesClient, NotFound
from openmeter_collector.kubernetes.kubeconfig import find_access


@pytest.fixture(params=["in memory", "real"])
async def side(request):
    if request.param == "real":
        yield Real(request.getfixturevalue("cluster"))
    else:
        async with InMemory.open() as made:
            yield made


@pytest.fixture
async def client(side, tmp_path):
    file = tmp_path / "kubeconfig"
    file.write_text(side.kubeconfig())
    access = find_access(str(file))
    async with open_http_client(tls=access.tls) as http:
        yield KubernetesClient(http, access, lambda: 0.0)


@pytest.fixture
def pods(side):
    return f"/api/v1/namespaces/{side.namespace}/pods"


@pytest.fixture
def leases(side):
    return f"/apis/coordination.k8s.io/v1/namespaces/{side.namespace}/leases"


def names(pages):
    return [orjson.loads(one)["metadata"]["name"] for page in pages for one in page.items]


async def all_of(client, path, params=None, size=500):
    return [page async for page in client.pages(path, params, size=size)]


async def test_pages_are_of_one_moment(side, client, pods):
    for at in range(7):
        side.put(plain_pod(f"p{at}"))
    found = []
    async for page in client.pages(pods, size=3):
        found.append(page)
        side.remove(f"p{6 - len(found) * 2}")  # of what is still to come
        side.put(plain_pod(f"new-{len(found)}"))
    assert names(found) == [f"p{at}" for at in range(7)]
    assert len({page.version for page in found}) == 1
    assert [page.last for page in found] == [False, False, True]


async def test_after_a_compaction_each_object_that_stays_still_comes_once(side, client, pods):
    for at in range(7):
        side.put(plain_pod(f"p{at}"))
    found = []
    async for page in client.pages(pods, size=3):
        found.append(page)
        side.put(plain_pod(f"q{len(found)}"))
        side.forget()
    assert [one for one in names(found) if one[0] != "q"] == [f"p{at}" for at in range(7)]


async def test_a_list_that_is_to_be_watched_is_begun_anew_after_a_compaction(side, client, pods):
    for at in range(7):
        side.put(plain_pod(f"p{at}"))
    pages = client.pages(pods, size=3, restart=True)
    await anext(pages)
    side.put(plain_pod("q"))
    side.forget()
    with pytest.raises(Gone):
        await anext(pages)


async def test_selectors_of_labels_and_fields(side, client, pods):
    side.put(plain_pod("a", {"app": "x"}))
    side.put(plain_pod("b", {"app": "y"}))
    side.put(plain_pod("c", {"app": "x"}), phase="Failed")
    side.put(plain_pod("d", {"app": "x"}), phase="Succeeded")
    side.put(plain_pod("e", {}, nodeName="n1"), phase="Pending")
    ended = "status.phase!=Succeeded,status.phase!=Failed"
    for params, expected in (
        ({"labelSelector": "app=x", "fieldSelector": ended}, "a"),
        ({"labelSelector": "app in (x, y)"}, "abcd"),
        ({"labelSelector": "app notin (x)"}, "be"),
        ({"labelSelector": "app!=x"}, "be"),
        ({"labelSelector": "!app"}, "e"),
        ({"labelSelector": "app,app != y"}, "acd"),
        ({"fieldSelector": ended}, "abe"),
        ({"fieldSelector": "spec.nodeName=n1"}, "e"),
        ({"fieldSelector": "spec.nodeName==n1,metadata.name!=e"}, ""),
        ({"fieldSelector": f"metadata.namespace={side.namespace}"}, "abcde"),
    ):
        assert "".join(names(await all_of(client, pods, params))) == expected, params


@pytest.mark.parametrize(
    "params",
    [{"fieldSelector": "spec.image=x"}, {"labelSelector": "a in x"}, {"fieldSelector": "x"}],
)
async def test_a_selector_that_it_does_not_know_is_refused_for_good(side, client, pods, params):
    with pytest.raises(Paused, match=r"answered 400: .*; check the config"):
        await all_of(client, pods, params)


async def test_a_watch_goes_on_from_a_list(side, client, pods):
    side.put(plain_pod("before", {"app": "x"}))
    (page,) = await all_of(client, pods, {"labelSelector": "app=x"})
    seen = []
    watch = client.watch(pods, {"labelSelector": "app=x"}, page.version)
    async with contextlib.aclosing(watch), asyncio.timeout(30):
        async for event in watch:
            if event.kind == "OPENED":
                side.put(plain_pod("other", {"app": "y"}))
                side.put(plain_pod("new", {"app": "x"}), phase="Pending")
                side.put(plain_pod("new", {"app": "x"}), phase="Running")
                side.put(plain_pod("new", {"app": "y"}), phase="Running")
                side.remove("before")
            made = orjson.loads(event.object)
            name = made.get("metadata", {}).get("name")
            if "deletionTimestamp" in made.get("metadata", {}) and event.kind == "MODIFIED":
                continue  # a real pod is told to end before it is gone
            seen.append((event.kind, name, made.get("status", {}).get("phase")))
            if (event.kind, name) == ("DELETED", "before"):
                break
    assert seen == [
        ("OPENED", None, None),
        ("ADDED", "new", "Pending"),
        ("MODIFIED", "new", "Running"),
        ("DELETED", "new", "Running"),
        ("DELETED", "before", "Running"),
    ]


async def test_a_watch_ends_in_order_and_tells_how_far_it_got(side, client, pods, monkeypatch):
    monkeypatch.setattr(module, "_WATCH_SECONDS", 5)
    (page,) = await all_of(client, pods)
    seen = []
    async for event in client.watch(pods, {"labelSelector": "app=x"}, page.version):
        if event.kind == "OPENED":
            made = side.put(plain_pod("other", {"app": "y"}))
            side.bookmark()
        seen.append(event)
    assert {event.kind for event in seen} == {"OPENED", "BOOKMARK"}
    reached = orjson.loads(seen[-1].object)["metadata"]["resourceVersion"]
    assert int(reached) >= int(made["metadata"]["resourceVersion"])


async def test_a_watch_from_a_version_that_is_not_kept_says_so(side, client, pods):
    side.put(plain_pod("a"))
    side.forget()
    with pytest.raises(Gone):
        assert {event.kind async for event in client.watch(pods, {}, "1")} == {"OPENED"}


def lease(name, **spec):
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name},
        "spec": {"holderIdentity": "me", "leaseDurationSeconds": 10, **spec},
    }


async def test_only_one_can_make_an_object(side, client, leases):
    made = await client.create(leases, lease("l"))
    assert made["metadata"]["namespace"] == side.namespace
    with pytest.raises(Conflict, match=r'leases.coordination.k8s.io "l" already exists'):
        await client.create(leases, lease("l"))


async def test_a_write_on_top_of_an_older_version_is_refused(side, client, leases):
    first = await client.create(leases, lease("l"))
    second = await client.replace(f"{leases}/l", first | {"spec": {"holderIdentity": "you"}})
    assert second["metadata"]["resourceVersion"] != first["metadata"]["resourceVersion"]
    assert second["metadata"]["uid"] == first["metadata"]["uid"]
    with pytest.raises(Conflict, match="the object has been modified"):
        await client.replace(f"{leases}/l", first)
    assert (await client.get(f"{leases}/l"))["spec"] == {"holderIdentity": "you"}


async def test_a_write_without_a_version_is_refused(side, client, leases):
    await client.create(leases, lease("l"))
    with pytest.raises(Paused, match=r"resourceVersion.*must be specified for an update"):
        await client.replace(f"{leases}/l", lease("l"))


async def test_an_object_that_is_not_there(side, client, leases):
    with pytest.raises(NotFound, match=r'leases.coordination.k8s.io "l" not found'):
        await client.get(f"{leases}/l")
    made = await client.create(leases, lease("k"))
    gone = made | {"metadata": made["metadata"] | {"name": "l"}}
    with pytest.raises((Conflict, NotFound)):
        await client.replace(f"{leases}/l", gone)


async def test_times_of_leases_have_microseconds(side, client, leases):
    given = "2026-01-02T03:04:05.123400Z"
    made = await client.create(leases, lease("l", renewTime=given, acquireTime=given))
    assert made["spec"]["renewTime"] == given
    assert (await client.get(f"{leases}/l"))["spec"]["acquireTime"] == given


@pytest.mark.parametrize(
    "spec",
    [
        {"leaseDurationSeconds": 0},
        {"leaseTransitions": -1},
        {"leaseDurationSeconds": 1.5},
        {"renewTime": "yesterday"},
        {"renewTime": "2026-01-02T03:04:05Z"},
        {"acquireTime": "2026-01-02T03:04:05.1234Z"},
        {"leaseTransitions": 2**31},
    ],
)
async def test_a_lease_that_makes_no_sense_is_refused(side, client, leases, spec):
    with pytest.raises(Paused, match=r"answered 4(00|22)"):
        await client.create(leases, lease("l", **spec))
