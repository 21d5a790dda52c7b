"""Plain requests to an API server: a path and a dict in, a status and a dict out.

Guarantees: errors of the server are values (status, Status object), only a connection that fails raises.
Does not: retry, watch, or model objects.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from kubernetes import config
from kubernetes.client import Configuration
from kubernetes.client.api_client import ApiClient


class Rest:
    """One connection pool under one kubeconfig's rights; a context manager."""

    def __init__(self, kubeconfig: Path | None, *, context: str | None = None, timeout: float = 30.0) -> None:
        """`kubeconfig` and `context` as kubectl takes them: None is the user's own and its current one."""
        settings = Configuration()
        config.load_kube_config(
            config_file=None if kubeconfig is None else str(kubeconfig),
            context=context,
            client_configuration=settings,
            persist_config=False,
        )
        settings.retries = False
        if urlsplit(settings.host).hostname in ("127.0.0.1", "::1", "localhost"):
            settings.proxy = None  # the library would send loopback to HTTPS_PROXY, too
        self.server = str(settings.host)
        self._timeout = timeout
        self._client = ApiClient(settings)

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: dict[str, str] | None = None,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, dict[str, Any]]:
        """Status and decoded answer; text that is not JSON comes as `{"message": text}`.

        Raises OSError or urllib3.exceptions.HTTPError when there is no answer.
        """
        request = self._client.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params={"Accept": "application/json", "Content-Type": content_type, **(headers or {})},
            body=body,
            auth_settings=["BearerToken"],
        )
        response = self._client.call_api(*request, _request_timeout=self._timeout)
        text = response.read().decode(errors="replace")
        try:
            answer = json.loads(text)
        except ValueError:
            answer = None
        return int(response.status), answer if isinstance(answer, dict) else {"message": text}

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
