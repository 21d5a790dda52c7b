"""Whether an object must be applied: what we want, beside what is there. Pure, and free of any client.

A manifest needs no request when the live object carries the hash of exactly this manifest *and* still has every field
that we want with our value. The hash alone would miss an edit by hand, the fields alone would miss what we no longer
want. Foreign fields survive where Kubernetes merges, and are drift where they would widen a fence (``_CLOSED``,
``_CLOSED_ANNOTATIONS``).
"""

import hashlib
import re
from decimal import Decimal
from typing import Any, Final

import msgspec

from tenantplane_api.runtime import names
from tenantplane_operator.runtime.resources import Manifest, annotations_of

_QUANTITY: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi|E|Ei)?")
_SCALE: Final = {
    "m": Decimal("0.001"), "": Decimal(1), "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9),
    "T": Decimal(10**12), "P": Decimal(10**15), "E": Decimal(10**18), "Ki": Decimal(2**10), "Mi": Decimal(2**20),
    "Gi": Decimal(2**30), "Ti": Decimal(2**40), "Pi": Decimal(2**50), "Ei": Decimal(2**60),
}  # fmt: skip

_QUANTITY_KINDS: Final = frozenset({"ResourceQuota", "LimitRange"})
"""Kinds whose strings the API server rewrites in canonical form (``1000m`` becomes ``1``)."""

_CLOSED: Final[dict[str, tuple[str, ...]]] = {
    "NetworkPolicy": ("spec",),
    "RoleBinding": ("subjects", "roleRef"),
}
"""Fields in which anything beyond what we want is drift: one more peer or subject opens the fence."""

_CLOSED_ANNOTATIONS: Final[dict[str, tuple[str, ...]]] = {
    "Namespace": (names.ANNOTATION_ALLOW_PREFIX,),
    "ServiceAccount": ("eks.amazonaws.com/",),
}
"""Prefixes of annotations that open something, so that one that we do not want is drift and is taken away."""

_DEFAULTS: Final = {"protocol": "TCP"}
"""What the API server fills in inside closed fields."""


_EXPLICIT: Final[dict[str, dict[str, dict[str, Any]]]] = {"NetworkPolicy": {"spec": {"ingress": [], "egress": []}}}
"""Fields that we own even when we want nothing in them: server-side apply keeps what others put into the rest."""


def explicit(manifest: Manifest) -> Manifest:
    """A copy of the manifest in which emptiness that fences is written out."""
    filled = {
        section: {**defaults, **(manifest.get(section) or {})}
        for section, defaults in _EXPLICIT.get(str(manifest["kind"]), {}).items()
    }
    return {**manifest, **filled}


def manifest_hash(manifest: Manifest) -> str:
    """First 16 hexadecimal digits of the SHA-256 over the manifest's canonical JSON, without the hash itself."""
    return hashlib.sha256(msgspec.json.encode(manifest, order="deterministic")).hexdigest()[:16]


def with_hash(manifest: Manifest) -> Manifest:
    """A copy of the manifest that carries its own hash in the annotation ``applied-hash``."""
    meta = dict(manifest["metadata"])
    meta["annotations"] = {**(meta.get("annotations") or {}), names.ANNOTATION_APPLIED_HASH: manifest_hash(manifest)}
    return {**manifest, "metadata": meta}


def _empty(value: Any) -> bool:
    return value is None or value is False or value in ("", 0) or value == {} or value == []


def _quantity(value: Any) -> Decimal | None:
    match = _QUANTITY.fullmatch(str(value))
    return Decimal(match.group(1)) * _SCALE[match.group(2) or ""] if match else None


def covers(want: Any, have: Any, *, quantities: bool = False, closed: bool = False) -> bool:
    """True when ``have`` (live) contains all of ``want``.

    Maps may have more keys in ``have`` unless ``closed``; lists must agree in length and order; absent and empty are
    the same, because the API server leaves empty values out.
    """
    if _empty(want) and _empty(have):
        return True
    if isinstance(want, dict):
        if not isinstance(have, dict) or (not want and have):
            # An empty selector means everything: a live one with content means less.
            return False
        if closed and any(
            key not in want and not _empty(value) and _DEFAULTS.get(key) != value for key, value in have.items()
        ):
            return False
        return all(covers(value, have.get(key), quantities=quantities, closed=closed) for key, value in want.items())
    if isinstance(want, list | tuple):
        if not isinstance(have, list) or len(want) != len(have):
            return False
        return all(covers(a, b, quantities=quantities, closed=closed) for a, b in zip(want, have, strict=True))
    if want == have and type(want) is type(have):
        return True
    if quantities:
        left, right = _quantity(want), _quantity(have)
        return left is not None and left == right
    return False


def surplus_annotations(desired: Manifest, live: Manifest) -> list[str]:
    """Annotations of the live object that we must take away, because they widen a fence and are not wanted."""
    prefixes = _CLOSED_ANNOTATIONS.get(str(desired["kind"]), ())
    wanted = annotations_of(desired)
    return sorted(key for key in annotations_of(live) if prefixes and key.startswith(prefixes) and key not in wanted)


def differs(desired: Manifest, live: Manifest | None) -> bool:
    """True when ``desired`` (with its hash) must be applied over ``live``."""
    if live is None or live.get("metadata", {}).get("deletionTimestamp"):
        return True
    wanted_hash = annotations_of(desired).get(names.ANNOTATION_APPLIED_HASH)
    if annotations_of(live).get(names.ANNOTATION_APPLIED_HASH) != wanted_hash:
        return True
    if surplus_annotations(desired, live):
        return True
    kind = str(desired["kind"])
    closed = _CLOSED.get(kind, ())
    for name, value in desired.items():
        if name in ("apiVersion", "kind"):
            continue
        if name == "metadata":
            have = live.get("metadata", {})
            wanted = {k: v for k, v in value.items() if k in ("labels", "annotations", "ownerReferences")}
            if not covers(wanted, have):
                return True
        elif not covers(value, live.get(name), quantities=kind in _QUANTITY_KINDS, closed=name in closed):
            return True
    return False
