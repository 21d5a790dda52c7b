"""API key text: what is generated parses, what was touched does not, and nothing shows the secret."""

import re
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantplane_api.runtime.keys import (
    KEY_HASH_PATTERN,
    KEY_LENGTH,
    ApiKeyText,
    KeyFormatError,
    generate_key,
    hash_key,
    parse_key,
)


def test_generated_keys_parse_and_differ() -> None:
    keys = [generate_key() for _ in range(50)]
    assert len({key.text for key in keys}) == len({key.key_id for key in keys}) == 50
    for key in keys:
        assert len(key.text) == KEY_LENGTH
        assert parse_key(key.text) == key
        assert re.fullmatch(KEY_HASH_PATTERN, key.digest)
        assert key.digest == hash_key(key.text)


def test_known_checksum() -> None:
    # Written a second time from the documented format, so that a change of alphabet, order or padding is seen.
    head = "tp_abcdefgh_" + "0" * 43
    value, digits = zlib.crc32(head.encode()), ""
    alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    for _ in range(6):
        value, rest = divmod(value, 62)
        digits = alphabet[rest] + digits
    assert parse_key(head + digits).key_id == "abcdefgh"


def test_repr_hides_the_text() -> None:
    key = generate_key()
    assert key.text not in repr(key)
    assert isinstance(key, ApiKeyText)


@given(position=st.integers(0, KEY_LENGTH - 1), character=st.characters())
def test_any_changed_character_is_refused(position: int, character: str) -> None:
    text = generate_key().text
    changed = text[:position] + character + text[position + 1 :]
    if changed == text:
        return
    with pytest.raises(KeyFormatError) as caught:
        parse_key(changed)
    assert text[15:] not in str(caught.value)


@given(st.text(max_size=200))
def test_garbage_is_refused_without_an_echo(text: str) -> None:
    with pytest.raises(KeyFormatError) as caught:
        parse_key(text)
    if len(text) > 8:
        assert text not in str(caught.value)
