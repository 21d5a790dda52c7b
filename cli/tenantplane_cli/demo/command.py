"""The command line of `tenantplane demo`; everything heavy is imported when it runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def command(
    once: Annotated[bool, typer.Option("--once", help="End after the checks instead of staying up.")] = False,
    engine_url: Annotated[
        str | None, typer.Option(help="Base URL of a real OpenAI-compatible engine, used instead of the fake one.")
    ] = None,
    keep_logs: Annotated[
        Path | None, typer.Option(help="Folder for the logs; a temporary one when unset.", show_default=False)
    ] = None,
) -> None:
    """Two tenants on a real Kubernetes API, from `kubectl apply` to grounded answers; every step is verified."""
    from tenantplane_cli.demo.run import run

    sys.exit(run(once=once, engine_url=engine_url, keep_logs=keep_logs))
