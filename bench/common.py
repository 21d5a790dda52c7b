"""What the benchmarks share: settings from the environment, quantiles, what a process used, and the versions.

Guarantees that a wrong setting is refused with its name before anything is started. Reads ``/proc``, so processor and
memory figures are ``None`` elsewhere, and where a process is not ours (a cluster that was there already).
"""

import json
import math
import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tenantplane_api.version import __version__

_TICKS = os.sysconf("SC_CLK_TCK")


class SettingError(ValueError):
    """Raise when a setting of a benchmark is not what it can be; the message names it."""


def setting(name: str, default: int, *, least: int = 0) -> int:
    """A whole number from the environment.

    Raises:
        SettingError: it is no whole number, or less than ``least``.
    """
    text = os.environ.get(name, "")
    if not text:
        return default
    try:
        value = int(text)
    except ValueError:
        raise SettingError(f"{name}={text!r}: give a whole number") from None
    if value < least:
        raise SettingError(f"{name}={value}: give at least {least}")
    return value


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of ``values`` do not exceed (nearest rank; nothing is invented)."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)]


def spread(values: Iterable[float], digits: int = 2) -> list[float]:
    """``[median, lowest, highest]`` over rounds."""
    found = list(values)
    return [round(value, digits) for value in (statistics.median(found), min(found), max(found))]


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process used since its start: processor seconds, and its largest resident size in MiB."""

    cpu: float
    peak_mib: float


def usage(pid: int | None) -> Usage | None:
    """Of a process that runs, ``None`` when that cannot be told."""
    try:
        # The program's name, in parentheses, may hold spaces; user and system time are the 14th and 15th field.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    peak = next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)
    return Usage(cpu=(int(fields[11]) + int(fields[12])) / _TICKS, peak_mib=peak / 1024)


def cpu_between(before: Usage | None, after: Usage | None) -> float | None:
    """Processor seconds between two looks at one process."""
    return None if before is None or after is None else round(after.cpu - before.cpu, 2)


def machine() -> dict[str, Any]:
    """Cores and memory, and how busy others keep them: a load beside the benchmark's own spoils its figures."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(memory, 1),
        "architecture": platform.machine(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def versions(*packages: str) -> dict[str, str]:
    """Versions of tenantplane, Python and installed ``packages``."""
    found = {"tenantplane": __version__, "python": platform.python_version()}
    return found | {name: version(name) for name in packages}


def print_result(method: str | None, figures: Mapping[str, Any]) -> None:
    """Method, one line per figure, and the same once more as one JSON object in the last line."""
    print((method or "").strip() + "\n")
    width = max(len(name) for name in figures) + 2
    for name, value in figures.items():
        if isinstance(value, Mapping):
            print(name)
            for inner, figure in value.items():
                print(f"  {inner:{width}} {figure}")
        else:
            print(f"{name:{width + 2}} {value}")
    print("RESULT " + json.dumps(figures), flush=True)
