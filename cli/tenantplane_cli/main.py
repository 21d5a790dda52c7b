"""The `tenantplane` command: composes the sub-commands and turns every failure into one line and an exit code.

Heavy imports (the Kubernetes client, pydantic models, the data plane) happen inside the commands that need them, so
that `--help` and `version` stay fast.
"""

from __future__ import annotations

import os
import sys

import typer

from tenantplane_cli import chat, ingest, keys, new, release, version
from tenantplane_cli.demo import command as demo
from tenantplane_cli.doctor import command as doctor
from tenantplane_cli.output import CliError, OneForWrongUsage, fail, note
from tenantplane_cli.plan import command as plan
from tenantplane_cli.status import command as status
from tenantplane_cli.up import command as up

app = typer.Typer(
    name="tenantplane",
    help="Multi-tenant LLM control plane for Kubernetes: from a Tenant's YAML to answers from its own documents.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("new")(new.command)
app.command("up")(up.command)
app.command("demo")(demo.command)
app.command("plan", cls=OneForWrongUsage)(plan.command)
app.command("status")(status.command)
app.command("doctor", cls=OneForWrongUsage)(doctor.command)
app.command("release")(release.command)
app.add_typer(keys.app, name="keys")
app.command("ingest")(ingest.command)
app.command("chat")(chat.command)
app.command("version")(version.command)


def main() -> None:
    """Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted; 2 of `plan` and `doctor` is their own."""
    try:
        app()
    except CliError as error:
        fail(error)
    except BrokenPipeError:
        # `tenantplane … | head`: the reader has what it wants. Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if os.environ.get("TENANTPLANE_DEBUG"):
            raise
        note(f"error: {type(error).__name__}: {error} (this is a bug; TENANTPLANE_DEBUG=1 shows where)")
        sys.exit(1)


if __name__ == "__main__":
    main()
