"""`make bench-operator`: many Tenants at once, from the first create to Ready, beside the floor that no operator beats.

Method: each round has a control plane of its own with an empty etcd and the chart; rounds alternate between the floor
and the operator. The Tenants (no knowledge; people, egress, one key each) are created by a client of its own, eight
at a time; Ready is what a watch of that client sees, counted from the first create request. The floor is the same
creates and then every write that a Tenant needs, once, in the operator's order, with its credential, its number of
workers and of parallel writes, by a bare aiohttp client; what it writes was captured from a Tenant that the operator
made. Client, operator, API server, etcd and controller manager share the machine. Afterwards, in each round of the
operator: a restart over everything (seconds from the start of the process until every object was looked at and nothing
is left to do; resourceVersions compared), and idle seconds.

Figures with three values are [median, lowest, highest] over rounds. "writes" are requests that change something,
events included, reported apart as "events"; the one create of a restart is the dry run that proves the fence.

Environment: TENANTS (200), ROUNDS (3), WORKERS (16), IDLE (20 seconds), OUTLOOK (0; a number of Tenants, such as 2000,
for one more round of the operator alone), PROFILE (a file: the operator of the last round runs under cProfile),
KEEP_LOG (a file for the operator's log of the last round).
"""

import os
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.common import SettingError, machine, print_result, quantile, setting, spread, versions
from bench.operator_bench.floor import Floor, Write
from bench.operator_bench.rounds import READS, OperatorRound, Settings, floor_round, operator_round, take_sample


def settings() -> Settings:
    """From the environment.

    Raises:
        SettingError: something cannot be used.
    """
    profile, log = os.environ.get("PROFILE"), os.environ.get("KEEP_LOG")
    return Settings(
        tenants=setting("TENANTS", 200, least=1),
        workers=setting("WORKERS", 16, least=1),
        rounds=setting("ROUNDS", 3, least=1),
        idle_seconds=setting("IDLE", 20, least=1),
        outlook=setting("OUTLOOK", 0),
        profile=Path(profile).absolute() if profile else None,
        keep_log=Path(log).absolute() if log else None,
    )


def _known(values: list[float | None]) -> list[float] | None:
    found = [value for value in values if value is not None]
    return spread(found) if found else None


def times(rounds: list[dict[str, float]]) -> dict[str, list[float]]:
    """p50, p99 and the last of each round, over rounds."""
    return {
        "p50_s": spread(quantile(list(took.values()), 0.50) for took in rounds),
        "p99_s": spread(quantile(list(took.values()), 0.99) for took in rounds),
        "max_s": spread(max(took.values()) for took in rounds),
    }


def of_operator(rounds: list[OperatorRound]) -> dict[str, Any]:
    """The operator's figures over rounds."""
    tenants = len(rounds[0].ready)
    verbs = sorted({verb for found in rounds for verb in found.requests})
    per = {verb: spread(found.requests.get(verb, 0) / tenants for found in rounds) for verb in verbs}
    writes = [
        sum(count for verb, count in found.requests.items() if verb not in READS | {"lease"}) / tenants
        for found in rounds
    ]
    last = rounds[-1]
    return {
        **times([found.ready for found in rounds]),
        "settled_s": spread(found.settled for found in rounds),
        "requests_per_tenant": per,
        "writes_per_tenant": spread(writes),
        "reconciles_per_tenant": {
            outcome: spread(found.reconciles.get(outcome, 0) / tenants for found in rounds)
            for outcome in sorted({outcome for found in rounds for outcome in found.reconciles})
        },
        "cpu_s": _known([found.cpu for found in rounds]),
        "api_server_cpu_s": _known([found.api_server_cpu for found in rounds]),
        "peak_rss_mib": _known([found.peak_mib for found in rounds]),
        "restart_s": spread(found.restart["seconds"] for found in rounds),
        "restart_changed_objects": max(found.restart["changed_objects"] for found in rounds),
        "restart_changed": last.restart["changed"],
        "restart_requests": last.restart["requests"],
        "restart_cpu_s": _known([found.restart["cpu_s"] for found in rounds]),
        "restart_peak_rss_mib": _known([found.restart["peak_mib"] for found in rounds]),
        "idle_requests": last.idle["requests"],
        "idle_changed_objects": max(found.idle["changed_objects"] for found in rounds),
        "idle_cpu_percent": _known([found.idle["cpu_percent"] for found in rounds]),
    }


def of_floor(rounds: list[tuple[Floor, float | None]], writes: list[Write]) -> dict[str, Any]:
    """The floor's figures over rounds."""
    return {
        **times([found.took for found, _ in rounds]),
        "writes_per_tenant": len(writes),
        "writes": dict(sorted(Counter(write.what for write in writes).items())),
        "repeated": [found.repeated for found, _ in rounds],
        "api_server_cpu_s": _known([cpu for _, cpu in rounds]),
    }


def ratios(floors: list[tuple[Floor, float | None]], operators: list[OperatorRound]) -> dict[str, list[float]]:
    """Operator through floor, round by round."""
    out = {}
    for name, share in (("p50", 0.50), ("p99", 0.99)):
        pairs = zip(floors, operators, strict=True)
        out[name] = spread(
            quantile(list(mine.ready.values()), share) / quantile(list(floor.took.values()), share)
            for (floor, _), mine in pairs
        )
    return out


def main() -> int:
    """Measure, print; 2 for a wrong setting."""
    try:
        wanted = settings()
    except SettingError as error:
        print(f"bench-operator: {error}", file=sys.stderr)
        return 2
    where = machine()
    writes, platform = take_sample(wanted)
    floors: list[tuple[Floor, float | None]] = []
    operators: list[OperatorRound] = []
    for number in range(wanted.rounds):
        floors.append(floor_round(wanted, writes))
        last = number == wanted.rounds - 1
        operators.append(operator_round(wanted if last else replace(wanted, profile=None)))
        floor, mine = (max(took.values()) for took in (floors[-1][0].took, operators[-1].ready))
        if last and wanted.keep_log is not None:
            wanted.keep_log.write_text(operators[-1].log, encoding="utf-8")
        print(f"round {number + 1} of {wanted.rounds}: floor {floor:.1f} s, operator {mine:.1f} s", flush=True)
    result: dict[str, Any] = {
        "tenants": wanted.tenants,
        "workers": wanted.workers,
        "rounds": wanted.rounds,
        "floor": of_floor(floors, writes),
        "operator": of_operator(operators),
        "operator_to_floor": ratios(floors, operators),
    }
    if wanted.outlook:
        result["outlook"] = {"tenants": wanted.outlook, **of_operator([operator_round(wanted, wanted.outlook)])}
    result["machine"] = where
    result["versions"] = versions("kopf", "aiohttp", "msgspec") | platform
    print_result(__doc__, result)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
