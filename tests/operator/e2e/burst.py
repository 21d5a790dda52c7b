"""A burst of Tenants with edits on top, and SIGKILLs at seeded moments of it: engine of kill tests and ``bench-kills``.

Moments are points of the burst's progress and not of the clock, so that they fall into its middle on any machine.
People (a thread) repeat a request that got no answer, as ``kubectl apply`` in a loop does; they wait for nothing of the
operator's but what their step needs.
"""

import dataclasses
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Literal

from tests.operator.e2e.comparator import Snapshot, differences
from tests.operator.e2e.world import API_VERSIONS, Object, Operator, TimeoutFailure, World, wait
from urllib3.exceptions import HTTPError

from tenantplane_api.runtime import names
from tenantplane_cli.rest import Rest

Victim = Literal["operator", "API server", "both"]
VICTIMS: Final[tuple[Victim, ...]] = ("operator", "API server", "both")

_KNOWLEDGE = "indexed"
SHAPES: Final = (
    "plain", "edited", "suspended", "more-keys", "revoked", "deleted", "drifted", "erased", "taken-back", "large",
)  # fmt: skip
"""What happens to a Tenant; ``_KNOWLEDGE`` is that of the first one of a burst."""
SMALLEST: Final = len(SHAPES) + 1
"""Tenants of a burst that has every shape."""
_PATIENCE = 120.0
_MERGE = "application/merge-patch+json"


@dataclasses.dataclass(frozen=True, slots=True)
class Kill:
    """At which share of the burst's progress who is killed, and after how many seconds it comes back."""

    at: float
    victim: Victim
    down: float


def draw(rng: random.Random, victims: Sequence[Victim]) -> list[Kill]:
    """Kills in the order of their moments; the start and the end of a burst are among them."""
    moments = sorted(rng.random() ** 1.5 * 0.97 for _ in victims)
    return [Kill(moment, victim, rng.random()) for moment, victim in zip(moments, victims, strict=True)]


