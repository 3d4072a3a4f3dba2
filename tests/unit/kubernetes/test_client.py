"""The client of the Kubernetes API, against the fake one."""

import asyncio

import orjson
import pytest

from kit.pods import many, pod
from openmeter_collector.engine.http_client import open_http_client
from openmeter_collector.errors import Overloaded, Paused, Retryable
from openmeter_collector.kubernetes.client import Conflict, Gone, KubernetesClient, NotFound
from openmeter_collector.kubernetes.credentials import Fixed, token
from openmeter_collector.kubernetes.kubeconfig import Access
from openmeter_collector.testing.kubernetes import FakeKubernetes

PODS = "/api/v1/pods"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"


@pytest.fixture
async def server():
    async with FakeKubernetes().serve() as made:
        yield made


@pytest.fixture
async def client(server):
    async with open_http_client() as http:
        yield KubernetesClient(http, Access(server.url, Fixed()), lambda: 0.0)


def names(pages):
    return [orjson.loads(one)["metadata"]["name"] for page in pages for one in page.items]


async def test_a_list_is_read_page_by_page(server, client):
    server.put_many("pods", many(25))
    pages = [page async for page in client.pages(PODS, size=10)]
    assert [len(page.items) for page in pages] == [10, 10, 5]
    assert [page.last for page in pages] == [False, False, True]
    assert names(pages) == [f"pod-{at:06d}" for at in range(25)]
    assert sum("limit=10" in path for _, path in server.asked) == 3


async def test_a_list_whose_state_was_forgotten_goes_on_with_what_is_now(server, client):
    server.put_many("pods", many(25))
    pages = []
    async for page in client.pages(PODS, size=10):
        pages.append(page)
        server.compact()
    assert names(pages) == [f"pod-{at:06d}" for at in range(25)], "none missing, none twice"


async def test_a_list_that_is_to_be_watched_is_begun_anew_instead(server, client):
    server.put_many("pods", many(25))
    pages = client.pages(PODS, size=10, restart=True)
    await anext(pages)
    server.compact()
    with pytest.raises(Gone):
        await anext(pages)


async def test_selectors_are_the_servers_business(server, client):
    server.put("pods", pod("a", labels={"app": "x"}))
    server.put("pods", pod("b", labels={"app": "y"}))
    server.put("pods", pod("c", labels={"app": "x"}, phase="Failed"))
    asked = {"labelSelector": "app in (x)", "fieldSelector": "status.phase!=Failed"}
    assert names([page async for page in client.pages(PODS, asked)]) == ["a"]


async def test_a_watch_tells_what_happened_after_a_version(server, client):
    server.put("pods", pod("a"))
    (page,) = [page async for page in client.pages(PODS)]
    server.put("pods", pod("b"))
    server.remove("pods", "a", "default")
    server.bookmark()
    seen = []
    async for event in client.watch(PODS, {}, page.version):
        seen.append((event.kind, orjson.loads(event.object).get("metadata", {}).get("name")))
        if len(seen) == 4:
            break
    assert seen == [("OPENED", None), ("ADDED", "b"), ("DELETED", "a"), ("BOOKMARK", None)]


async def test_a_watch_from_a_version_that_is_gone_says_so(server, client):
    server.put("pods", pod("a"))
    server.compact()
    with pytest.raises(Gone, match="410"):
        async for _ in client.watch(PODS, {}, "3"):
            pass


async def test_a_watch_that_breaks_off_says_so(server, client):
    server.put("pods", pod("a"))

    async def watch():
        async for _ in client.watch(PODS, {}, "1000"):
            pass

    task = asyncio.ensure_future(watch())
    while not server.asked:
        await asyncio.sleep(0.01)
    server.down = True
    server.put("pods", pod("b"))
    with pytest.raises(Retryable):
        await task


async def test_a_write_on_top_of_an_older_state_is_refused(server, client):
    made = await client.create(LEASES, {"metadata": {"name": "lock"}, "spec": {"holder": "a"}})
    with pytest.raises(Conflict):
        await client.create(LEASES, {"metadata": {"name": "lock"}})
    newer = await client.replace(f"{LEASES}/lock", made | {"spec": {"holder": "b"}})
    with pytest.raises(Conflict, match="has been modified"):
        await client.replace(f"{LEASES}/lock", made)
    assert (await client.get(f"{LEASES}/lock"))["spec"] == newer["spec"] == {"holder": "b"}
    with pytest.raises(NotFound):
        await client.get(f"{LEASES}/other")


async def test_what_may_not_be_done_is_told_in_the_servers_words(server, client):
    server.allowed = {("list", "pods", "default")}
    with pytest.raises(
        Paused, match=r'cannot list resource "pods".*at the cluster scope; grant it'
    ):
        async for _ in client.pages(PODS):
            pass
    assert [page async for page in client.pages("/api/v1/namespaces/default/pods")]


async def test_trouble_of_the_server_is_waited_out(server, client):
    server.failing = [503]
    with pytest.raises(Overloaded):
        await client.get(f"{LEASES}/x")
    server.down = True
    with pytest.raises(Retryable):
        await client.get(f"{LEASES}/x")


async def test_a_wrong_token_is_told_without_showing_it(server):
    server.tokens = {"good"}
    async with open_http_client() as http:
        client = KubernetesClient(http, Access(server.url, token("s3cret")), lambda: 0.0)
        with pytest.raises(Paused, match="check the credentials") as refused:
            await client.get(f"{LEASES}/x")
        assert "s3cret" not in str(refused.value)
