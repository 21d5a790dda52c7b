"""Commands that wait do not give up because the API server was away for a moment.

Guarantees: what may pass (no answer, too many requests, a fault of the server) is waited out until the deadline and
told once; what will not pass (no right, no such object) is raised at once. Does not: repeat anything that writes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from tenantplane_cli.kube import KubeError
from tenantplane_cli.output import note

_T = TypeVar("_T")


class Patience:
    """Asks again and again. ``deadline`` is of ``time.monotonic``."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._told = ""

    @property
    def over(self) -> bool:
        """True when the deadline has passed."""
        return time.monotonic() >= self._deadline

    def ask(self, look: Callable[[], _T]) -> _T | None:
        """What ``look`` gives, ``None`` when it may be had later. Raises what it raises, KubeErrors that pass too when
        the deadline is over.
        """
        try:
            found = look()
        except KubeError as error:
            if not error.passing or self.over:
                raise
            if str(error) != self._told:
                self._told = str(error)
                note(f"{error} (asking again)")
            return None
        self._told = ""
        return found
