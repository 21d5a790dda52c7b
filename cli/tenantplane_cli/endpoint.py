"""One data plane over HTTP with nothing but the standard library: ask, stream, and say clearly what went wrong.

Guarantees: the key goes only to the host that was named (redirects are not followed); a refusal of the data plane is an
`ApiRefusal` with its stable code; answers are bounded. Does not: retry; a person sees `Retry-After` and decides.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from tenantplane_cli import sse
from tenantplane_cli.output import CliError, one_line

_ANSWER_MAX: Final = 8 << 20
_PIECE: Final = 65_536


class ApiRefusal(CliError):  # noqa: N818 - says what is the case
    """The data plane refused. ``status`` is HTTP's, ``api_code`` the stable code of the error body."""

    def __init__(self, status: int, api_code: str, message: str, retry_after: str | None) -> None:
        wait = f" (try again after {retry_after} s)" if retry_after else ""
        super().__init__(f"{api_code or status}: {message}{wait}")
        self.status = status
        self.api_code = api_code


class Endpoint:
    """A data plane's address and the credential for it. ``base``: URL with or without a trailing ``/v1``."""

    def __init__(self, base: str, key: str, *, timeout: float = 120.0) -> None:
        """Raises CliError when the URL cannot be one."""
        parts = urlsplit(base if "://" in base else f"http://{base}")
        try:
            port = parts.port
        except ValueError:
            raise CliError(f"--url: {base!r} has no valid port") from None
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
            raise CliError(f"--url: {base!r} is not http(s)://host[:port]")
        self._https = parts.scheme == "https"
        self._host, self._port = parts.hostname, port
        self._prefix = parts.path.rstrip("/").removesuffix("/v1")
        self._key = key
        self._timeout = timeout
        self.url = f"{parts.scheme}://{parts.netloc}{self._prefix}"

    def get(self, path: str) -> dict[str, Any]:
        """A JSON object. Raises ApiRefusal or CliError."""
        return self._json(*self._send("GET", path, None))

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """A JSON object for a JSON object. Raises ApiRefusal or CliError."""
        return self._json(*self._send("POST", path, body))

    def stream(self, path: str, body: dict[str, Any]) -> Iterator[sse.Event]:
        """Events of a streamed answer, as they come. Raises ApiRefusal or CliError, also in the middle."""
        connection, response = self._send("POST", path, body)
        try:
            if response.status != 200:
                raise self._refusal(response)
            if "text/event-stream" not in (response.getheader("content-type") or ""):
                raise CliError(f"{self.url} does not stream here: use --no-stream, or look at --url")
            yield from sse.parse(iter(lambda: response.read1(_PIECE), b""))
        except (OSError, http.client.HTTPException, sse.EventTooLarge) as error:
            raise CliError(
                f"the answer of {self.url} broke off: {one_line(str(error) or type(error).__name__)}"
            ) from None
        finally:
            connection.close()

    def _send(
        self, method: str, path: str, body: dict[str, Any] | None
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection: http.client.HTTPConnection
        if self._https:
            connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=self._timeout, context=ssl.create_default_context()
            )
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        headers = {"Accept": "application/json, text/event-stream", "Authorization": f"Bearer {self._key}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            data = None if body is None else json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")
            connection.request(method, self._prefix + path, body=data, headers=headers)
            return connection, connection.getresponse()
        except (OSError, http.client.HTTPException, ValueError) as error:
            connection.close()
            raise CliError(
                f"nothing answers at {self.url}: {one_line(str(error) or type(error).__name__)}; "
                "is it running, and is --url right?"
            ) from None

    def _json(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> dict[str, Any]:
        try:
            if response.status != 200:
                raise self._refusal(response)
            data = response.read(_ANSWER_MAX + 1)
        except (OSError, http.client.HTTPException) as error:
            raise CliError(
                f"the answer of {self.url} broke off: {one_line(str(error) or type(error).__name__)}"
            ) from None
        finally:
            connection.close()
        value = _decoded(data)
        if value is None or len(data) > _ANSWER_MAX:
            raise CliError(f"{self.url} does not answer as a data plane does: is --url right?")
        return value

    def _refusal(self, response: http.client.HTTPResponse) -> CliError:
        error = (_decoded(response.read(_ANSWER_MAX)) or {}).get("error")
        if not isinstance(error, dict):
            return CliError(
                f"{self.url} answers {response.status} {response.reason} and is no data plane: is --url right?"
            )
        return refusal(error, response.status, response.getheader("retry-after"))


def refusal(error: dict[str, Any], status: int, retry_after: str | None = None) -> ApiRefusal:
    """From an error object in OpenAI's shape."""
    return ApiRefusal(status, str(error.get("code") or ""), one_line(str(error.get("message", ""))), retry_after)


def _decoded(data: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
