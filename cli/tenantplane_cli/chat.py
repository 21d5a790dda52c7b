"""`tenantplane chat`: one question, or a conversation at the terminal, with the citations that back the answer.

Guarantees: the key is sent to the data plane and shown nowhere; text of an answer cannot control the terminal; the
history of a conversation lives in this process only. Does not: store anything.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from tenantplane_cli.keyobjects import in_namespace, read_secret
from tenantplane_cli.keys import NamespaceOption
from tenantplane_cli.kubeoptions import ContextOption, KubeconfigOption
from tenantplane_cli.output import CliError, Format, OutputOption, UsageError, clean, note, print_json, say
from tenantplane_cli.up.state import StateOption, choose, running_or_fail, standalone_tenant

if TYPE_CHECKING:
    from tenantplane_cli.conversation import Answer, Conversation
    from tenantplane_cli.endpoint import Endpoint

KEY_VARIABLE: Final = "TENANTPLANE_API_KEY"
URL_VARIABLE: Final = "TENANTPLANE_URL"
_ASSISTANT: Final = "assistant/"


def command(
    question: Annotated[str | None, typer.Argument(help="The question; a conversation when left out.")] = None,
    tenant: Annotated[
        str | None, typer.Option("--tenant", "-t", help="Tenant whose key is read from the cluster.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(help=f"API key; {KEY_VARIABLE} when neither this nor --tenant is given.", show_default=False),
    ] = None,
    key_name: Annotated[str, typer.Option(help="Name of the tenant's API key, with --tenant.")] = "default",
    url: Annotated[
        str | None, typer.Option(envvar=URL_VARIABLE, help="The data plane; the tenant's endpoint when unset.")
    ] = None,
    assistant: Annotated[str | None, typer.Option("--assistant", "-a", help="Assistant to ask.")] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Model alias to ask, without documents.")] = None,
    stream: Annotated[bool, typer.Option("--stream/--no-stream", help="Show the answer as it comes.")] = True,
    output: OutputOption = Format.TEXT,
    namespace: NamespaceOption = None,
    state: StateOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Ask a tenant's assistant or model; citations follow the answer."""
    from tenantplane_cli.conversation import Conversation
    from tenantplane_cli.endpoint import Endpoint

    if assistant is not None and model is not None:
        raise UsageError("--assistant and --model exclude each other")
    if model is not None and model.startswith(_ASSISTANT):
        assistant, model = model.removeprefix(_ASSISTANT), None
    if key is None and tenant is None:
        # Who names a tenant means its key, not one that happens to be in the environment.
        key = os.environ.get(KEY_VARIABLE) or None
    found_url, found_key = _credentials(tenant, key, key_name, url, namespace, state, kubeconfig, context)
    endpoint = Endpoint(found_url, found_key)
    if assistant is None and model is None:
        assistant, model = _choose(endpoint)
    talk = Conversation(endpoint, assistant, model)
    if question is not None or not sys.stdin.isatty():
        text = question if question is not None else sys.stdin.read()
        if not text.strip():
            raise UsageError("the question is empty")
        _one(talk, text, stream=stream, output=output)
    else:
        _interactive(talk, stream=stream)


def _one(talk: Conversation, question: str, *, stream: bool, output: Format) -> None:
    if output is Format.JSON:
        print_json(talk.ask(question, stream=False, on_text=lambda _: None).body)
        return
    answer = talk.ask(question, stream=stream, on_text=_write)
    _write("\n")
    _cite(answer)


def _interactive(talk: Conversation, *, stream: bool) -> None:
    from tenantplane_cli.endpoint import ApiRefusal

    try:
        import readline  # line editing for input()

        readline.set_auto_history(True)
    except ImportError:
        pass
    note(f"{talk.endpoint.url}: {_ASSISTANT + talk.assistant if talk.assistant else talk.model}; Ctrl-D ends it")
    while True:
        try:
            question = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            note("")
            return
        if not question:
            continue
        try:
            answer = talk.ask(question, stream=stream, on_text=_write)
            _write("\n")
            _cite(answer)
        except ApiRefusal as error:
            note(f"error: {error}")
        except KeyboardInterrupt:
            note("\n(stopped)")


def _cite(answer: Answer) -> None:
    from tenantplane_cli.conversation import citation_lines

    for line in citation_lines(answer.citations):
        say(line)


def _write(text: str) -> None:
    print(clean(text), end="", flush=True)


def _choose(endpoint: Endpoint) -> tuple[str | None, str | None]:
    """Assistant or model when none was named: the only assistant, else the only model."""
    there = [str(entry["id"]) for entry in endpoint.get("/v1/models").get("data", [])]
    assistants = [name for name in there if name.startswith(_ASSISTANT)]
    models = [name for name in there if not name.startswith(_ASSISTANT)]
    if len(assistants) == 1:
        return assistants[0].removeprefix(_ASSISTANT), None
    if not assistants and len(models) == 1:
        return None, models[0]
    if not there:
        raise CliError("this key may use no assistant and no model: see `tenantplane status`")
    raise UsageError(
        "choose by --assistant or --model: "
        + ", ".join([name.removeprefix(_ASSISTANT) for name in assistants] + models)
    )


def _credentials(
    tenant: str | None,
    key: str | None,
    key_name: str,
    url: str | None,
    namespace: str | None,
    state: Path | None,
    kubeconfig: Path | None,
    context: str | None,
) -> tuple[str, str]:
    """URL and key: what was given, and from cluster or standalone run what was not."""
    if key is not None and url is not None:
        return url, key
    standalone = choose(state, cluster_named=bool(kubeconfig or context))
    if standalone is not None:
        running = running_or_fail(standalone)
        if key is None:
            entry = standalone_tenant(running, _needed(tenant))
            kept = standalone.read("keys.json").get(entry["tenantID"], {})
            key = (kept.get(key_name) or {}).get("text")
            if not key:
                raise CliError(
                    f"tenant {tenant} has no key {key_name!r}; choose by --key-name: {', '.join(kept) or 'none'}"
                )
        return url or str(running["endpoint"]), key
    from tenantplane_cli.kube import Kube, get_tenant

    with Kube(kubeconfig, context) as kube:
        name = _needed(tenant)
        base = ""
        if key is None:
            with in_namespace(kube, name, namespace) as space:
                key, base = read_secret(kube, space, key_name)
        if url is None:
            base = base or str((get_tenant(kube, name).get("status") or {}).get("endpoint") or "")
            if not base:
                raise CliError(
                    f"tenant {name} has no endpoint yet: see `tenantplane status {name}`, or name it by --url"
                )
    return url or base, key


def _needed(tenant: str | None) -> str:
    if tenant is None:
        raise UsageError(f"name the tenant by --tenant, or give a key ({KEY_VARIABLE}) and --url")
    return tenant
