"""Safe names: document ids, chunk ids and text that may be stored, logged and shown.

A file name is the sender's to choose: ``../../x``, newlines, NULs, direction overrides, bytes that are no UTF-8. Ids
are printable, bounded, NFC-normalised and never a path that leaves its folder; different names keep different ids.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from typing import Final

DOCUMENT_ID_MAX: Final = 240
TITLE_MAX: Final = 200
SECTION_MAX: Final = 120
SECTION_DEPTH_MAX: Final = 6
CHUNK_ID_LENGTH: Final = 16

_HASH_LENGTH: Final = 16
_UNCLEAN: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def _printable(char: str) -> bool:
    # Cc, Cf, Cs, Co, Cn, Zl, Zp: controls, direction overrides, surrogates, private and unassigned, line separators.
    category = unicodedata.category(char)
    return category[0] != "C" and category not in {"Zl", "Zp"}


def _escape(text: str, *, also: str = "") -> str:
    return "".join(
        char
        if _printable(char) and char not in also
        else "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogateescape"))
        for char in text
    )


def document_id(source: str, parts: Iterable[bytes]) -> str:
    """Id of a document: ``source/relative/path``.

    Args:
        source: name of the source, a DNS label.
        parts: the components of the relative path, as the file system has them.

    Unprintable characters, ``%``, slashes inside a part and undecodable bytes are percent-encoded; an id longer than
    240 characters is cut and ends in a hash of the whole.
    """
    safe: list[str] = [source]
    for part in parts:
        text = unicodedata.normalize("NFC", part.decode("utf-8", "surrogateescape"))
        escaped = _escape(text, also="%/\\")
        safe.append(escaped.replace(".", "%2E") if escaped in {"", ".", ".."} else escaped)
    joined = "/".join(safe)
    return joined if len(joined) <= DOCUMENT_ID_MAX else distinguished(joined, joined.encode())


def distinguished(identifier: str, raw: bytes) -> str:
    """The id, cut to fit, with a hash of ``raw``: for ids too long or, after normalisation, equal to another."""
    digest = hashlib.sha256(raw).hexdigest()[:_HASH_LENGTH]
    return f"{identifier[: DOCUMENT_ID_MAX - _HASH_LENGTH - 1]}~{digest}"


def is_safe_document_id(identifier: str) -> bool:
    """True for what ``document_id`` can have made."""
    parts = identifier.split("/")
    return (
        len(identifier) <= DOCUMENT_ID_MAX
        and len(parts) >= 2
        and all(part not in {"", ".", ".."} for part in parts)
        and "\\" not in identifier
        and all(map(_printable, identifier))
    )


def is_clean_text(text: str) -> bool:
    """True for text without controls (newline and tab excepted) and without surrogates."""
    return _UNCLEAN.search(text) is None


def clean_text(text: str) -> str:
    """The text in NFC with line ends as ``\\n`` and without other control characters or surrogates."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n")
    return _UNCLEAN.sub("", unicodedata.normalize("NFC", text))


def one_line(text: str, limit: int) -> str:
    """A title or heading: printable, single spaces, at most ``limit`` characters."""
    line = " ".join("".join(char if _printable(char) else " " for char in text).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "\u2026"


def chunk_id(*, tenant_id: str, index: str, document: str, content: str) -> str:
    """Id of a chunk: 16 hex digits of SHA-256 over the length-prefixed fields, so that no two readings collide."""
    digest = hashlib.sha256()
    for field in (tenant_id, index, document, content):
        data = field.encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()[:CHUNK_ID_LENGTH]