class Burst:
    """``count`` Tenants called ``<prefix>-000`` and so on; their fate follows from their number."""

    def __init__(self, world: World, prefix: str, count: int) -> None:
        self.world = world
        self.names = [f"{prefix}-{number:03d}" for number in range(count)]
        self.shapes = {
            name: _KNOWLEDGE if number == 0 else SHAPES[number % len(SHAPES)] for number, name in enumerate(self.names)
        }
        self._steps_done = 0
        self._seen_ready: set[str] = set()
        self._rest = Rest(world.cluster.kubeconfig)
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._people, name=f"people-{prefix}", daemon=True)

    def of_shape(self, *shapes: str) -> list[str]:
        """Tenants with one of these fates."""
        return [name for name in self.names if self.shapes[name] in shapes]

    # People.

    def start(self) -> None:
        """Let people begin."""
        self._thread.start()

    def finish(self) -> None:
        """Wait until people have done all they wanted.

        Raises:
            AssertionError: they could not.
        """
        self._thread.join(10 * _PATIENCE)
        self._rest.close()
        if self._failure is not None:
            raise AssertionError(f"people could not go on: {self._failure}") from self._failure
        assert not self._thread.is_alive(), "people still wait"

    def _people(self) -> None:
        try:
            for name in self.names:
                self._create(name)
            for name, step in self._edits():
                step(name)
                self._steps_done += 1
        except BaseException as error:  # noqa: BLE001 -- told by `finish`
            self._failure = error

    def _edits(self) -> Iterator[tuple[str, Callable[[str], None]]]:
        steps = {
            "edited": lambda name: self._patch(name, limits={"requests": {"perMinute": 11}}),
            "suspended": lambda name: self._patch(name, suspend=True),
            "more-keys": lambda name: self._patch(name, auth={"apiKeys": [{"name": "default"}, {"name": "app"}]}),
            "revoked": self._revoke,
            "deleted": self._delete,
            "drifted": self._drift,
            "erased": self._delete,
            "taken-back": self._take_back,
            "large": lambda name: self._patch(name, plan="large"),
        }
        for name in self.names:
            if self.shapes[name] in steps:
                yield name, steps[self.shapes[name]]

    def _ask(
        self, method: str, path: str, body: object = None, *, kind: str = "application/json"
    ) -> tuple[int, Object]:
        """One request, repeated while nobody answers or the API server is not itself yet."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                status, answer = self._rest.call(method, path, body, content_type=kind)
            except (OSError, HTTPError) as error:
                status, answer = 0, {"message": repr(error)}
            if status not in (0, 403, 429) and status < 500:
                return status, answer
            if time.monotonic() > deadline:
                raise TimeoutFailure(f"{method} {path}: {status} {answer.get('message')}")
            time.sleep(0.2)

    def _get(self, kind: str, name: str, ns: str = "") -> Object | None:
        status, answer = self._ask("GET", self.world.path(kind, name, ns))
        assert status in (200, 404), answer
        return answer if status == 200 else None

    def _until(self, holds: Callable[[], bool], what: str) -> None:
        wait(holds, what, target=_PATIENCE / 10)

    def _create(self, name: str) -> None:
        spec: dict[str, Any] = {"tenantID": f"{name}-0001", "access": {"admins": [{"kind": "User", "name": "ada"}]}}
        if self.shapes[name] == "erased":
            spec["deletionPolicy"] = "Delete"
        if self.shapes[name] == _KNOWLEDGE:
            folder = self.world.documents / f"{name}-0001" / "docs"
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(20):
                text = f"# Part {number}\n\nShelf {number} holds bottles of size {number * 7}.\n" * 20
                (folder / f"part-{number}.md").write_text(text, encoding="utf-8")
            spec["knowledge"] = [{"name": "handbook", "sources": [{"name": "f", "directory": {"path": "docs"}}]}]
        body = {"apiVersion": API_VERSIONS["Tenant"], "kind": "Tenant", "metadata": {"name": name}, "spec": spec}
        status, answer = self._ask("POST", self.world.path("Tenant"), body)
        # A create that got no answer may have been heard.
        assert status in (201, 409), answer

    def _patch(self, name: str, **spec: Any) -> None:
        status, answer = self._ask("PATCH", self.world.path("Tenant", name), {"spec": spec}, kind=_MERGE)
        assert status == 200, answer

    def _ready(self, name: str) -> bool:
        return is_ready(self._get("Tenant", name) or {})

    def _delete(self, name: str) -> None:
        # A namespace is kept as it was left: to compare, it must have been finished.
        self._until(lambda: self._ready(name), f"{name} is Ready before it is deleted")
        status, answer = self._ask("DELETE", self.world.path("Tenant", name))
        assert status in (200, 202, 404), answer
        self._seen_ready.add(name)

    def _take_back(self, name: str) -> None:
        self._delete(name)
        self._until(lambda: self._get("Tenant", name) is None, f"{name} is gone")
        self._create(name)

    def _revoke(self, name: str) -> None:
        ns = names.default_namespace(name)
        self._until(lambda: self._get("APIKey", "default", ns) is not None, f"the key of {name}")
        path = self.world.path("APIKey", "default", ns)
        status, answer = self._ask("PATCH", path, {"spec": {"revoked": True}}, kind=_MERGE)
        assert status == 200, answer

    def _drift(self, name: str) -> None:
        ns = names.default_namespace(name)
        self._until(lambda: self._ready(name), f"{name} is Ready before somebody tampers with it")
        path = self.world.path("NetworkPolicy", names.CHILD_NETWORK_POLICY_DENY, ns)
        status, answer = self._ask("DELETE", path)
        assert status in (200, 404), answer

    # What is seen of it.

    def tenants(self) -> dict[str, Object] | None:
        """The Tenants of the burst that there are; ``None`` while nobody answers."""
        try:
            status, answer = self.world.admin.call("GET", self.world.path("Tenant"))
        except (OSError, HTTPError):
            return None
        if status != 200:
            return None
        mine = self.shapes.keys()
        return {item["metadata"]["name"]: item for item in answer["items"] if item["metadata"]["name"] in mine}

    def progress(self) -> float:
        """From 0 to 1: Tenants that were Ready once, and steps of people that are done.

        Raises:
            AssertionError: people cannot go on.
        """
        if self._failure is not None:
            self.finish()
        there = self.tenants() or {}
        self._seen_ready.update(name for name, item in there.items() if is_ready(item))
        steps = len(self.names) - len(self.of_shape("plain", _KNOWLEDGE))
        return (len(self._seen_ready) + self._steps_done) / (len(self.names) + steps)

    def not_at_its_end(self) -> list[str]:
        """Tenants that are not where they are to end up, and why; of what they have, the comparison tells."""
        there = self.tenants()
        if there is None:
            return ["nobody answers"]
        gone = set(self.of_shape("deleted", "erased"))
        found = [f"{name} ({self.shapes[name]}) is still there" for name in sorted(gone & there.keys())]
        for name in sorted(self.shapes.keys() - gone):
            if not is_ready(there.get(name, {})):
                said = [
                    f"{c['type']}={c['status']} {c['reason']}: {c.get('message')}"
                    for c in ((there.get(name) or {}).get("status") or {}).get("conditions") or []
                    if c["status"] != "True"
                ]
                found.append(f"{name} ({self.shapes[name]}): {said if name in there else 'is not there'}")
        return found

    def at_its_end(self) -> bool:
        """True when people are done and every Tenant is where it is to end up."""
        return not self._thread.is_alive() and not self.not_at_its_end()


def is_ready(tenant: Object) -> bool:
    """Ready, and not only what it said before it changed."""
    meta, status = tenant.get("metadata", {}), tenant.get("status") or {}
    ready: Object = next((c for c in status.get("conditions") or [] if c["type"] == "Ready"), {})
    seen = status.get("observedGeneration") == meta.get("generation")
    return bool(seen and ready.get("status") == "True" and not meta.get("deletionTimestamp"))


def strike(world: World, kill: Kill) -> Operator:
    """SIGKILL, and the same again after a while; the operator that runs now. It need not be ready."""
    current = world.operators[-1]
    if kill.victim in ("operator", "both"):
        current.kill()
    if kill.victim in ("API server", "both"):
        world.cluster.kill_apiserver()
    time.sleep(kill.down)
    if kill.victim in ("operator", "both"):
        # With `both` it starts while there is no API server, as after the loss of a machine.
        current = world.spawn_as(current.argv)
    if kill.victim in ("API server", "both"):
        world.cluster.start_apiserver()
    return current


@dataclasses.dataclass(frozen=True, slots=True)
class Played:
    """Seconds from the return of the last victim (without kills: from the first create) until all was as it must be."""

    converged: float
    kills: tuple[Kill, ...]


def play(
    burst: Burst, kills: Sequence[Kill], expected: dict[str, dict[str, Any]] | None, *, target: float = 12.0
) -> Played:
    """One burst with these kills.

    Args:
        burst: not yet started.
        kills: in order of their moments.
        expected: state by shape; ``None`` takes whatever comes, for the undisturbed run.
        target: seconds that it should take to converge; ten times as long is waited.

    Raises:
        AssertionError: it did not converge; says what differs.
    """
    world = burst.world
    since = time.monotonic()
    burst.start()
    for kill in kills:
        wait(lambda kill=kill: burst.progress() >= kill.at, f"{kill.at:.0%} of the burst", target=target)  # type: ignore[misc]
        strike(world, kill)
        since = time.monotonic()
    try:
        wait(burst.at_its_end, "every Tenant is at its end", target=target)
    except TimeoutFailure as error:
        left = "\n".join(burst.not_at_its_end()[:5]) or "people still wait"
        raise TimeoutFailure(f"{error}\n{left}\nafter {kills}{_tails(world)}") from None
    burst.finish()
    deadline = time.monotonic() + 10 * target
    while True:
        wait(world.operators[-1].idle, "the operator has nothing to do", target=target)
        looked = time.monotonic()
        wrong = judge(burst, expected or {})
        if not wrong:
            return Played(looked - since, tuple(kills))
        if time.monotonic() > deadline:
            raise AssertionError("\n".join(wrong[:5]) + f"\nafter {kills}{_tails(world)}")
        time.sleep(0.5)


def _tails(world: World) -> str:
    return "".join(f"\n== {started.log.name}\n{started.tail()}" for started in world.operators[-2:])


def judge(burst: Burst, expected: dict[str, dict[str, Any]]) -> list[str]:
    """What is not as it must be; empty when all is well."""
    snapshot = Snapshot(burst.world)
    wrong = snapshot.problems()
    for name in burst.of_shape("erased"):
        if snapshot.get("Namespace", names.default_namespace(name)) is not None:
            wrong.append(f"{name}: its namespace is still there")
    for name in burst.names:
        want = expected.get(burst.shapes[name])
        if want is not None and (found := differences(want, snapshot.state(name))):
            wrong.append(f"{name} ({burst.shapes[name]}): {found}")
    return wrong


def reference(world: World, prefix: str = "ref") -> dict[str, dict[str, Any]]:
    """State by shape after a burst that nobody disturbed."""
    burst = Burst(world, prefix, SMALLEST)
    play(burst, (), None)
    snapshot = Snapshot(world)
    return {burst.shapes[name]: snapshot.state(name) for name in burst.names}
