"""Roles that a tenant may bring: whose they are is read from the allow-list alone, and never guessed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.operator.tenant.build import ACME, by_name, namespace, parsed, platform

from tenantplane_api.crd.conditions import ConditionType, Reason
from tenantplane_api.runtime import names
from tenantplane_api.runtime.platform import PlatformError
from tenantplane_operator.tenant.awsrole import role_allowed
from tenantplane_operator.tenant.compile import Compiled, Observed, compile_tenant

ROOT = "arn:aws:iam::123456789012:role/"


def allowed(arn: str, *entries: str, tenant_id: str = "acme-0001") -> bool:
    return role_allowed(arn, entries, tenant_id=tenant_id)


@pytest.mark.parametrize(
    ("entry", "arn", "good"),
    [
        (ROOT + "shared", ROOT + "shared", True),
        (ROOT + "shared", ROOT + "shared2", False),
        (ROOT + "{tenantID}", ROOT + "acme-0001", True),
        (ROOT + "{tenantID}", ROOT + "beta-0001", False),
        (ROOT + "t/{tenantID}/*", ROOT + "t/acme-0001/chat", True),
        (ROOT + "t/{tenantID}/*", ROOT + "t/acme-0001/deep/er", True),
        (ROOT + "t/{tenantID}/*", ROOT + "t/beta-0001/chat", False),
        (ROOT + "t/{tenantID}/*", ROOT + "t/acme-00012/chat", False),
        (ROOT + "t/*", ROOT + "t/anything", True),
        (ROOT + "t/*", ROOT + "u/anything", False),
        (ROOT + "*", "arn:aws:iam::999999999999:role/x", False),
        (ROOT + "*", "arn:aws-cn:iam::123456789012:role/x", False),
        (ROOT + "*", "arn:aws:iam::123456789012:user/x", False),
        (ROOT + "*", ROOT + "x\n", False),
        (ROOT + "*", ROOT + "a b", False),
        # Would read another tenantID into the same text; the Platform file refuses these, and so does this.
        (ROOT + "{tenantID}*", ROOT + "acme-0001", False),
        (ROOT + "{tenantID}-*", ROOT + "acme-0001-prod", False),
        (ROOT + "{tenantID}-prod", ROOT + "acme-0001-prod", False),
        (ROOT + "{tenantID}{tenantID}", ROOT + "acme-0001acme-0001", False),
        (ROOT + "{tenantID}.prod", ROOT + "acme-0001.prod", True),
        (ROOT + "{tenantID}_*", ROOT + "acme-0001_prod", True),
        # Not patterns of ours at all.
        ("*", ROOT + "x", False),
        ("arn:aws:iam::*", ROOT + "x", False),
        ("arn:aws:iam::*:role/*", ROOT + "x", False),
        (ROOT + "a.me", ROOT + "acme", False),
    ],
)
def test_an_entry_admits(entry: str, arn: str, good: bool) -> None:
    assert allowed(arn, entry) is good


def test_nothing_is_admitted_by_an_empty_list() -> None:
    assert not allowed(ROOT + "x")
    assert allowed(ROOT + "x", ROOT + "y", ROOT + "x")


ids = st.from_regex(r"[a-z0-9][a-z0-9-]{6,34}[a-z0-9]", fullmatch=True)
glue = st.text(alphabet="ab-0_/.@", max_size=3)


@given(ids, st.text(alphabet="ab-0", max_size=3), glue, glue, st.text(alphabet="ab-0/_", max_size=4))
def test_a_role_is_never_two_tenants(one: str, more: str, before: str, after: str, rest: str) -> None:
    """Two tenantIDs of which one begins with the other: an entry with ``{tenantID}`` never admits a role for both."""
    other = f"{one}{more}a"
    entry = f"{ROOT}{before}{{tenantID}}{after}*"
    arn = f"{ROOT}{before}{other}{after}{rest}"
    if len(other) <= 36 and "//" not in arn:
        assert not (allowed(arn, entry, tenant_id=one) and allowed(arn, entry, tenant_id=other))


def test_the_platform_file_refuses_an_entry_that_would_lend_roles() -> None:
    lending = (
        "{tenantID}*",
        "t-{tenantID}-*",
        "{tenantID}/{tenantID}-x*",
        "{tenantID}-x",
        "t/{tenantID}9",
        "t-{tenantID}",
    )
    for entry in (ROOT + each for each in lending):
        with pytest.raises(PlatformError, match=r"operator.aws.allowedRoleARNs\[1\]"):
            platform(operator={"aws": {"allowedRoleARNs": [ROOT + "{tenantID}", entry]}})
    platform(operator={"aws": {"allowedRoleARNs": [ROOT + "{tenantID}/*", ROOT + "t-*", ROOT + "{tenantID}.x"]}})
    # Where all begin alike, none of them shifts.
    alike = [ROOT + "t-{tenantID}", ROOT + "t-{tenantID}/*", ROOT + "u/t-{tenantID}", ROOT + "U-{tenantID}"]
    platform(operator={"aws": {"allowedRoleARNs": alike}})


def compiled(role: str | None, *entries: str, name: str = "acme") -> Compiled:
    spec = {} if role is None else {"identity": {"aws": {"roleARN": role}}}
    place = platform(operator={"aws": {"allowedRoleARNs": list(entries)}})
    return compile_tenant(parsed(name, spec=spec), place, Observed(namespace=namespace(owner=ACME)))


def annotations(out: Compiled) -> list[str | None]:
    found = by_name([child.manifest for child in out.children])
    return [
        found[f"ServiceAccount/{name}"]["metadata"]["annotations"].get(names.ANNOTATION_ROLE_ARN)
        for name in ("tenant", "default")
    ]


def test_an_admitted_role_is_on_the_tenants_account_only() -> None:
    role = ROOT + "acme-0001/chat"
    out = compiled(role, ROOT + "{tenantID}/*")
    assert annotations(out) == [role, None]
    assert out.concerns[ConditionType.IDENTITY_READY].reason == Reason.APPLIED
    accounts = {c.manifest["metadata"]["name"]: c for c in out.children if c.manifest["kind"] == "ServiceAccount"}
    assert accounts["tenant"].concern is ConditionType.IDENTITY_READY
    assert accounts["tenant"].manifest["automountServiceAccountToken"] is False
    assert accounts["default"].concern is ConditionType.ACCESS_READY


def test_a_role_that_is_taken_out_of_the_spec_leaves_the_account() -> None:
    out = compiled(None, ROOT + "{tenantID}/*")
    assert annotations(out) == [None, None]
    assert out.concerns[ConditionType.IDENTITY_READY].reason == Reason.NOT_CONFIGURED


def test_another_tenants_role_is_refused_by_name_and_stays_off() -> None:
    role = ROOT + "beta-0001/chat"
    out = compiled(role, ROOT + "{tenantID}/*")
    concern = out.concerns[ConditionType.IDENTITY_READY]
    assert annotations(out) == [None, None]
    assert (concern.reason, concern.permanent) == (Reason.ROLE_NOT_ALLOWED, True)
    assert concern.message.startswith(f"spec.identity.aws.roleARN: {role} ")
    assert out.document is not None, "the rest of the tenant goes on"
