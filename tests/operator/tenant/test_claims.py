"""Claims are found by tenantID and namespace, whatever came and went before."""

from hypothesis import given
from hypothesis import strategies as st

from tenantplane_api.runtime.names import TenantID, TenantName
from tenantplane_operator.tenant.claims import Claims
from tenantplane_operator.tenant.identity import Claim

few = st.sampled_from("abc")
edits = st.lists(st.tuples(few, st.none() | st.tuples(few, few)), max_size=20)


@given(edits, few, few)
def test_the_index_says_what_a_search_would(made: list[tuple[str, tuple[str, str] | None]], one: str, two: str) -> None:
    claims, plain = Claims(), dict[str, Claim]()
    for name, wanted in made:
        claim = None
        if wanted is not None:
            claim = Claim(TenantName(name), TenantID(wanted[0]), uid=name, created="", namespace=wanted[1])
            plain[name] = claim
        else:
            plain.pop(name, None)
        claims.put(name, claim)
    every = [plain[name] for name in sorted(plain)]
    assert claims.wanting(one, two) == [c for c in every if c.tenant_id == one or c.namespace == two]
    assert claims.of_namespace(two) == [c for c in every if c.namespace == two]
    assert sorted(claims, key=lambda c: c.name) == every
    assert len(claims) == len(every)


def test_asking_looks_at_rivals_only() -> None:
    class Counted(Claim):
        looked = 0

        def __getattribute__(self, name: str) -> object:
            Counted.looked += 1
            return super().__getattribute__(name)

    claims = Claims()
    for number in range(1000):
        name = TenantName(f"t{number}")
        claims.put(name, Counted(name, TenantID(f"{name}-0001"), uid="", created="", namespace=f"tenant-{name}"))
    Counted.looked = 0
    assert len(claims.wanting("t5-0001", "tenant-t7")) == 2
    assert len(claims.of_namespace("tenant-t9")) == 1
    assert Counted.looked == 0
