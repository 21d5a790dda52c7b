"""What a check found, and how all of it adds up to an exit code.

Guarantees: a check that could not look is SKIP with the reason, never OK; one check that fails, whatever way, keeps no
other from being made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tenantplane_cli.kube import FORBIDDEN, KubeError
from tenantplane_cli.output import CliError, one_line

EXIT_FAIL: Final = 1
EXIT_WARN: Final = 2


class Verdict(StrEnum):
    """How it stands."""

    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"
    SKIP = "SKIP"


@dataclass(frozen=True)
class Finding:
    """One line of the report. ``mend``: what to do about it; empty for OK."""

    check: str
    verdict: Verdict
    text: str
    mend: str = ""


def ok(check: str, text: str) -> Finding:
    """It holds."""
    return Finding(check, Verdict.OK, text)


def warn(check: str, text: str, mend: str) -> Finding:
    """It works, and somebody should look at it."""
    return Finding(check, Verdict.WARN, text, mend)


def fail(check: str, text: str, mend: str) -> Finding:
    """It does not hold."""
    return Finding(check, Verdict.FAIL, text, mend)


def skip(check: str, text: str, mend: str = "") -> Finding:
    """Nobody looked."""
    return Finding(check, Verdict.SKIP, text, mend)


def run(check: str, look: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """What a check finds, as it is found; what it may not read is SKIP, what breaks off is FAIL."""
    try:
        yield from look()
    except KubeError as error:
        if error.status == FORBIDDEN:
            yield skip(check, str(error), "run doctor as a cluster admin")
        elif error.status == 0:
            yield fail(check, str(error), "choose the right --context, and see whether the API server is up")
        else:
            yield fail(check, str(error), "install or repair the chart")
    except CliError as error:
        yield fail(check, str(error), "do as it says")
    except Exception as error:  # noqa: BLE001 - an object that nobody expected must not end all other checks
        yield fail(
            check,
            f"could not be checked: {type(error).__name__}: {one_line(str(error))}",
            "look at the object by kubectl; if it is as it should be, this is a bug of doctor: please report it",
        )


def exit_code(findings: Iterable[Finding]) -> int:
    """1 when something fails, 2 when there are only warnings, else 0."""
    verdicts = {finding.verdict for finding in findings}
    if Verdict.FAIL in verdicts:
        return EXIT_FAIL
    return EXIT_WARN if Verdict.WARN in verdicts else 0
