"""`tenantplane keys`: API keys of one tenant, under the user's own rights in the tenant's namespace.

Guarantees: the text of a key is printed only when asked for (`--show`, `new --offline`); revoking and creating wait
until the data plane's configuration says so. Does not: keep keys; in a cluster they live in Secrets, standalone in the
state folder.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import typer

from tenantplane_cli.kubeoptions import ContextOption, KubeconfigOption
from tenantplane_cli.output import CliError, Format, OutputOption, UsageError, clean, console, note, print_json, say
from tenantplane_cli.up.state import State, StateOption, choose, running_or_fail, standalone_tenant

app = typer.Typer(help="List, read, make and revoke API keys of a tenant.", no_args_is_help=True)

WAIT_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.2
_DURATION: Final = re.compile(r"([1-9][0-9]{0,5})([mhd])")

TenantOption = Annotated[str, typer.Option("--tenant", "-t", help="Name of the Tenant.", show_default=False)]
NamespaceOption = Annotated[
    str | None, typer.Option("--namespace", "-n", help="The tenant's namespace, for who may not read Tenants.")
]
KeyArgument = Annotated[str, typer.Argument(help="Name of the APIKey.")]


@app.command("list")
def list_keys(
    tenant: TenantOption,
    output: OutputOption = Format.TEXT,
    namespace: NamespaceOption = None,
    state: StateOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """List the tenant's keys; never their text."""
    standalone = choose(state, cluster_named=bool(kubeconfig or context))
    if standalone is not None:
        rows = list(standalone_tenant(running_or_fail(standalone), tenant).get("keys", []))
    else:
        from tenantplane_cli.kube import Kube, api_keys_path

        with Kube(kubeconfig, context) as kube:
            space = _namespace(kube, tenant, namespace)
            rows = [describe(item) for item in kube.items(api_keys_path(space))]
    rows.sort(key=lambda row: str(row["name"]))
    if output is Format.JSON:
        print_json(rows)
        return
    if not rows:
        say(f"tenant {tenant} has no API keys; make one: tenantplane keys create NAME --tenant {tenant}")
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("NAME", "KEY ID", "OWNER", "STATE", "EXPIRES"):
        table.add_column(column, overflow="fold")
    for row in rows:
        cells = (row["name"], row["keyID"] or "-", row["owner"] or "-", row["state"], row["expiresAt"] or "never")
        table.add_row(*(clean(str(cell)) for cell in cells))
    console().print(table)


@app.command("get")
def get_key(
    name: KeyArgument,
    tenant: TenantOption,
    show: Annotated[bool, typer.Option("--show", help="Print the key itself, and nothing else.")] = False,
    output: OutputOption = Format.TEXT,
    namespace: NamespaceOption = None,
    state: StateOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Show one key: its id, state and where it lives; with --show its text."""
    standalone = choose(state, cluster_named=bool(kubeconfig or context))
    if standalone is not None:
        facts, text = _standalone_key(standalone, tenant, name)
    else:
        from tenantplane_cli.kube import Kube, api_keys_path

        with Kube(kubeconfig, context) as kube:
            space = _namespace(kube, tenant, namespace)
            found = kube.get(api_keys_path(space, name))
            facts = describe(found)
            secret = facts["secret"] or name
            facts["secret"] = f"{space}/{secret}"
            text = read_secret(kube, space, str(secret))[0] if show else ""
    if show:
        say(text)
    elif output is Format.JSON:
        print_json(facts)
    else:
        for label, value in facts.items():
            say(f"{label + ':':<13}{value if value not in (None, '') else '-'}")
        note(f"the key itself: tenantplane keys get {name} --tenant {tenant} --show")


@app.command("create")
def create_key(
    name: KeyArgument,
    tenant: TenantOption,
    owner: Annotated[str, typer.Option(help="Who answers for the key; it is the user of its requests.")] = "",
    description: Annotated[str, typer.Option(help="What the key is for.")] = "",
    expires_in: Annotated[
        str | None, typer.Option(help="Lifetime, for example 12h or 90d; for ever when unset.")
    ] = None,
    wait: Annotated[bool, typer.Option(help="Wait until the key is accepted.")] = True,
    namespace: NamespaceOption = None,
    state: StateOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Make an APIKey in the tenant's namespace; the operator puts its text into a Secret of the same name."""
    from tenantplane_api.runtime import names
    from tenantplane_cli.kube import Conflict, Kube, api_keys_path

    _only_in_a_cluster(choose(state, cluster_named=bool(kubeconfig or context)), "put an APIKey object into it")
    spec: dict[str, Any] = {}
    if owner:
        spec["owner"] = owner
    if description:
        spec["description"] = description
    if expires_in is not None:
        spec["expiresAt"] = (datetime.now(UTC) + parse_duration(expires_in)).strftime("%Y-%m-%dT%H:%M:%SZ")
    with Kube(kubeconfig, context) as kube:
        space = _namespace(kube, tenant, namespace)
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND_API_KEY,
            "metadata": {"name": name, "namespace": space},
            "spec": spec,
        }
        try:
            kube.create(api_keys_path(space), body)
        except Conflict:
            raise CliError(f"tenant {tenant} has an API key {name!r} already: choose another name") from None
        if wait:
            _wait(
                kube, api_keys_path(space, name), lambda key: is_true(key, "Published"), f"key {name} is not accepted"
            )
    say(f"apikey/{name} made in namespace {space}")
    note(f"its text: tenantplane keys get {name} --tenant {tenant} --show")


