"""The write guard: a process that may no longer write does not write.

``check`` is asked twice for every request that changes something: before the request is begun, and again when a
connection is there, directly before the first byte is sent. Between the two a process may wait for a connection, be
stopped or be suspended for any time. Does not guarantee that bytes that are already sent do not take effect; the
Lease's margin is for those.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

import aiohttp

if TYPE_CHECKING:
    from aiohttp.connector import Connection as PooledConnection
    from aiohttp.tracing import Trace

Check = Callable[[], None]
"""Returns when writing is allowed, raises otherwise."""

_current: ContextVar[Check | None] = ContextVar("write-guard", default=None)
_READS: Final = frozenset({"GET", "HEAD"})


@contextlib.contextmanager
def guarded(check: Check | None) -> Iterator[None]:
    """Ask ``check`` now and for each connection that a request of this block gets."""
    if check is None:
        yield
        return
    check()
    token = _current.set(check)
    try:
        yield
    finally:
        _current.reset(token)


class GuardedConnector(aiohttp.TCPConnector):
    """A connection pool that asks the guard of the current request before it hands out a connection."""

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: "list[Trace]",
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109
    ) -> "PooledConnection":
        """A connection for ``req``."""
        connection = await super().connect(req, traces, timeout)
        check = _current.get()
        if check is not None and req.method not in _READS:
            try:
                check()
            except BaseException:
                # Nothing was sent on it: it goes back as it came.
                connection.release()
                raise
        return connection
