"""`tenantplane keys`: API keys of one tenant, under the user's own rights in the tenant's namespace.

Guarantees: the text of a key is printed only when asked for (`--show`, `new --offline`); creating, rotating and
revoking wait until the data plane's configuration says so; a rotation and a revocation are requests (annotations),
never edits of a spec that a GitOps tool would undo. Does not: keep keys; in a cluster they live in Secrets, standalone
in the state folder.
"""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import typer

from tenantplane_cli.keyobjects import condition as condition
from tenantplane_cli.keyobjects import describe as describe
from tenantplane_cli.keyobjects import in_namespace, key_text, wait_for
from tenantplane_cli.keyobjects import is_true as is_true
from tenantplane_cli.keyobjects import now_text as now_text
from tenantplane_cli.keyobjects import read_secret as read_secret
from tenantplane_cli.kubeoptions import ContextOption, KubeconfigOption
from tenantplane_cli.output import CliError, Format, OutputOption, UsageError, clean, console, note, print_json, say
from tenantplane_cli.up.state import State, StateOption, choose, running_or_fail, standalone_tenant

app = typer.Typer(help="List, read, make, rotate and revoke API keys of a tenant.", no_args_is_help=True)

_DURATION: Final = re.compile(r"([1-9][0-9]{0,5})([mhd])")
_GO_DURATION: Final = re.compile(r"(?=.)([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?")

TenantOption = Annotated[str | None, typer.Option("--tenant", "-t", help="Name of the Tenant.", show_default=False)]
NamespaceOption = Annotated[
    str | None, typer.Option("--namespace", "-n", help="The tenant's namespace, for who may not read Tenants.")
]
KeyArgument = Annotated[str, typer.Argument(help="Name of the APIKey.")]
ShowOption = Annotated[bool, typer.Option("--show", help="Print the key itself, and nothing else.")]