@app.command("revoke")
def revoke_key(
    name: KeyArgument,
    tenant: TenantOption,
    wait: Annotated[bool, typer.Option(help="Wait until the key is refused.")] = True,
    namespace: NamespaceOption = None,
    state: StateOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Refuse a key from now on, for good. Its Secret is deleted; there is no way back."""
    from tenantplane_api.runtime import names
    from tenantplane_cli.kube import Kube, api_keys_path

    _only_in_a_cluster(choose(state, cluster_named=bool(kubeconfig or context)), "set spec.revoked: true there")
    with Kube(kubeconfig, context) as kube:
        space = _namespace(kube, tenant, namespace)
        path = api_keys_path(space, name)
        # A request and not an edit of the spec, which a GitOps tool would undo.
        kube.merge(path, {"metadata": {"annotations": {names.ANNOTATION_REVOKE: now_text()}}})
        if wait:
            _wait(
                kube,
                path,
                lambda key: bool((key.get("status") or {}).get("revokedAt")) and not is_true(key, "Published"),
                f"key {name} is not revoked yet",
            )
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


def describe(key: dict[str, Any]) -> dict[str, Any]:
    """What may be shown of an APIKey object."""
    spec, status = key.get("spec") or {}, key.get("status") or {}
    ready = condition(key, "Ready")
    if status.get("revokedAt"):
        state = "Revoked"
    elif ready is None:
        state = "Waiting"
    else:
        state = "Ready" if ready["status"] == "True" else str(ready.get("reason", "NotReady"))
    return {
        "name": key["metadata"]["name"],
        "keyID": status.get("keyID"),
        "owner": spec.get("owner", ""),
        "description": spec.get("description", ""),
        "state": state,
        "expiresAt": spec.get("expiresAt"),
        "revokedAt": status.get("revokedAt"),
        "secret": (status.get("secretRef") or {}).get("name"),
        "message": "" if state == "Ready" or ready is None else ready.get("message", ""),
    }


def condition(item: dict[str, Any], kind: str) -> dict[str, Any] | None:
    """One condition of an object's status."""
    for entry in (item.get("status") or {}).get("conditions") or ():
        if entry.get("type") == kind:
            found: dict[str, Any] = entry
            return found
    return None


def is_true(item: dict[str, Any], kind: str) -> bool:
    """True when a condition holds for the object's present generation."""
    found = condition(item, kind)
    return (
        found is not None
        and found["status"] == "True"
        and int(found.get("observedGeneration", 0)) >= int(item["metadata"].get("generation", 0))
    )


def read_secret(kube: Any, namespace: str, name: str) -> tuple[str, str]:
    """Text and base URL of a key's Secret. Raises CliError when it is not there or not a key's."""
    import base64
    import binascii

    from tenantplane_api.runtime import names
    from tenantplane_cli.kube import NotFound, secret_path

    try:
        data = kube.get(secret_path(namespace, name)).get("data") or {}
    except NotFound:
        raise CliError(
            f"there is no Secret {namespace}/{name}: is the key Ready? `tenantplane keys list` shows its state"
        ) from None
    try:
        values = {key: base64.b64decode(value).decode() for key, value in data.items()}
    except (binascii.Error, UnicodeDecodeError):
        raise CliError(f"Secret {namespace}/{name} does not hold text") from None
    if names.SECRET_KEY_API_KEY not in values:
        raise CliError(f"Secret {namespace}/{name} has no key {names.SECRET_KEY_API_KEY}: it is not an API key's")
    return values[names.SECRET_KEY_API_KEY], values.get(names.SECRET_KEY_BASE_URL, "")


def parse_duration(text: str) -> timedelta:
    """``90d``, ``12h`` or ``30m``. Raises UsageError."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise UsageError(f"--expires-in: {text!r} is not a duration: use a number with m, h or d, for example 90d")
    unit = {"m": "minutes", "h": "hours", "d": "days"}[match[2]]
    return timedelta(**{unit: int(match[1])})


def now_text() -> str:
    """The time as request annotations have it: RFC 3339 with microseconds, so that two requests differ."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _namespace(kube: Any, tenant: str, given: str | None) -> str:
    from tenantplane_cli.kube import find_namespace

    return given or find_namespace(kube, tenant)


def _only_in_a_cluster(standalone: State | None, instead: str) -> None:
    """A standalone run obeys its folder and nothing else."""
    if standalone is not None:
        folder = running_or_fail(standalone)["folder"]
        raise CliError(f"a standalone run takes its keys from {folder}: {instead} (or name a cluster by --context)")


def _wait(kube: Any, path: str, holds: Any, otherwise: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        found = kube.get(path)
        if holds(found):
            return
        stalled = condition(found, "Stalled")
        if stalled is not None and stalled["status"] == "True":
            raise CliError(f"{otherwise}: {stalled.get('reason')}: {stalled.get('message')}")
        if time.monotonic() > deadline:
            ready = condition(found, "Ready") or {}
            raise CliError(
                f"{otherwise} after {WAIT_SECONDS:.0f} s: {ready.get('message') or 'does the operator run?'}"
            )
        time.sleep(_POLL_SECONDS)


def _standalone_key(state: State, tenant: str, name: str) -> tuple[dict[str, Any], str]:
    entry = standalone_tenant(running_or_fail(state), tenant)
    for row in entry.get("keys", []):
        if row["name"] == name:
            kept = state.read("keys.json").get(entry["tenantID"], {})
            return {**row, "secret": str(state.keys_file)}, str(kept.get(name, {}).get("text", ""))
    raise CliError(f"tenant {tenant} has no key {name!r}; there: {', '.join(k['name'] for k in entry.get('keys', []))}")
