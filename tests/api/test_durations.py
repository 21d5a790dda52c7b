"""Durations: what is read, what is refused."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantplane_api.runtime.durations import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"), [("0s", 0), ("90s", 90), ("1h30m", 5400), ("720h", 2_592_000), ("1h1m1s", 3661)]
)
def test_read(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "5", "1d", "-1h", "1.5h", "1m1h", "1h\n", " 1h", "1ms", "1H", "9999999h"])
def test_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="such as 90s"):
        parse_duration(text)


@given(st.integers(0, 9999), st.integers(0, 9999), st.integers(0, 9999))
def test_parts_add_up(hours: int, minutes: int, seconds: int) -> None:
    found = parse_duration(f"{hours}h{minutes}m{seconds}s")
    assert found == timedelta(hours=hours, minutes=minutes, seconds=seconds)
