"""Log lines: one record is one harmless line."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.dataplane.conftest import World
from tests.dataplane.harness import new_key

from tenantplane_cli.fakeengine import Fault
from tenantplane_dataplane.observability.logs import JsonFormatter, escape, get_logger


@given(st.text())
def test_a_value_is_printable_and_bounded(text: str) -> None:
    safe = escape(text, limit=20)
    assert safe.isprintable()
    assert len(safe) <= 20 * 10 + 1
    if text.isprintable() and len(text) <= 20:
        assert safe == text


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.addHandler(handler)
    before = root.level
    root.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(before)


def test_one_record_is_one_line(lines: io.StringIO) -> None:
    fields = {"tenant": "a\nlevel: error\u2028\x1b[31m", "level": "forged", "n": 3, "none": None}
    get_logger("test").error("hello %s", "x\ny", extra={"fields": fields})
    (line,) = lines.getvalue().splitlines()
    record = json.loads(line)
    assert record["level"] == "error"
    assert record["msg"] == "hello x\\ny"
    assert record["tenant"] == "a\\nlevel: error\\u2028\\x1b[31m"
    assert record["n"] == 3


def test_an_exception_is_logged_without_its_message(lines: io.StringIO) -> None:
    try:
        raise ValueError("canary-secret")
    except ValueError as error:
        get_logger("test").exception("failed", exc_info=error)
    record = json.loads(lines.getvalue())
    assert record["error"] == "ValueError"
    assert "test_logs.py" in record["where"]
    assert "canary-secret" not in lines.getvalue()


async def test_serving_logs_no_prompt_key_or_url(lines: io.StringIO, world: World) -> None:
    await world.plane.chat(world.acme, "chat", "canary-prompt")
    await world.plane.chat(new_key(), "canary-model")
    world.engine.fault = Fault(hang=0, status=500)
    await world.plane.chat(world.acme, "chat", "canary-prompt")
    await world.plane.request("GET", "/v1/models?canary-query=1", key=world.acme)
    written = "\n".join(line for line in lines.getvalue().splitlines() if '"logger":"tenantplane' in line)
    for secret in (
        "canary-prompt",
        "canary-query",
        "canary-model",
        world.acme.text,
        "upstream-secret-key",
        "127.0.0.1",
    ):
        assert secret not in written
