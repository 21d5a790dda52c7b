"""Kubernetes quantities as numbers: only as much as counting objects in a quota needs.

Source: ``k8s.io/apimachinery/pkg/api/resource``, "Quantity". Unsigned, at most three decimals, no exponents: what the
contract's patterns let through.
"""

import re
from decimal import ROUND_CEILING, Decimal
from typing import Final

_QUANTITY: Final = re.compile(r"([0-9]+(?:\.[0-9]{1,3})?)(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi|E|Ei)?")
_SCALE: Final[dict[str, Decimal]] = {
    "m": Decimal("0.001"),
    "": Decimal(1),
    **{unit: Decimal(1000) ** power for power, unit in enumerate(["k", "M", "G", "T", "P", "E"], start=1)},
    **{unit: Decimal(1024) ** power for power, unit in enumerate(["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"], start=1)},
}


def parse_quantity(text: str) -> Decimal:
    """The number that a quantity stands for.

    Raises:
        ValueError: it is no unsigned quantity.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError("not an unsigned Kubernetes quantity")
    return Decimal(match.group(1)) * _SCALE[match.group(2) or ""]


def raise_count(text: str, by: int) -> str:
    """A count of objects with room for ``by`` more, as plain digits; a fraction counts as the whole object."""
    return str(int(parse_quantity(text).to_integral_value(rounding=ROUND_CEILING)) + by)