@app.command("list")
def list_keys(
    tenant: TenantOption = None,
    output: OutputOption = Format.TEXT,
    namespace: NamespaceOption = None,
    state: StateOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """List the tenant's keys; never their text."""
    standalone = choose(state, cluster_named=bool(kubeconfig or context))
    if standalone is not None:
        rows = list(standalone_tenant(running_or_fail(standalone), _named(tenant)).get("keys", []))
    else:
        from tenantplane_cli.kube import Kube, api_keys_path

        with Kube(kubeconfig, context) as kube, in_namespace(kube, tenant, namespace) as space:
            rows = [describe(item) for item in kube.items(api_keys_path(space))]
    rows.sort(key=lambda row: str(row["name"]))
    if output is Format.JSON:
        print_json(rows)
        return
    if not rows:
        whose = f"--tenant {tenant}" if tenant else f"--namespace {namespace}"
        say(f"no API keys here; make one: tenantplane keys create NAME {whose}")
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("NAME", "KEY ID", "OWNER", "STATE", "EXPIRES", "ROTATES", "STILL ACCEPTED"):
        table.add_column(column, overflow="fold")
    for row in rows:
        old = ", ".join(f"{entry['keyID']} until {entry['acceptedUntil']}" for entry in row.get("previous") or [])
        cells = (
            row["name"],
            row["keyID"] or "-",
            row["owner"] or "-",
            row["state"],
            row["expiresAt"] or "never",
            row.get("nextRotationAt") or "-",
            old or "-",
        )
        table.add_row(*(clean(str(cell)) for cell in cells))
    console().print(table)


@app.command("get")
def get_key(
    name: KeyArgument,
    tenant: TenantOption = None,
    show: ShowOption = False,
    output: OutputOption = Format.TEXT,
    namespace: NamespaceOption = None,
    state: StateOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Show one key: its id, state and where it lives; with --show its text."""
    standalone = choose(state, cluster_named=bool(kubeconfig or context))
    if standalone is not None:
        facts, text = _standalone_key(standalone, _named(tenant), name)
    else:
        from tenantplane_cli.kube import Kube, api_keys_path

        with Kube(kubeconfig, context) as kube, in_namespace(kube, tenant, namespace) as space:
            found = kube.get(api_keys_path(space, name))
            facts = describe(found)
            facts["secret"] = f"{space}/{facts['secret'] or name}"
            text = key_text(kube, space, found) if show else ""
    if show:
        say(text)
    elif output is Format.JSON:
        print_json(facts)
    else:
        _print_facts(facts)
        note(f"the key itself: tenantplane keys get {name} {_whose(tenant, namespace)} --show")


@app.command("create")
def create_key(
    name: KeyArgument,
    tenant: TenantOption = None,
    owner: Annotated[str, typer.Option(help="Who answers for the key; it is the user of its requests.")] = "",
    description: Annotated[str, typer.Option(help="What the key is for.")] = "",
    expires: Annotated[
        str | None,
        typer.Option("--expires", "--expires-in", help="A lifetime such as 12h or 90d, or a time; never when unset."),
    ] = None,
    rotate_every: Annotated[
        str | None, typer.Option(help="Replace the key when it is this old, for example 30d; on request when unset.")
    ] = None,
    grace: Annotated[
        str | None, typer.Option(help="How long a replaced key is still accepted, for example 2h; 1h when unset.")
    ] = None,
    from_secret: Annotated[
        str | None,
        typer.Option(help="Take the key from your own Secret NAME or NAME/KEY (KEY is apiKey when left out)."),
    ] = None,
    wait: Annotated[bool, typer.Option(help="Wait until the key is accepted.")] = True,
    output: OutputOption = Format.TEXT,
    namespace: NamespaceOption = None,
    state: StateOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Make an APIKey in the tenant's namespace; the operator puts its text into a Secret of the same name."""
    from tenantplane_api.runtime import names
    from tenantplane_cli.kube import Conflict, Kube, api_keys_path

    _only_in_a_cluster(choose(state, cluster_named=bool(kubeconfig or context)), "put an APIKey object into it")
    spec: dict[str, Any] = {"owner": owner, "description": description}
    spec["expiresAt"] = None if expires is None else _expiry(expires)
    rotation = {
        "interval": None if rotate_every is None else go_duration(rotate_every, "--rotate-every"),
        "grace": None if grace is None else go_duration(grace, "--grace"),
    }
    spec["rotation"] = {field: value for field, value in rotation.items() if value}
    if from_secret is not None:
        if rotate_every is not None:
            raise UsageError("--rotate-every: a key from your own Secret is rotated by changing the Secret")
        secret, _, entry = from_secret.partition("/")
        spec["valueFrom"] = {"secretKeyRef": {"name": secret, "key": entry or names.SECRET_KEY_API_KEY}}
    with Kube(kubeconfig, context) as kube, in_namespace(kube, tenant, namespace) as space:
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND_API_KEY,
            "metadata": {"name": name, "namespace": space},
            "spec": {field: value for field, value in spec.items() if value},
        }
        try:
            found = kube.create(api_keys_path(space), body)
        except Conflict:
            raise CliError(f"namespace {space} has an API key {name!r} already: choose another name") from None
        if wait:
            path = api_keys_path(space, name)
            found = wait_for(kube, path, lambda key: is_true(key, "Published"), f"key {name} is not accepted")
    if output is Format.JSON:
        print_json(describe(found))
        return
    say(f"apikey/{name} made in namespace {space}")
    note(f"its text: tenantplane keys get {name} {_whose(tenant, namespace)} --show")


@app.command("rotate")
def rotate_key(
    name: KeyArgument,
    tenant: TenantOption = None,
    wait: Annotated[bool, typer.Option(help="Wait until the new key is accepted.")] = True,
    show: ShowOption = False,
    output: OutputOption = Format.TEXT,
    namespace: NamespaceOption = None,
    state: StateOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Give a key a new text; the old one is accepted until its grace ends."""
    from tenantplane_api.runtime import names
    from tenantplane_cli.kube import Kube, api_keys_path

    _only_in_a_cluster(choose(state, cluster_named=bool(kubeconfig or context)), "a key is rotated by its interval")
    if show and not wait:
        raise UsageError("--show: there is nothing to show before the new key is there: leave --no-wait out")
    with Kube(kubeconfig, context) as kube, in_namespace(kube, tenant, namespace) as space:
        path = api_keys_path(space, name)
        before = kube.get(path)
        _refuse_rotation(before)
        asked = now_text()
        found = kube.merge(path, {"metadata": {"annotations": {names.ANNOTATION_ROTATE: asked}}})
        text = ""
        if wait:
            found = wait_for(kube, path, lambda key: _rotated(key, asked), f"key {name} is not rotated yet")
            text = key_text(kube, space, found) if show else ""
    facts = describe(found)
    if show:
        say(text)
    elif output is Format.JSON:
        print_json(facts)
    elif not wait:
        say(f"apikey/{name}: rotation asked for")
    else:
        old = describe(before)["keyID"]
        until = next((entry["acceptedUntil"] for entry in facts["previous"] if entry["keyID"] == old), None)
        say(f"apikey/{name} rotated: {old} → {facts['keyID']}")
        note(f"{old} is " + (f"accepted until {until}" if until else "refused from now on"))
        note(f"the new text: tenantplane keys get {name} {_whose(tenant, namespace)} --show")


@app.command("revoke")
def revoke_key(
    name: KeyArgument,
    tenant: TenantOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    wait: Annotated[bool, typer.Option(help="Wait until the key is refused.")] = True,
    namespace: NamespaceOption = None,
    state: StateOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Refuse a key from now on, for good. The Secret that was made for it is deleted; there is no way back."""
    from tenantplane_api.runtime import names
    from tenantplane_cli.kube import Kube, api_keys_path

    _only_in_a_cluster(choose(state, cluster_named=bool(kubeconfig or context)), "set spec.revoked: true there")
    with Kube(kubeconfig, context) as kube, in_namespace(kube, tenant, namespace) as space:
        path = api_keys_path(space, name)
        found = kube.get(path)
        _confirm(f"refuse key {name} ({describe(found)['keyID'] or 'no id yet'}) in namespace {space} for good?", yes)
        # A request and not an edit of the spec, which a GitOps tool would undo.
        kube.merge(path, {"metadata": {"annotations": {names.ANNOTATION_REVOKE: now_text()}}})
        if wait:
            # A key that is stalled, for whatever reason, is revoked like any other; and a revoked one is stalled.
            wait_for(kube, path, _withdrawn, f"key {name} is not revoked yet", stalls=False)
    say(f"apikey/{name} revoked")


@app.command("new")
def new_key(
    offline: Annotated[bool, typer.Option("--offline", help="Required: says that no cluster takes part.")] = False,
    output: OutputOption = Format.TEXT,
) -> None:
    """Print a well-formed key and its hash, made on this machine, without a cluster."""
    if not offline:
        raise UsageError("keys new needs --offline; to make a key of a tenant: tenantplane keys create NAME --tenant T")
    from tenantplane_api.runtime.keys import generate_key

    key = generate_key()
    if output is Format.JSON:
        print_json({"key": key.text, "keyID": key.key_id, "hash": key.digest})
        return
    say(f"key:   {key.text}\nkeyID: {key.key_id}\nhash:  {key.digest}")


def parse_duration(text: str, option: str = "--expires") -> timedelta:
    """``90d``, ``12h`` or ``30m``. Raises UsageError."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise UsageError(f"{option}: {text!r} is not a duration: use a number with m, h or d, for example 90d")
    unit = {"m": "minutes", "h": "hours", "d": "days"}[match[2]]
    return timedelta(**{unit: int(match[1])})


def go_duration(text: str, option: str) -> str:
    """A duration as an APIKey has it (``1h30m``), also from days (``30d``). Raises UsageError."""
    if _GO_DURATION.fullmatch(text):
        return text
    return f"{int(parse_duration(text, option).total_seconds()) // 3600}h"


def _expiry(text: str) -> str:
    """A lifetime or a time, as the time. Raises UsageError."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        when = datetime.now(UTC) + parse_duration(text)
    try:
        when = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    except OverflowError:
        raise UsageError(f"--expires: {text!r} lies outside the years 1 to 9999 in UTC: choose a nearer time") from None
    # Not strftime: it writes the year 900 as `900`, which is no RFC 3339.
    return when.replace(tzinfo=None, microsecond=0).isoformat() + "Z"


def _refuse_rotation(key: dict[str, Any]) -> None:
    """Say at once what would never be answered. Raises CliError."""
    name, facts = key["metadata"]["name"], describe(key)
    if facts["state"] == "Revoked":
        raise CliError(f"key {name} was revoked at {facts['revokedAt']}: make a new one by `tenantplane keys create`")
    if (key.get("spec") or {}).get("valueFrom"):
        raise CliError(f"key {name} comes from Secret {facts['secret']}: put another text into it to rotate the key")
    if facts["state"] == "Expired":
        raise CliError(f"key {name} expired at {facts['expiresAt']}: set spec.expiresAt later first")


def _rotated(key: dict[str, Any], asked: str) -> bool:
    answered = ((key.get("status") or {}).get("handledRequests") or {}).get("rotate-requested-at")
    return answered == asked and is_true(key, "Published")


def _withdrawn(key: dict[str, Any]) -> bool:
    shown = condition(key, "Published") or {}
    return bool((key.get("status") or {}).get("revokedAt")) and shown.get("reason") == "Revoked"


def _confirm(question: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("there is nobody to ask: say --yes")
    if not typer.confirm(question, err=True):
        raise CliError("nothing was done")


def _print_facts(facts: dict[str, Any]) -> None:
    for label, value in facts.items():
        shown = value
        if label == "previous":
            shown = ", ".join(f"{entry['keyID']} until {entry['acceptedUntil']}" for entry in value)
        say(f"{label + ':':<15}{shown if shown not in (None, '') else '-'}")


def _named(tenant: str | None) -> str:
    if tenant is None:
        raise UsageError("name the tenant by --tenant")
    return tenant


def _whose(tenant: str | None, namespace: str | None) -> str:
    """The options that name the same keys again."""
    return " ".join(
        f"{option} {value}" for option, value in (("--tenant", tenant), ("--namespace", namespace)) if value
    )


def _only_in_a_cluster(standalone: State | None, instead: str) -> None:
    """A standalone run obeys its folder and nothing else."""
    if standalone is not None:
        folder = running_or_fail(standalone)["folder"]
        raise CliError(f"a standalone run takes its keys from {folder}: {instead} (or name a cluster by --context)")


def _standalone_key(state: State, tenant: str, name: str) -> tuple[dict[str, Any], str]:
    entry = standalone_tenant(running_or_fail(state), tenant)
    for row in entry.get("keys", []):
        if row["name"] == name:
            kept = state.read("keys.json").get(entry["tenantID"], {})
            return {**row, "secret": str(state.keys_file)}, str(kept.get(name, {}).get("text", ""))
    raise CliError(f"tenant {tenant} has no key {name!r}; there: {', '.join(k['name'] for k in entry.get('keys', []))}")
