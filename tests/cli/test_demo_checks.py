"""The demo's own checks must fail when what they guard against happens: a leak, a missing citation, a wrong refusal.

The data plane is a stub here, because the real one does not do what these tests need it to do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tenantplane_cli.conversation import Answer
from tenantplane_cli.demo import checks
from tenantplane_cli.demo.checks import Customer
from tenantplane_cli.demo.parts import DemoError, Example, Question, example, free_port, platform
from tenantplane_cli.demo.view import View
from tenantplane_cli.endpoint import ApiRefusal, Endpoint

QUESTION = Question("How much?", ("EUR 1",), "prices/list.md", ("EUR 2",))
CITED = [{"document": "handbook/prices/list.md", "snippet": "EUR 1"}]


class Stub(Endpoint):
    """Answers what it is told."""

    def __init__(self, answers: dict[str, Any]) -> None:
        super().__init__("http://127.0.0.1:1", "key")
        self._answers = answers

    def get(self, path: str) -> dict[str, Any]:
        return self.post(path, {})

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        found = self._answers[path]
        if isinstance(found, Exception):
            raise found
        return dict(found)


def customer(name: str, answers: dict[str, Any], aliases: list[str], assistants: list[str]) -> Customer:
    tenant = {
        "metadata": {"name": name},
        "spec": {
            "tenantID": f"{name}-12345678",
            "models": [{"alias": alias} for alias in aliases],
            "assistants": [{"name": assistant} for assistant in assistants],
        },
    }
    return Customer(Example(name, [], tenant, Path(), (QUESTION,)), Stub(answers), "key")


NOBODY = customer("a", {}, [], [])


def test_a_grounded_answer_passes() -> None:
    checks.verify_grounded(NOBODY, QUESTION, Answer("It is EUR 1. [1]", CITED))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer("I do not know.", CITED), "should be answered with 'EUR 1'"),
        (Answer("It is EUR 1.", []), "cites nothing"),
        (Answer("It is EUR 1.", [{"document": "handbook/other.md"}]), r"should cite prices/list\.md"),
        (Answer("It is EUR 1 or EUR 2.", CITED), "LEAK: a was told 'EUR 2'"),
        (Answer("It is EUR 1.", [*CITED, {"document": "x", "snippet": "EUR 2"}]), "LEAK: a was told 'EUR 2'"),
    ],
)
def test_what_is_not_grounded_or_leaks_fails(answer: Answer, words: str) -> None:
    with pytest.raises(DemoError, match=words):
        checks.verify_grounded(NOBODY, QUESTION, answer)


REFUSED = ApiRefusal(404, "model_not_found", "no", None)


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({"/v1/chat/completions": {}, "/chat": REFUSED, "/v1/models": {"data": []}}, "LEAK: a's key was served b-fast"),
        (
            {"/v1/chat/completions": REFUSED, "/chat": {}, "/v1/models": {"data": []}},
            "LEAK: .*secret-desk through /chat",
        ),
        (
            {"/v1/chat/completions": REFUSED, "/chat": REFUSED, "/v1/models": {"data": [{"id": "b-fast"}]}},
            "LEAK: a sees b-fast in /v1/models",
        ),
        ({"/v1/chat/completions": ApiRefusal(403, "x", "no", None)}, "expected 404 model_not_found, got x"),
    ],
)
def test_finding_something_of_another_tenant_fails(answers: dict[str, Any], words: str) -> None:
    b = customer("b", {}, ["shared", "b-fast"], ["handbook", "secret-desk"])
    with pytest.raises(DemoError, match=words):
        checks.nothing_of(b, customer("a", answers, ["shared"], ["handbook"]))


def test_finding_nothing_passes() -> None:
    answers = {"/v1/chat/completions": REFUSED, "/chat": REFUSED, "/v1/models": {"data": [{"id": "a-fast"}]}}
    b = customer("b", {}, ["b-fast"], ["secret-desk"])
    assert checks.nothing_of(b, customer("a", answers, ["a-fast"], [])) == ["b-fast", "assistant/secret-desk"]


@pytest.mark.parametrize("answers", [{"/v1/models": {"data": []}}, {"/v1/models": ApiRefusal(500, "x", "no", None)}])
def test_an_unknown_key_that_is_not_refused_fails(answers: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "Endpoint", lambda *_: Stub(answers))
    with pytest.raises(DemoError):
        checks.stranger(NOBODY)


def test_an_engine_that_is_not_the_fake_one_is_noticed() -> None:
    answer = {"choices": [{"message": {"content": "I am a real model."}}]}
    with pytest.raises(DemoError, match="answered 'I am a real model"):
        checks.through_engine(customer("a", {"/v1/chat/completions": answer}, ["a"], []), fake=True)


def test_the_examples_ask_both_the_same_with_different_answers() -> None:
    a, b = (Customer(example(name), Stub({}), "key") for name in ("acme", "borealis"))
    found = checks.pairs(a, b)
    assert len(found) >= checks.PAIRS
    assert all(not set(mine.answer) & set(theirs.answer) for mine, theirs in found)
    assert set(a.example.aliases).isdisjoint(b.example.aliases)
    assert set(b.example.assistants) - set(a.example.assistants)


def test_the_platform_file_is_valid(tmp_path: Path) -> None:
    import yaml

    from tenantplane_api.runtime.platform import parse_platform

    hosts = [{"host": "127.0.0.1", "http": True, "private": True}]
    text = platform(
        documents=tmp_path, store=tmp_path / "a b", public_url="http://127.0.0.1:1", probe_port=free_port(), hosts=hosts
    )
    found = parse_platform(yaml.safe_load(text))
    assert found.operator.indexer.runner == "Subprocess"
    assert found.operator.plans["default"].quota, "the chart's plan is used"
    assert [rule.host for rule in found.shared.external_hosts] == ["127.0.0.1"]


def test_a_step_that_raises_is_shown_as_failed(capsys: pytest.CaptureFixture[str]) -> None:
    with View() as view:
        with view.step("works") as step:
            step.note = "well\x1b[2J"
        with pytest.raises(DemoError), view.step("breaks"):
            raise DemoError("no")
    printed = capsys.readouterr().out
    assert "✓ works" in printed
    assert "✗ breaks" in printed
    assert "\x1b" not in printed
