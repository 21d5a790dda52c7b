"""The Platform file is read again when it changes: good ones take effect, bad ones change nothing."""

import logging
from pathlib import Path

import pytest

from tenantplane_api.runtime.platform import Platform, load_platform, parse_platform
from tenantplane_operator.reload import AT_START, PlatformReload, needs_restart


class World:
    """A file, and what was told of it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "platform.yaml"
        self.told: list[Platform] = []
        self.write("operator: {plans: {default: {}, large: {limits: {concurrency: 2}}}}")
        self.reload = PlatformReload(self.path, load_platform(self.path), self.told.append)

    def failed(self) -> bool:
        """As the metric would say."""
        return bool(self.reload.failed)

    def write(self, text: str) -> None:
        self.path.write_text(text, encoding="utf-8")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_a_good_file_takes_effect_once(world: World) -> None:
    await world.reload.look()
    assert world.told == []
    world.write("operator: {plans: {default: {}, large: {limits: {concurrency: 3}}}}")
    await world.reload.look()
    await world.reload.look()
    assert [told.operator.plans["large"].limits.concurrency for told in world.told] == [3]
    # The same content in other words is no change.
    world.write("operator:\n  plans:\n    default: {}\n    large: {limits: {concurrency: 3}}\n# a comment\n")
    await world.reload.look()
    assert len(world.told) == 1


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("operator: {workers: many}", "operator.workers"),
        ("operator: {plans: {default: {}}, defaultPlan: gone}", "operator.defaultPlan"),
        ("operator: [", "platform.yaml"),
        ("\n", "is empty"),
        ("", "platform.yaml"),
    ],
)
async def test_a_bad_file_changes_nothing_and_says_why_once(
    world: World, caplog: pytest.LogCaptureFixture, text: str, named: str
) -> None:
    if text == "":
        world.path.unlink()
    else:
        world.write(text)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            await world.reload.look()
    assert world.told == []
    assert world.failed()
    assert len(caplog.records) == 1
    assert named in caplog.text
    # Back to what it was: usable again, and still nothing to tell.
    world.write("operator: {plans: {default: {}, large: {limits: {concurrency: 2}}}}")
    await world.reload.look()
    assert not world.failed()
    assert world.told == []


async def test_a_volume_that_swaps_its_links_is_noticed(tmp_path: Path) -> None:
    for name, concurrency in (("one", 1), ("two", 2)):
        (tmp_path / name).mkdir()
        text = f"operator: {{plans: {{default: {{limits: {{concurrency: {concurrency}}}}}}}}}"
        (tmp_path / name / "platform.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "..data").symlink_to("one")
    path = tmp_path / "platform.yaml"
    path.symlink_to("..data/platform.yaml")
    told: list[Platform] = []
    reload = PlatformReload(path, load_platform(path), told.append)
    await reload.look()
    (tmp_path / "..new").symlink_to("two")
    (tmp_path / "..new").replace(tmp_path / "..data")
    await reload.look()
    assert [platform.operator.plans["default"].limits.concurrency for platform in told] == [2]


async def test_what_needs_a_restart_is_said(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.write(
        "operator: {workers: 3, plans: {default: {}}, rolloutPerSecond: 9}\nshared: {namespaces: {jobs: tenantplane-j}}"
    )
    with caplog.at_level(logging.WARNING):
        await world.reload.look()
    assert len(world.told) == 1
    assert "operator.workers, shared.namespaces" in caplog.text
    assert "rollout" not in caplog.text


def test_the_fields_that_need_a_restart_exist() -> None:
    one = parse_platform({})
    two = parse_platform(
        {
            "operator": {
                "workers": 3,
                "probePort": 1,
                "resyncSeconds": 99,
                "indexer": {"runner": "Subprocess"},
                "leaderElection": {"leaseSeconds": 99},
            },
            "shared": {"namespaces": {"jobs": "tenantplane-j"}, "knowledge": {"store": "file:///x"}},
        }
    )
    assert tuple(needs_restart(one, two)) == AT_START
