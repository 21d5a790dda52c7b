"""A conversation with one assistant or model of a tenant, as its client sees it.

Guarantees: question and answer are remembered only when the answer came whole; the history is bounded. Used by
`tenantplane chat` and by the demo's checks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from tenantplane_cli.endpoint import Endpoint, refusal
from tenantplane_cli.output import CliError

_HISTORY_MAX: Final = 40


@dataclass
class Answer:
    """A whole answer; ``citations`` as the data plane gives them, empty from a model."""

    text: str = ""
    citations: list[dict[str, Any]] = field(default_factory=list)
    body: dict[str, Any] = field(default_factory=dict)


@dataclass
class Conversation:
    """Whom we talk to and what was said. Exactly one of ``assistant`` and ``model`` is set."""

    endpoint: Endpoint
    assistant: str | None
    model: str | None
    history: list[dict[str, str]] = field(default_factory=list)

    def ask(self, question: str, *, stream: bool, on_text: Callable[[str], None]) -> Answer:
        """Ask, and remember question and answer. ``on_text`` gets pieces as they come, or the whole."""
        answer = (
            self._ask_assistant(question, stream, on_text)
            if self.assistant
            else self._ask_model(question, stream, on_text)
        )
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer.text}]
        self.history = [*self.history, *turns][-_HISTORY_MAX:]
        return answer

    def _ask_assistant(self, question: str, stream: bool, on_text: Callable[[str], None]) -> Answer:
        body = {"query": question, "history": self.history, "assistant": self.assistant, "stream": stream}
        if stream:
            answer = Answer()
            for event in _events(self.endpoint, "/chat", body):
                if event.get("type") == "delta":
                    answer.text += str(event.get("text", ""))
                    on_text(str(event.get("text", "")))
                elif event.get("type") == "done":
                    return Answer(str(event["answer"]), list(event["citations"]), event)
            raise CliError("the answer broke off: ask again")
        found = self.endpoint.post("/chat", body)
        on_text(str(found["answer"]))
        return Answer(str(found["answer"]), list(found["citations"]), found)

    def _ask_model(self, question: str, stream: bool, on_text: Callable[[str], None]) -> Answer:
        messages = [*self.history, {"role": "user", "content": question}]
        body = {"model": self.model, "messages": messages, "stream": stream}
        answer = Answer()
        if stream:
            finished = False
            for event in _events(self.endpoint, "/v1/chat/completions", body):
                for choice in event.get("choices") or ():
                    text = str((choice.get("delta") or {}).get("content") or "")
                    answer.text += text
                    finished = finished or choice.get("finish_reason") is not None
                    on_text(text)
            if not finished:
                raise CliError("the answer broke off: ask again")
            return answer
        found = self.endpoint.post("/v1/chat/completions", body)
        choices = found.get("choices") or [{}]
        text = str((choices[0].get("message") or {}).get("content") or "")
        on_text(text)
        return Answer(text, [], found)


def citation_lines(citations: list[dict[str, Any]]) -> list[str]:
    """One line for each citation: its number in the answer, document and section."""
    lines = []
    for citation in citations:
        marker = citation.get("marker")
        number = f"[{marker}]" if marker is not None else "[-]"
        section = f" > {citation['section']}" if citation.get("section") else ""
        lines.append(f"  {number} {citation.get('document', '?')}{section}")
    return lines


def _events(endpoint: Endpoint, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Decoded data of a stream up to ``[DONE]``; an error event raises."""
    for event in endpoint.stream(path, body):
        if event.data == "[DONE]":
            return
        try:
            value = json.loads(event.data)
        except ValueError:
            raise CliError("the data plane sent an event that is not JSON") from None
        if isinstance(value, dict) and isinstance(value.get("error"), dict):
            raise refusal(value["error"], 200)
        if isinstance(value, dict):
            yield value
