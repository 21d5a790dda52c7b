"""The API client against a real API server, and against a real HTTP server for what a healthy one does not do."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from tenantplane_cli.cluster import Cluster
from tenantplane_operator.runtime.api import KubeApi
from tenantplane_operator.runtime.apply import Applier
from tenantplane_operator.runtime.cache import Cache
from tenantplane_operator.runtime.errors import AlreadyExists, Conflict, Gone, Invalid, NotFound, Unavailable
from tenantplane_operator.runtime.kubeconfig import Connection, FileToken, KubeconfigError, connect, from_kubeconfig
from tenantplane_operator.runtime.resources import Manifest, ObjectKey

NS = "client-test"


def config_map(name: str, ns: str = NS, **data: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": ns}, "data": data}


@pytest.fixture
async def api(cluster: Cluster) -> AsyncIterator[KubeApi]:
    """A client with all rights, and a namespace."""
    async with KubeApi(from_kubeconfig(cluster.kubeconfig)) as client:
        with contextlib.suppress(AlreadyExists):
            await client.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NS}})
        yield client


@pytest.mark.cluster
async def test_apply_creates_changes_and_keeps_foreign_fields(api: KubeApi) -> None:
    made = await api.apply(config_map("apply", a="1", b="2"), manager="m")
    again = await api.apply(config_map("apply", a="1", b="2"), manager="m")
    assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    await api.merge_patch(
        ObjectKey("ConfigMap", NS, "apply"), {"data": {"foreign": "x", "a": "edited"}}, manager="other"
    )
    healed = await api.apply(config_map("apply", a="1"), manager="m")
    assert healed["data"] == {"a": "1", "foreign": "x"}
    assert api.requests["apply"] == 3


@pytest.mark.cluster
async def test_preconditions_keep_the_dead_dead(api: KubeApi) -> None:
    key = ObjectKey("ConfigMap", NS, "dead")
    made = await api.create(config_map("dead", a="1"))
    with pytest.raises(AlreadyExists):
        await api.create(config_map("dead", a="1"))
    with pytest.raises(Conflict):
        await api.delete(key, uid="00000000-0000-0000-0000-000000000000")
    assert await api.delete(key, uid=made["metadata"]["uid"])
    assert not await api.delete(key)
    late = config_map("dead", a="2")
    late["metadata"]["uid"] = made["metadata"]["uid"]
    with pytest.raises(Conflict):
        await api.apply(late, manager="m")
    assert await api.find(key) is None
    with pytest.raises(NotFound):
        await api.get(key)


@pytest.mark.cluster
async def test_a_stale_resource_version_is_a_conflict(api: KubeApi) -> None:
    made = await api.apply(config_map("stale", a="1"), manager="m")
    await api.apply(config_map("stale", a="2"), manager="m")
    late = config_map("stale", a="3")
    late["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"]
    with pytest.raises(Conflict):
        await api.apply(late, manager="m")


@pytest.mark.cluster
async def test_lists_are_paged_and_selected(api: KubeApi) -> None:
    for number in range(5):
        item = config_map(f"page-{number}")
        item["metadata"]["labels"] = {"page": "yes"}
        await api.apply(item, manager="m")
    pages = [page async for page in api.pages("ConfigMap", namespace=NS, label_selector="page=yes", limit=2)]
    assert [len(page) for page in pages] == [2, 2, 1]
    assert {item["kind"] for page in pages for item in page} == {"ConfigMap"}


@pytest.mark.cluster
async def test_metadata_only_brings_no_content(api: KubeApi) -> None:
    secret = {**config_map("hidden"), "kind": "Secret", "stringData": {"token": "s3cret"}}
    secret.pop("data")
    await api.create(secret)
    found = await api.list_all("Secret", namespace=NS, metadata_only=True)
    assert [item["metadata"]["name"] for item in found] == ["hidden"]
    assert "data" not in found[0]
    await api.delete(ObjectKey("Secret", NS, "hidden"))


@pytest.mark.cluster
async def test_refusals_name_the_field_and_dry_runs_write_nothing(api: KubeApi) -> None:
    quota: Manifest = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "q", "namespace": NS},
        "spec": {"hard": {"pods": "-1"}},
    }
    with pytest.raises(Invalid) as refused:
        await api.create(quota)
    assert any("pods" in cause.field for cause in refused.value.causes)
    await api.create(config_map("dry"), dry_run=True)
    assert await api.find(ObjectKey("ConfigMap", NS, "dry")) is None


@pytest.mark.cluster
async def test_annotations_that_open_something_are_taken_away_from_whoever_set_them(api: KubeApi) -> None:
    key = ObjectKey("ServiceAccount", NS, "tenant")
    wanted: Manifest = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "tenant", "namespace": NS, "annotations": {"eks.amazonaws.com/audience": "ours"}},
    }
    cache = Cache(index_label="tenantplane.dev/tenant")
    applier = Applier(api, cache, manager="m")
    assert (await applier.apply([wanted])).written == [key]
    edit = {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/other", "somebody.example/note": "stays"}
    cache.put(await api.merge_patch(key, {"metadata": {"annotations": edit}}, manager="other"))
    assert (await applier.apply([wanted])).written == [key]
    found = (await api.get(key))["metadata"]["annotations"]
    assert "eks.amazonaws.com/role-arn" not in found
    assert found["somebody.example/note"] == "stays"
    assert found["eks.amazonaws.com/audience"] == "ours"
    assert (await applier.apply([wanted])).unchanged == [key]


@pytest.mark.cluster
async def test_what_is_served_is_asked_without_rights(cluster: Cluster) -> None:
    stranger = cluster.persona("api-stranger")
    async with KubeApi(connect(stranger.kubeconfig)) as client:
        assert await client.serves("apps/v1", frozenset({"deployments"}))
        assert not await client.serves("apps/v1", frozenset({"deployments", "nonsense"}))
        assert not await client.serves("nonsense.example.com/v1", frozenset({"things"}))


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def served(handler: Handler) -> tuple[web.AppRunner, Connection]:
    """A server on loopback that answers everything with ``handler``."""
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, Connection(f"http://127.0.0.1:{runner.addresses[0][1]}", None, lambda: "token")


async def test_no_answer_in_time_is_unavailable() -> None:
    over = asyncio.Event()

    async def handler(_: web.Request) -> web.Response:
        await over.wait()
        return web.Response()

    runner, connection = await served(handler)
    async with KubeApi(connection, deadline=0.2) as client:
        with pytest.raises(Unavailable):
            await client.get(ObjectKey("ConfigMap", "a", "b"))
        assert client.failures == {"get": 1}
    over.set()
    await runner.cleanup()


async def test_redirects_are_not_followed_and_junk_is_an_error() -> None:
    seen: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization", ""))
        if request.path.endswith("/redirect"):
            raise web.HTTPFound("/api/v1/namespaces/a/configmaps/elsewhere")
        return web.Response(text="<html>")

    runner, connection = await served(handler)
    async with KubeApi(connection) as client:
        for name in ("redirect", "junk"):
            with pytest.raises(Unavailable):
                await client.get(ObjectKey("ConfigMap", "a", name))
    assert seen == ["Bearer token"] * 2
    await runner.cleanup()


async def test_a_list_whose_snapshot_is_lost_starts_again() -> None:
    calls: list[str | None] = []

    async def handler(request: web.Request) -> web.Response:
        token = request.query.get("continue")
        calls.append(token)
        if token and calls.count(token) == 1:
            return web.json_response({"kind": "Status", "message": "expired"}, status=410)
        more = {} if token else {"continue": "t"}
        return web.json_response({"items": [{"metadata": {"name": str(len(calls))}}], "metadata": more})

    runner, connection = await served(handler)
    async with KubeApi(connection) as client:
        found = await client.list_all("ConfigMap")
        assert [item["metadata"]["name"] for item in found] == ["3", "4"]
    await runner.cleanup()


async def test_a_list_that_cannot_be_finished_is_an_error_and_not_a_short_list() -> None:
    async def handler(request: web.Request) -> web.Response:
        if request.query.get("continue"):
            return web.json_response({"kind": "Status", "message": "expired"}, status=410)
        return web.json_response({"items": [{"metadata": {"name": "x"}}], "metadata": {"continue": "t"}})

    runner, connection = await served(handler)
    async with KubeApi(connection) as client:
        with pytest.raises(Gone):
            await client.list_all("ConfigMap")
    await runner.cleanup()


def test_a_token_file_is_read_again(tmp_path: Path) -> None:
    now = 0.0
    path = tmp_path / "token"
    path.write_text("one\n")
    token = FileToken(path, clock=lambda: now)
    assert token() == "one"
    path.write_text("two\n")
    assert token() == "one"
    now = 61.0
    assert token() == "two"
    path.unlink()
    now = 200.0
    assert token() == "two"
    with pytest.raises(KubeconfigError):
        FileToken(tmp_path / "none")()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[", "cannot be read"),
        ("a: b", "contexts has no entry"),
        (
            (
                "current-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\n"
                "clusters: [{name: k, cluster: {server: 'https://x'}}]\nusers: [{name: u, user: {exec: {command: x}}}]"
            ),
            "exec is not supported",
        ),
        (
            "current-context: c\ncontexts: [{name: c, context: {cluster: k}}]\nclusters: [{name: k, cluster: {}}]",
            "server is missing",
        ),
        (
            (
                "current-context: c\ncontexts: [{name: c, context: {cluster: k}}]\n"
                "clusters: [{name: k, cluster: {server: 'https://x', certificate-authority-data: '%%%'}}]"
            ),
            "is not base64",
        ),
    ],
)
def test_a_kubeconfig_that_cannot_be_used_says_why(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    with pytest.raises(KubeconfigError, match=expected):
        from_kubeconfig(path)
