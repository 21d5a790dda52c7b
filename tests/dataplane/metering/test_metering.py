"""Usage events: disjoint counts, one writer, nothing lost at a clean end, back-pressure instead of silence."""

import io
import json
import threading

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from tests.dataplane.conftest import World
from tests.dataplane.harness import new_key

from tenantplane_api.runtime.records import UsageEvent
from tenantplane_dataplane.metering.recorder import JsonLinesSink, Recorder
from tenantplane_dataplane.metering.usage import Draft, estimated_tokens, provider_tokens, rfc3339
from tenantplane_dataplane.observability.metrics import Metrics

JSON = {"Content-Type": "application/json"}


@given(st.integers(-5, 10_000), st.integers(-5, 10_000), st.integers(-5, 20_000))
def test_counts_are_disjoint(prompt: int, completion: int, cached: int) -> None:
    tokens = provider_tokens(prompt, completion, cached)
    assert tokens.input_uncached + tokens.cache_read == max(0, prompt)
    assert min(tokens.input_uncached, tokens.cache_read, tokens.output_text) >= 0


def test_an_estimate_is_marked_and_never_zero_for_something() -> None:
    tokens = estimated_tokens(input_bytes=1, output_tokens=3)
    assert (tokens.measured, tokens.input_uncached, tokens.output_text) == ("estimated", 1, 3)


def test_times() -> None:
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
    assert rfc3339(1_700_000_000.25) == "2023-11-14T22:13:20.250Z"


def event(number: int) -> UsageEvent:
    return Draft(request_id=f"req_{number}", route="/x", accepted=0.0).finish(now=1.0)


def test_a_clean_end_writes_everything_in_order() -> None:
    stream = io.BytesIO()
    recorder = Recorder(JsonLinesSink(stream), Metrics())
    recorder.start()
    for number in range(5000):
        recorder.record(event(number))
    assert recorder.close(10)
    lines = stream.getvalue().decode().splitlines()
    assert [json.loads(line)["id"] for line in lines] == [f"req_{n}" for n in range(5000)]


class StuckSink:
    """A pipe whose reader does not read."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.written = 0

    def write(self, events: list[UsageEvent]) -> None:
        self.go.wait(10)
        self.written += len(events)


def test_a_stuck_writer_stops_new_requests_before_events_are_lost() -> None:
    sink, metrics = StuckSink(), Metrics()
    recorder = Recorder(sink, metrics, capacity=80)
    recorder.start()
    accepted = 0
    while recorder.accepting:
        recorder.record(event(accepted))
        accepted += 1
    assert 60 <= accepted <= 80
    assert metrics.usage_lost._value.get() == 0
    sink.go.set()
    assert recorder.close(10)
    assert sink.written == accepted


class BrokenSink:
    def write(self, events: list[UsageEvent]) -> None:
        raise OSError("disk full")


def test_a_broken_writer_is_counted_and_goes_on() -> None:
    metrics = Metrics()
    recorder = Recorder(BrokenSink(), metrics)
    recorder.start()
    recorder.record(event(1))
    assert recorder.close(10)
    assert metrics.usage_lost._value.get() == 1


async def test_refused_requests_leave_an_event_from_authentication_on(world: World) -> None:
    await world.plane.chat(None, "chat")
    await world.plane.chat(new_key(), "chat")
    await world.plane.chat(world.acme, "nope")
    await world.plane.request("POST", "/v1/chat/completions", key=world.acme, data=b"{", headers=JSON)
    await world.plane.chat(world.acme, "chat")
    events = await world.plane.events(3)
    assert [(e.status, e.code) for e in events] == [(404, "model_not_found"), (400, "invalid_json"), (200, "")]
    assert {e.key_id for e in events} == {world.acme.entry.id}
    assert len({e.id for e in events}) == 3


async def test_no_event_holds_what_was_said_or_a_key(world: World) -> None:
    await world.plane.chat(world.acme, "chat", "canary-prompt")
    (written,) = await world.plane.events(1)
    text = msgspec.json.encode(written).decode()
    for secret in (
        "canary-prompt",
        "You said",
        world.acme.text,
        world.acme.entry.hash,
        "upstream-secret-key",
        "127.0.0.1",
    ):
        assert secret not in text
