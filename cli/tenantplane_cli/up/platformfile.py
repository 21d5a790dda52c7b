"""The Platform of a standalone run: platform.yaml of the folder, or what the chart would have installed.

Guarantees that a Tenant that names no model can chat (the shared extractive answerer is there, as in a cluster), and
that index builds run as fenced processes on this machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec

from tenantplane_api.runtime import names
from tenantplane_api.runtime.platform import (
    ModelRef,
    Plan,
    PlanLimits,
    PlanModel,
    Platform,
    PlatformError,
    RequestLimits,
    load_platform,
)
from tenantplane_cli.output import CliError
from tenantplane_cli.up.load import PLATFORM_FILE, Key, Loaded
from tenantplane_cli.up.state import State

EXTRACTIVE: Final = "extractive"


def read_platform(folder: Path, state: State, *, public_url: str) -> Platform:
    """The Platform file with what a standalone run decides itself.

    Args:
        folder: where platform.yaml may be.
        state: where documents and indices live when the file does not say.
        public_url: where clients will find us.

    Raises CliError: the file is not valid; the message names file and field.
    """
    path = folder / PLATFORM_FILE
    try:
        platform = load_platform(path) if path.exists() else default_platform()
    except PlatformError as error:
        raise CliError(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from None
    knowledge = platform.shared.knowledge
    replace = msgspec.structs.replace
    return replace(
        platform,
        operator=replace(platform.operator, indexer=replace(platform.operator.indexer, runner="Subprocess")),
        shared=replace(
            platform.shared,
            dataplane=replace(platform.shared.dataplane, public_url=public_url),
            knowledge=replace(
                knowledge,
                store=knowledge.store or state.store.resolve().as_uri(),
                directory_root=knowledge.directory_root or str(state.documents.resolve()),
            ),
        ),
    )


def default_platform() -> Platform:
    """What the chart's values say, as far as it means something without Kubernetes."""
    plan = Plan(
        description="A small tenant on shared models.",
        limits=PlanLimits(requests=RequestLimits(per_minute=600), concurrency=32),
        models=(PlanModel(alias="default", ref=ModelRef(name=EXTRACTIVE)),),
    )
    platform = Platform()
    operator = msgspec.structs.replace(platform.operator, plans={"default": plan})
    return msgspec.structs.replace(platform, operator=operator)


def with_extractive(loaded: Loaded, platform: Platform) -> None:
    """Add the shared extractive model that the chart installs, unless the folder has one of that name."""
    namespace = platform.shared.namespaces.models
    key = Key(names.KIND_MODEL_DEPLOYMENT, namespace, EXTRACTIVE)
    spec: dict[str, Any] = {"engine": {"type": "Extractive"}, "sharing": {"mode": "AllTenants"}}
    loaded.objects.setdefault(
        key,
        {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND_MODEL_DEPLOYMENT,
            "metadata": {"name": EXTRACTIVE, "namespace": namespace},
            "spec": spec,
        },
    )
