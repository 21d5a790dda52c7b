"""The fences around what the platform lives on: Namespaces, runtime documents, overlay fields; the data plane."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from tests.chart.conftest import Plans, World, tenant_namespace, user
from tests.chart.kube import Actor, Answer, Manifest, fence_down, manifest, until
from tests.chart.plans import PLANS, SPACES

from tenantplane_api.runtime import names
from tenantplane_api.runtime.platform import allow_annotations

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("chart")]

NAMESPACES = "tenantplane-namespace-fence"
RUNTIME = "tenantplane-runtime-fence"
OVERLAY = "tenantplane-overlay-fence"
Act = Callable[[Actor], Answer]


def _metadata(namespace: str, part: str, key: str, value: str | None, sub: str = "") -> Act:
    patch = {"metadata": {part: {key: value}}}
    return lambda who: who.merge("Namespace", "", namespace, patch, dry=True, sub=sub)


@pytest.fixture(scope="module")
def nina(world: World) -> Iterator[Actor]:
    """Manages namespaces of the cluster, as a self-service portal would, and does not pass the tenant fence."""
    rules = [
        {"apiGroups": [""], "resources": ["namespaces", "namespaces/status", "namespaces/finalize"], "verbs": ["*"]}
    ]
    role = manifest("ClusterRole", "namespace-manager", rules=rules)
    bound = manifest(
        "ClusterRoleBinding",
        "namespace-manager",
        roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "namespace-manager"},
        subjects=[user("nina")],
    )
    for item in (role, bound):
        assert world.admin.create(item).ok
    actor = Actor(world.cluster.persona("nina"))
    until(lambda: actor.get("Namespace").ok, "nina has her rights")
    yield actor
    for item in (bound, role):
        assert world.admin.delete(item["kind"], "", item["metadata"]["name"]).ok


PSA = "pod-security.kubernetes.io/enforce"
NAMESPACE_REFUSED: dict[str, Act] = {
    "makes a tenant's namespace": lambda who: who.create(tenant_namespace("initech"), dry=True),
    "makes a namespace with consent": lambda who: who.create(
        manifest("Namespace", "offer", annotations={names.ANNOTATION_ADOPTABLE_BY: "acme"}), dry=True
    ),
    "forges consent": _metadata("elsewhere", "annotations", names.ANNOTATION_ADOPTABLE_BY, "acme"),
    "forges consent by the status": _metadata(
        "elsewhere", "annotations", names.ANNOTATION_ADOPTABLE_BY, "acme", "status"
    ),
    "labels a namespace as a tenant's": _metadata("elsewhere", "labels", names.LABEL_TENANT, "acme"),
    "takes a tenant's label away": _metadata("tenant-acme", "labels", names.LABEL_TENANT, None),
    "changes a tenant's label": _metadata("tenant-acme", "labels", names.LABEL_TENANT, "globex"),
    "changes a tenantID": _metadata("tenant-acme", "annotations", names.ANNOTATION_TENANT_ID, "x"),
    "lowers a tenant's Pod Security": _metadata("tenant-acme", "labels", PSA, "privileged"),
    "deletes a tenant's namespace": lambda who: who.delete("Namespace", "", "tenant-acme", dry=True),
    "widens what a plan allows": _metadata("tenant-acme", "annotations", "tenantplane.dev/allow-registries", "*"),
    "adds what a plan does not allow": _metadata(
        "tenant-acme", "annotations", "tenantplane.dev/allow-tolerations", "*"
    ),
    "takes away what a plan allows": _metadata("tenant-acme", "annotations", "tenantplane.dev/allow-registries", None),
    "takes the finalizer of a tenant's namespace": lambda who: who.put(
        "Namespace",
        "",
        "tenant-acme",
        {**who.get("Namespace", "", "tenant-acme").body, "spec": {"finalizers": []}},
        dry=True,
        sub="finalize",
    ),
}
NAMESPACE_ALLOWED: dict[str, Act] = {
    "makes a namespace": lambda who: who.create(manifest("Namespace", "plain"), dry=True),
    "labels a namespace": _metadata("elsewhere", "labels", "team", "x"),
    "sets a namespace's Pod Security": _metadata("elsewhere", "labels", PSA, "baseline"),
    "labels a tenant's namespace with labels of others": _metadata("tenant-acme", "labels", "team", "x"),
    "deletes a namespace": lambda who: who.delete("Namespace", "", "elsewhere", dry=True),
    "finalizes a namespace": lambda who: who.put(
        "Namespace", "", "elsewhere", dict(who.get("Namespace", "", "elsewhere").body), dry=True, sub="finalize"
    ),
}


@pytest.mark.parametrize("name", NAMESPACE_REFUSED)
def test_the_namespace_fence_refuses(world: World, nina: Actor, name: str) -> None:
    answer = NAMESPACE_REFUSED[name](nina)
    assert answer.denied_by(NAMESPACES), answer.body


@pytest.mark.parametrize("name", NAMESPACE_ALLOWED)
def test_the_namespace_fence_lets_through(world: World, nina: Actor, name: str) -> None:
    answer = NAMESPACE_ALLOWED[name](nina)
    assert answer.ok, answer.body


@pytest.mark.parametrize("name", NAMESPACE_REFUSED)
def test_a_cluster_admin_passes_the_namespace_fence(world: World, name: str) -> None:
    answer = NAMESPACE_REFUSED[name](world.admin)
    assert answer.ok, answer.body


def test_who_updates_namespaces_labels_them_without_a_right_to_patch(world: World) -> None:
    rules = [{"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get", "list", "update"]}]
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "updater"}
    items = (
        manifest("ClusterRole", "updater", rules=rules),
        manifest("ClusterRoleBinding", "updater", roleRef=reference, subjects=[user("uma")]),
    )
    for item in items:
        assert world.admin.create(item).ok
    uma = Actor(world.cluster.persona("uma"))
    until(lambda: uma.get("Namespace").ok, "uma has her rights")

    def write(**labels: str) -> Answer:
        there = dict(uma.get("Namespace", "", "tenant-acme").body)
        metadata = {**there["metadata"], "labels": {**there["metadata"]["labels"], **labels}}
        return uma.put("Namespace", "", "tenant-acme", {**there, "metadata": metadata}, dry=True)

    assert (answer := write(team="x")).ok, answer.body
    assert write(**{PSA: "privileged"}).denied_by(NAMESPACES)
    for item in reversed(items):
        assert world.admin.delete(item["kind"], "", "updater").ok


def test_all_rights_in_a_namespace_are_none_over_what_the_plan_allows(plans: Plans) -> None:
    """A RoleBinding to `cluster-admin` gives its people their own Namespace too: by RBAC, not past the fence."""
    for plan, space in SPACES.items():
        for who in (plans.user, plans.robots[plan]):
            assert _metadata(space, "labels", "team", "x")(who).denied_by(NAMESPACES)
            assert _metadata(space, "annotations", "example.com/a", "x")(who).denied_by(NAMESPACES)
            for key in allow_annotations(PLANS["any"]):
                assert _metadata(space, "annotations", key, "forged")(who).denied_by(NAMESPACES)
            assert _metadata(space, "labels", PSA, None)(who).denied_by(NAMESPACES)
            assert _metadata(space, "labels", names.LABEL_TENANT, None)(who).denied_by(NAMESPACES)
            assert who.delete("Namespace", "", space, dry=True).denied_by(NAMESPACES)


def test_without_the_namespace_fence_all_of_it_happens(world: World, nina: Actor) -> None:
    probe = NAMESPACE_REFUSED["forges consent"]
    with fence_down(world.admin, NAMESPACES, lambda: probe(nina)):
        until(lambda: probe(nina).ok, "the fence is down")
        refused = {name: answer.body for name, act in NAMESPACE_REFUSED.items() if not (answer := act(nina)).ok}
        assert not refused


def test_a_platform_admin_consents_in_a_new_namespace_but_changes_no_other(world: World) -> None:
    offer = manifest("Namespace", "offer", annotations={names.ANNOTATION_ADOPTABLE_BY: "acme"})
    assert world.platform.create(offer, dry=True).ok
    assert _metadata("elsewhere", "annotations", names.ANNOTATION_ADOPTABLE_BY, "acme")(world.platform).denied_by_rbac


def _document(name: str = "t.acme", kind: str = names.SECRET_TYPE_RUNTIME) -> Manifest:
    return manifest("Secret", name, names.NAMESPACE_RUNTIME, type=kind, stringData={names.DOCUMENT_KEY: "{}"})


def _change(who: Actor) -> Answer:
    return who.merge("Secret", names.NAMESPACE_RUNTIME, "t.acme", {"stringData": {"x": "y"}}, dry=True)


def _remove(who: Actor) -> Answer:
    return who.delete("Secret", names.NAMESPACE_RUNTIME, "t.acme", dry=True)


@pytest.fixture(scope="module")
def document(world: World) -> Iterator[None]:
    """A runtime document, written as the operator writes it."""
    assert world.operator.apply(_document()).ok
    yield
    assert world.operator.delete("Secret", names.NAMESPACE_RUNTIME, "t.acme").ok


@pytest.mark.usefixtures("document")
def test_only_the_operator_writes_runtime_documents(world: World) -> None:
    assert world.operator.create(_document("t.globex"), dry=True).ok
    assert _change(world.operator).ok
    assert _remove(world.operator).ok
    # A cluster admin has every right that RBAC knows.
    assert world.admin.create(_document("t.globex"), dry=True).denied_by(RUNTIME)
    assert _change(world.admin).denied_by(RUNTIME)
    assert _remove(world.admin).ok  # system:masters may clean up
    root = _almighty(world)
    assert _remove(root).denied_by(RUNTIME)
    for person in (world.platform, world.alice, world.dataplane, world.eve):
        assert person.create(_document("t.globex"), dry=True).denied_by_rbac
    assert world.operator.create(_document("t.globex", "Opaque"), dry=True).denied_by(RUNTIME)


@pytest.mark.usefixtures("document")
def test_a_runtime_document_may_be_written_back_as_it_was(world: World) -> None:
    """So storage is migrated and encryption keys are rotated; whatever changes is refused, whoever asks."""
    for who in (world.admin, _almighty(world)):
        there = dict(who.get("Secret", names.NAMESPACE_RUNTIME, "t.acme").body)

        def write(who: Actor = who, there: Manifest = there, **change: object) -> Answer:
            return who.put("Secret", names.NAMESPACE_RUNTIME, "t.acme", {**there, **change}, dry=True)

        assert (answer := write()).ok, answer.body
        assert write(data={names.DOCUMENT_KEY: "e30K"}).denied_by(RUNTIME)
        assert write(immutable=True).denied_by(RUNTIME)
        for key, value in (
            ("labels", {"a": "b"}),
            ("annotations", {"a": "b"}),
            ("finalizers", ["example.com/x"]),
            ("ownerReferences", [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "x"}]),
        ):
            assert write(metadata={**there["metadata"], key: value}).denied_by(RUNTIME), key


def _almighty(world: World) -> Actor:
    """All rights by RBAC, but not of system:masters."""
    item = manifest(
        "ClusterRoleBinding",
        "root",
        roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        subjects=[user("root")],
    )
    assert world.admin.apply(item).ok
    actor = Actor(world.cluster.persona("root"))
    until(lambda: actor.get("Secret").ok, "root has all rights")
    return actor


@pytest.mark.usefixtures("document")
def test_without_the_runtime_fence_whoever_has_the_right_writes_documents(world: World) -> None:
    root = _almighty(world)
    acts: dict[str, Act] = {
        "creates": lambda who: who.create(_document("t.globex"), dry=True),
        "changes": _change,
        "removes": _remove,
    }
    assert all(act(root).denied_by(RUNTIME) for act in acts.values())
    with fence_down(world.admin, RUNTIME, lambda: _change(root)):
        until(lambda: _change(root).ok, "the fence is down")
        assert {name: act(root).status for name, act in acts.items() if not act(root).ok} == {}


def test_the_data_plane_reads_runtime_documents_and_nothing_else(world: World) -> None:
    assert world.dataplane.get("Secret", names.NAMESPACE_RUNTIME).ok
    for namespace in ("", "tenant-acme", names.NAMESPACE_MODELS, names.NAMESPACE_SYSTEM, "kube-system"):
        assert world.dataplane.get("Secret", namespace).denied_by_rbac
    for kind in ("Tenant", "APIKey", "ModelDeployment", "Namespace", "ConfigMap", "Pod"):
        assert world.dataplane.get(kind).denied_by_rbac
    assert _change(world.dataplane).denied_by_rbac
    assert _remove(world.dataplane).denied_by_rbac


def _model(namespace: str, mode: str | None) -> Manifest:
    spec: Manifest = {"engine": {"type": "Extractive"}}
    return manifest("ModelDeployment", "probe", namespace, spec=spec | ({"sharing": {"mode": mode}} if mode else {}))


def test_sharing_a_model_is_the_platform_teams(world: World) -> None:
    def shares(who: Actor) -> Answer:
        return who.create(_model("tenant-acme", "AllTenants"), dry=True)

    assert shares(world.alice).denied_by(OVERLAY)
    assert world.alice.create(_model("tenant-acme", "Private"), dry=True).ok
    assert world.alice.create(_model("tenant-acme", None), dry=True).ok
    assert shares(world.platform).ok
    assert world.platform.create(_model(names.NAMESPACE_MODELS, "AllTenants"), dry=True).ok
    assert world.alice.create(_model(names.NAMESPACE_MODELS, "AllTenants"), dry=True).denied_by_rbac
    with fence_down(world.admin, OVERLAY, lambda: shares(world.alice)):
        until(lambda: shares(world.alice).ok, "the fence is down")


def test_a_tenants_model_that_the_platform_shares_stays_its_admins_to_scale(world: World) -> None:
    assert world.platform.create(_model("tenant-acme", "AllTenants")).ok
    scaled = {"spec": {"replicas": 0}}
    assert world.alice.merge("ModelDeployment", "tenant-acme", "probe", scaled, dry=True).ok
    wider = {"spec": {"sharing": {"mode": "Selected", "tenants": ["globex"]}}}
    assert world.alice.merge("ModelDeployment", "tenant-acme", "probe", wider, dry=True).denied_by(OVERLAY)
    assert world.alice.merge("ModelDeployment", "tenant-acme", "probe", scaled, dry=True, sub="scale").ok
    assert world.bob.merge("ModelDeployment", "tenant-acme", "probe", scaled, dry=True, sub="scale").denied_by_rbac
    assert world.alice.delete("ModelDeployment", "tenant-acme", "probe").ok


def test_the_credential_of_a_tenants_model_is_of_its_own_namespace(world: World) -> None:
    """The reference has no namespace: one that is given is dropped, so that nobody names another's Secret."""
    reference = {"name": "upstream", "key": "apiKey", "namespace": names.NAMESPACE_MODELS}
    external = {"baseURL": "https://llm.example/v1", "auth": {"secretRef": reference}}
    item = manifest("ModelDeployment", "x", "tenant-acme", spec={"engine": {"type": "External"}, "external": external})
    answer = world.alice.create(item, dry=True)
    assert answer.ok, answer.body
    assert answer.body["spec"]["external"]["auth"]["secretRef"] == {"name": "upstream", "key": "apiKey"}


def test_a_tenants_namespace_can_be_deleted_with_everything_managed_in_it(world: World) -> None:
    """The fences must not hold back Kubernetes' own collectors."""
    assert world.operator.apply(tenant_namespace("shortlived")).ok
    ours = {names.LABEL_TENANT: "shortlived", names.LABEL_MANAGED_BY: names.MANAGED_BY}
    for kind in ("ConfigMap", "Secret"):
        assert world.admin.create(manifest(kind, "ours", "tenant-shortlived", labels=ours)).ok
    assert world.operator.delete("Namespace", "", "tenant-shortlived").ok
    until(lambda: world.admin.get("Namespace", "", "tenant-shortlived").status == 404, "the namespace is gone")
