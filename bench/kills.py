"""`make bench-kills`: how long the platform takes to be as it must be after a SIGKILL in the middle of a burst.

Method: each kill has a burst of its own: Tenants with edits, revocations, deletions and drift on top; at a seeded point
of its progress the operator, the API server or both (in turn) are killed and come back within a second. Measured is
the time from the return of the victim (an API server that answers, a process that was started) until every tenant of
the burst is exactly as the same fate leaves it undisturbed, no key is there twice, and no document or namespace is
without an owner; the rest of the burst is part of it. Beside it, in the same control plane, a burst that nobody
disturbs, timed from its first create. A control plane serves five bursts, so that they do not slow each other down.

Environment: KILLS (15), BURST (100 Tenants), SEED (20261121).
"""

import random
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.common import SettingError, machine, print_result, setting, spread, versions
from tests.operator.e2e.burst import SMALLEST, VICTIMS, Burst, Kill, Victim, draw, play, reference
from tests.operator.e2e.world import World

from tenantplane_cli.cluster import install_chart, open_cluster

PER_CONTROL_PLANE = 5


def series(numbers: range, *, burst: int, seed: int) -> tuple[float, list[tuple[Kill, float]]]:
    """The kills with these numbers on a control plane of their own.

    Returns:
        Seconds of an undisturbed burst, and per kill the seconds that it took to converge.
    """
    found = []
    with tempfile.TemporaryDirectory(prefix="bench-kills-") as folder, open_cluster(progress=_quiet) as cluster:
        if not cluster.owned:
            raise SettingError(f"the API server of {cluster.choice} is not ours to kill: unset what names it")
        install_chart(cluster, progress=_quiet)
        world = World(cluster, Path(folder))
        world.documents.mkdir()
        try:
            world.start(resyncSeconds=3600)
            expected = reference(world)
            undisturbed = play(Burst(world, "calm", burst), (), expected).converged
            for number in numbers:
                victim: Victim = VICTIMS[number % len(VICTIMS)]
                kills = draw(random.Random(f"{seed}-{number}"), [victim])  # noqa: S311 -- seeded on purpose
                played = play(Burst(world, f"k{number:03d}", burst), kills, expected)
                found.append((kills[0], played.converged))
                print(f"kill {number + 1}: {victim} at {kills[0].at:.0%}: {played.converged:.1f} s", flush=True)
        finally:
            world.close()
    return undisturbed, found


def _quiet(_: str) -> None:
    """Progress of the cluster provider is nobody's figure."""


def main() -> int:
    """Kill, print; 1 when one did not converge, 2 for a wrong setting."""
    try:
        count, burst = setting("KILLS", 15, least=1), setting("BURST", 100, least=SMALLEST)
        seed = setting("SEED", 20261121)
        where = machine()
        calm: list[float] = []
        kills: list[tuple[Kill, float]] = []
        for first in range(0, count, PER_CONTROL_PLANE):
            undisturbed, found = series(range(first, min(first + PER_CONTROL_PLANE, count)), burst=burst, seed=seed)
            calm.append(undisturbed)
            kills += found
    except SettingError as error:
        print(f"bench-kills: {error}", file=sys.stderr)
        return 2
    except AssertionError as error:
        print(f"bench-kills: did not converge: {error}", file=sys.stderr)
        return 1
    figures: dict[str, Any] = {
        "kills": count,
        "burst": burst,
        "seed": seed,
        "undisturbed_s": spread(calm),
        "converged_s": spread(took for _, took in kills),
        "converged_s_by_victim": {
            victim: spread(took for kill, took in kills if kill.victim == victim)
            for victim in VICTIMS
            if any(kill.victim == victim for kill, _ in kills)
        },
        "converged_s_mean": round(statistics.fmean(took for _, took in kills), 2),
        "machine": where,
        "versions": versions("kopf", "aiohttp"),
    }
    print_result(__doc__, figures)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
