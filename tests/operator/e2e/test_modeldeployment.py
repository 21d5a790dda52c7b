"""ModelDeployments on a real API server: credential, allowed hosts, sharing, withdrawal, and who uses them."""

import pytest
from tests.operator.e2e.world import Operator, World, wait

from tenantplane_api.runtime import names

pytestmark = pytest.mark.cluster
MODELS = names.NAMESPACE_MODELS


def external(url: str, *, secret: str = "", sharing: str = "AllTenants") -> dict[str, object]:
    """Spec of an External model."""
    auth = {"auth": {"secretRef": {"name": secret, "key": "token"}}} if secret else {}
    return {
        "engine": {"type": "External"},
        "model": {"servedName": "big"},
        "external": {"baseURL": url, **auth},
        "sharing": {"mode": sharing},
    }


def test_an_external_model_with_its_credential(world: World, operator: Operator) -> None:
    world.create("ModelDeployment", "ext", MODELS, spec=external("https://llm.example.com/v1", secret="upstream"))
    world.await_condition("ModelDeployment", "ext", "Ready", "False", "SecretNotFound", ns=MODELS)
    assert world.model_document(MODELS, "ext") is None
    world.create("Secret", "upstream", MODELS, stringData={"token": "sk-upstream"})
    world.await_condition("ModelDeployment", "ext", "Ready", "True", ns=MODELS, target=3)
    document = world.model_document(MODELS, "ext")
    assert document is not None
    assert document.spec.external is not None
    assert document.spec.external.api_key == "sk-upstream"
    assert document.spec.shared_with == ("*",)
    assert "sk-upstream" not in operator.log.read_text(encoding="utf-8")
    stored = world.get("ModelDeployment", "ext", MODELS)
    assert stored is not None
    assert "sk-upstream" not in str(stored)


def test_a_url_that_the_platform_does_not_allow(world: World, operator: Operator) -> None:
    world.create("ModelDeployment", "ssrf", MODELS, spec=external("http://169.254.169.254/v1"))
    world.await_condition("ModelDeployment", "ssrf", "Stalled", "True", "URLNotAllowed", ns=MODELS)
    assert world.model_document(MODELS, "ssrf") is None
    # A permission that is taken back is withdrawn from the data plane.
    world.patch("ModelDeployment", "ssrf", MODELS, spec={"external": {"baseURL": "https://ok.example.com/v1"}})
    wait(lambda: world.model_document(MODELS, "ssrf") is not None, "published")
    world.patch("ModelDeployment", "ssrf", MODELS, spec={"external": {"baseURL": "https://10.0.0.1/v1"}})
    wait(lambda: world.model_document(MODELS, "ssrf") is None, "withdrawn")


def test_a_tenants_model_is_its_own(world: World, operator: Operator) -> None:
    for name in ("mine", "yours"):
        world.tenant(name)
        world.await_ready(name)
    world.create("ModelDeployment", "own", "tenant-mine", spec=external("https://a.example.com/v1", sharing="Private"))
    world.await_condition("ModelDeployment", "own", "Ready", "True", ns="tenant-mine")
    document = world.model_document("tenant-mine", "own")
    assert document is not None
    assert document.tenant_id == "mine-0001"
    assert document.spec.shared_with == ("mine",)
    alias = [{"alias": "own", "ref": {"name": "own", "namespace": "tenant-mine"}}]
    world.patch("Tenant", "mine", spec={"models": alias})
    world.patch("Tenant", "yours", spec={"models": alias})
    wait(lambda: (d := world.document("mine")) is not None and [m.alias for m in d.spec.models] == ["own"], "alias")
    world.await_condition("Tenant", "yours", "ModelsReady", "False", "ModelNotShared")
    other = world.document("yours")
    assert other is not None
    assert other.spec.models == ()
    # Sharing from a tenant's namespace is refused.
    world.patch("ModelDeployment", "own", "tenant-mine", spec={"sharing": {"mode": "AllTenants"}})
    world.await_condition("ModelDeployment", "own", "Stalled", "True", "SharingNotAllowed", ns="tenant-mine")
    wait(lambda: world.model_document("tenant-mine", "own") is None, "withdrawn")


def test_tenants_hear_of_their_models(world: World, operator: Operator) -> None:
    world.tenant("user", models=[{"alias": "late", "ref": {"name": "late"}}])
    world.await_condition("Tenant", "user", "ModelsReady", "False", "ModelNotFound")
    world.create(
        "ModelDeployment", "late", MODELS, spec={"engine": {"type": "Extractive"}, "sharing": {"mode": "AllTenants"}}
    )
    world.await_ready("user")
    world.delete("ModelDeployment", "late", MODELS)
    wait(lambda: world.model_document(MODELS, "late") is None, "the document is withdrawn")
    world.await_condition("Tenant", "user", "ModelsReady", "False", "ModelNotFound")
    assert world.condition("Tenant", "user")["status"] == "True"


def test_replicas_zero_takes_a_model_out_of_service(world: World, operator: Operator) -> None:
    world.create("ModelDeployment", "off", MODELS, spec={"engine": {"type": "Extractive"}, "replicas": 0})
    wait(lambda: (d := world.model_document(MODELS, "off")) is not None and d.spec.suspended, "suspended")
    status, _ = world.admin.call(
        "PATCH",
        world.path("ModelDeployment", "off", MODELS) + "/scale",
        {"spec": {"replicas": 1}},
        content_type="application/merge-patch+json",
    )
    assert status == 200
    wait(lambda: (d := world.model_document(MODELS, "off")) is not None and not d.spec.suspended, "in service")


def test_a_model_outside_tenants_and_platform_is_refused(world: World, operator: Operator) -> None:
    world.create("Namespace", "stray")
    world.create("ModelDeployment", "stray", "stray", spec={"engine": {"type": "Extractive"}})
    world.await_condition("ModelDeployment", "stray", "Stalled", "True", "NotInATenant", ns="stray")
    assert world.model_document("stray", "stray") is None
