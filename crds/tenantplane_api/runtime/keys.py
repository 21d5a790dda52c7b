"""API key text: format, generation, checksum and hash.

``tp_`` + 8 lower-case base32 characters (key id) + ``_`` + 43 base62 characters (32 random bytes, big-endian,
zero-padded) + 6 base62 characters (CRC-32 of everything before them, big-endian, zero-padded); 61 characters in all.
The id is for logs and people, the checksum lets scanners and the data plane refuse garbage early. **Neither grants
anything**: a key is looked up by the SHA-256 of its whole text only.
"""

import hashlib
import re
import secrets
import zlib
from dataclasses import dataclass, field
from typing import Final

_BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BASE32: Final = "abcdefghijklmnopqrstuvwxyz234567"
_SECRET_CHARS: Final = 43
_CHECK_CHARS: Final = 6
_SHAPE: Final = re.compile(rf"tp_([a-z2-7]{{8}})_[0-9A-Za-z]{{{_SECRET_CHARS + _CHECK_CHARS}}}", re.ASCII)

KEY_LENGTH: Final = 3 + 8 + 1 + _SECRET_CHARS + _CHECK_CHARS
KEY_ID_PATTERN: Final = r"^[a-z2-7]{8}$"
KEY_HASH_PATTERN: Final = r"^sha256:[0-9a-f]{64}$"


class KeyFormatError(ValueError):
    """Raise when a text is not a well-formed API key. The message never contains the text."""


@dataclass(frozen=True, slots=True)
class ApiKeyText:
    """A well-formed API key: its public id, its hash, and the text itself (kept out of ``repr``)."""

    key_id: str
    digest: str
    text: str = field(repr=False)


def _base62(value: int, width: int) -> str:
    digits = []
    for _ in range(width):
        value, digit = divmod(value, 62)
        digits.append(_BASE62[digit])
    return "".join(reversed(digits))


def _checksum(head: str) -> str:
    return _base62(zlib.crc32(head.encode("ascii")), _CHECK_CHARS)


def hash_key(text: str) -> str:
    """``sha256:<hex>`` of the whole key text: the only thing that is ever published or looked up."""
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def generate_key() -> ApiKeyText:
    """A new key from the operating system's random source."""
    key_id = "".join(secrets.choice(_BASE32) for _ in range(8))
    head = f"tp_{key_id}_{_base62(int.from_bytes(secrets.token_bytes(32), 'big'), _SECRET_CHARS)}"
    text = head + _checksum(head)
    return ApiKeyText(key_id=key_id, digest=hash_key(text), text=text)


def parse_key(text: str) -> ApiKeyText:
    """Check shape and checksum of a presented key.

    Raises:
        KeyFormatError: the text is no API key of ours; a caller answers as for an unknown key.
    """
    match = _SHAPE.fullmatch(text)
    if match is None:
        raise KeyFormatError("not an API key: expected tp_<8 characters>_<49 characters>")
    if not secrets.compare_digest(text[-_CHECK_CHARS:], _checksum(text[:-_CHECK_CHARS])):
        raise KeyFormatError("not an API key: the checksum does not match, was it copied in full?")
    return ApiKeyText(key_id=match.group(1), digest=hash_key(text), text=text)
