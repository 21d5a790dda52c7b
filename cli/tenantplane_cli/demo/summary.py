"""What is printed at the end, to go on by hand; and the little that is asked of an engine of one's own."""

from __future__ import annotations

import ipaddress
import json
import shlex
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from tenantplane_cli.cluster.model import Cluster
from tenantplane_cli.demo.checks import Customer
from tenantplane_cli.demo.parts import DemoError
from tenantplane_cli.endpoint import Endpoint
from tenantplane_cli.output import CliError

_ENGINE_SECONDS: Final = 10.0


def lines(url: str, customers: list[Customer], cluster: Cluster, platform_file: Path) -> list[str]:
    """The last words of the demo."""
    a, b = customers
    question = a.example.questions[0].text
    alias = a.example.aliases[0]
    out = [""]
    out += [f"export {c.name.upper()}_KEY={c.key}" for c in customers]
    out += [
        "",
        "# the assistant, with citations; then the other customer, same question",
        *(_curl(f"{url}/chat", c, {"query": question, "assistant": "handbook"}) for c in customers),
        "# the shared model under the customer's alias; then a refusal: that alias is the other customer's",
        _curl(f"{url}/v1/chat/completions", a, _body(alias)),
        _curl(f"{url}/v1/chat/completions", b, _body(alias)),
        "",
        "# any OpenAI SDK; model is an alias or assistant/<name>",
        "from openai import OpenAI",
        f'client = OpenAI(base_url="{url}/v1", api_key="{a.key}")',
        'print(client.chat.completions.create(model="assistant/handbook",',
        f"    messages=[{{'role': 'user', 'content': {question!r}}}]).choices[0].message.content)",
        "",
        "# the cluster, as its administrator",
        f"export KUBECONFIG={shlex.quote(str(cluster.kubeconfig))}",
        f"export TENANTPLANE_PLATFORM={shlex.quote(str(platform_file))}",
        f"{cluster.kubectl} get tenants,apikeys,modeldeployments --all-namespaces",
        f"tenantplane status {a.name}; tenantplane keys list --tenant {a.name}; tenantplane chat --tenant {a.name}",
        f"tenantplane ingest FOLDER --tenant {a.name} --index handbook",
    ]
    return out


def _body(model: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Hello"}]}


def _curl(url: str, customer: Customer, body: dict[str, Any]) -> str:
    return (
        f'curl -s {url} -H "Authorization: Bearer ${customer.name.upper()}_KEY" '
        f"-H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body))}"
    )


def served_name(base_url: str) -> str:
    """The first model of an engine. Raises DemoError when it does not answer."""
    try:
        listed = Endpoint(base_url, "none", timeout=_ENGINE_SECONDS).get("/v1/models").get("data") or []
    except CliError as error:
        raise DemoError(f"--engine-url: {error}") from None
    if not listed:
        raise DemoError(f"--engine-url: {base_url} serves no model")
    return str(listed[0]["id"])


def host_rule(base_url: str) -> dict[str, Any]:
    """The Platform's permission for exactly this engine."""
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    try:
        private = not ipaddress.ip_address(host).is_global
    except ValueError:
        private = "." not in host
    return {"host": host, "http": parts.scheme == "http", "private": private}
