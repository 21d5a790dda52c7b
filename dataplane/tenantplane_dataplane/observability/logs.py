"""One JSON object per line on stderr.

Guarantees: one record is one line, whatever a caller put into its fields (control characters, line separators and
escape sequences arrive escaped); fields given as ``extra={"fields": {...}}`` become top-level keys. Does not
guarantee that a field is harmless to know: callers never pass a prompt, an answer, a key, a header or a URL's query.
Exceptions are logged by type and place, never by their message, which may quote a caller's input.
"""

import logging
import sys
import time
import traceback
from typing import Any, Final, TextIO

import msgspec

ROOT: Final = "tenantplane"
_VALUE_MAX: Final = 512
_RESERVED: Final = frozenset({"ts", "level", "logger", "msg"})


def escape(text: str, *, limit: int = _VALUE_MAX) -> str:
    """``text`` with everything unprintable written as an escape sequence, cut to ``limit`` characters.

    A terminal that shows the log must not obey it (ESC sequences, bidirectional overrides), and a line-based collector
    must not see two lines (U+2028).
    """
    cut = text[:limit]
    safe = cut if cut.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in cut)
    return safe if len(text) <= limit else safe + "…"


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    return escape(str(value))


def _where(error: BaseException) -> str:
    """The innermost frames of a traceback as ``file:line:function``, without values."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    return " < ".join(f"{frame.filename.rpartition('/')[2]}:{frame.lineno}:{frame.name}" for frame in reversed(frames))


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON: ``ts`` (RFC 3339, UTC), ``level``, ``logger``, ``msg``, fields."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "ts": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": escape(record.getMessage(), limit=2048),
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            line.update({str(k): _plain(v) for k, v in fields.items() if k not in _RESERVED})
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = type(record.exc_info[1]).__name__
            line["where"] = _where(record.exc_info[1])
        return msgspec.json.encode(line).decode()


def setup_logging(*, level: str = "INFO", stream: TextIO | None = None) -> None:
    """Send every logger of this process to ``stream`` (default stderr) as JSON lines; replaces earlier handlers."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # A library's own lines may quote what a peer sent; ours say what matters.
    for noisy in ("uvicorn", "asyncio", "aiohttp", "watchfiles"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def get_logger(name: str) -> logging.Logger:
    """The logger ``tenantplane.<name>``."""
    return logging.getLogger(f"{ROOT}.{name}")
