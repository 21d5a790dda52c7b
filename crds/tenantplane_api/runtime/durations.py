"""Durations as Kubernetes writes them: Go strings such as ``90s``, ``1h30m``, ``720h``.

Hours, minutes and seconds in whole numbers and in this order; Go's fractions and smaller units have no use in anything
that a person declares here.
"""

import re
from datetime import timedelta
from typing import Final

from tenantplane_api.runtime.limits import DURATION_PATTERN

_PARTS: Final = re.compile(DURATION_PATTERN.rstrip("$") + r"\Z")


def parse_duration(text: str) -> timedelta:
    """The duration that ``text`` says.

    Raises:
        ValueError: it is not a duration, or is empty.
    """
    match = _PARTS.match(text)
    if match is None or not text:
        raise ValueError(f"{text!r} is not a duration such as 90s, 1h30m or 720h")
    hours, minutes, seconds = (int(part[:-1]) if part else 0 for part in match.groups())
    return timedelta(hours=hours, minutes=minutes, seconds=seconds)
