"""What the demo proves by asking: grounded answers, citations, and that no tenant finds anything of another.

Every check raises `DemoError` with what was expected and what came. Nothing here trusts the operator's word: only what
an HTTP client sees counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tenantplane_cli.conversation import Answer, Conversation, citation_lines
from tenantplane_cli.demo.parts import DemoError, Example, Programs, Question
from tenantplane_cli.endpoint import ApiRefusal, Endpoint
from tenantplane_cli.output import CliError, one_line

NOT_YET: Final = frozenset({"invalid_api_key", "not_ready", "index_unavailable", "tenant_config_invalid"})
"""What a data plane may say until it has seen what the operator just published."""
PICK_UP_SECONDS: Final = 20.0
PAIRS: Final = 4


@dataclass(frozen=True)
class Customer:
    """One tenant as its own client sees it."""

    example: Example
    endpoint: Endpoint
    key: str

    @property
    def name(self) -> str:
        return self.example.name

    def ask(self, question: str) -> Answer:
        """Ask its handbook assistant."""
        return Conversation(self.endpoint, "handbook", None).ask(question, stream=False, on_text=lambda _: None)


def first_answer(customer: Customer, programs: Programs) -> tuple[Question, Answer]:
    """The first grounded answer; waits until the data plane has picked up what was published."""
    question = customer.example.questions[0]
    deadline = time.monotonic() + PICK_UP_SECONDS
    while True:
        programs.check()
        try:
            answer = customer.ask(question.text)
            break
        except ApiRefusal as refusal:
            if refusal.api_code not in NOT_YET or time.monotonic() > deadline:
                raise DemoError(f"{customer.name}: /chat answers {refusal}", log="data plane") from None
        except CliError as error:  # not listening yet
            if time.monotonic() > deadline:
                raise DemoError(str(error), log="data plane") from None
        time.sleep(0.1)
    verify_grounded(customer, question, answer)
    return question, answer


def verify_grounded(customer: Customer, question: Question, answer: Answer) -> None:
    """The answer holds what the document says, cites that document, and nothing of the other tenant."""
    for expected in question.answer:
        if expected not in answer.text:
            raise DemoError(
                f"{customer.name}: {question.text!r} should be answered with {expected!r}; it was: "
                f"{one_line(answer.text)}",
                log="data plane",
            )
    cited = [str(citation["document"]) for citation in answer.citations]
    if not any(document.endswith("/" + question.document) for document in cited):
        raise DemoError(
            f"{customer.name}: the answer should cite {question.document}; it cites {', '.join(cited) or 'nothing'}",
            log="data plane",
        )
    verify_no_leak(customer, question, answer)


def verify_no_leak(customer: Customer, question: Question, answer: Answer) -> None:
    """Nothing in answer or citations stands only in the other tenant's documents."""
    everything = answer.text + "".join(str(citation) for citation in answer.citations)
    for foreign in question.never:
        if foreign in everything:
            raise DemoError(f"LEAK: {customer.name} was told {foreign!r}, which is another tenant's", log="data plane")


def pairs(a: Customer, b: Customer) -> list[tuple[Question, Question]]:
    """Questions that both customers ask in the same words, with their different answers."""
    theirs = {question.text: question for question in b.example.questions}
    return [(mine, theirs[mine.text]) for mine in a.example.questions if mine.text in theirs]


def same_question(a: Customer, b: Customer, tell: Callable[[str], None]) -> int:
    """The same questions to both: each answers from its own documents only. Returns how many were asked."""
    found = pairs(a, b)[:PAIRS]
    if not found:
        raise DemoError("the examples have no question in common")
    for number, (mine, theirs) in enumerate(found):
        for customer, question, other in ((a, mine, theirs), (b, theirs, mine)):
            answer = customer.ask(question.text)
            verify_grounded(customer, question, answer)
            # Not only what the examples list as a leak: the other one's answer itself must not be in it.
            foreign = Question(question.text, (), "", tuple(set(other.answer) - set(question.answer)))
            verify_no_leak(customer, foreign, answer)
            if number == 0:
                tell(f"  {customer.name}: {one_line(answer.text, 160)}")
                for line in citation_lines(answer.citations)[:2]:
                    tell(f"    {line}")
    return len(found)


def nothing_of(other: Customer, customer: Customer) -> list[str]:
    """``customer``'s key finds neither alias nor assistant of ``other``. Returns what was refused."""
    refused = []
    aliases = sorted(set(other.example.aliases) - set(customer.example.aliases))
    assistants = sorted(set(other.example.assistants) - set(customer.example.assistants))
    body: dict[str, object] = {"messages": [{"role": "user", "content": "Who are you?"}]}
    for model in [*aliases, *(f"assistant/{name}" for name in assistants)]:
        _expect_404(customer, model, "/v1/chat/completions", {**body, "model": model})
        refused.append(model)
    for name in assistants:
        _expect_404(customer, f"{name} through /chat", "/chat", {"query": "Who are you?", "assistant": name})
    listed = {str(entry["id"]) for entry in customer.endpoint.get("/v1/models")["data"]}
    if listed & set(refused):
        raise DemoError(
            f"LEAK: {customer.name} sees {', '.join(sorted(listed & set(refused)))} in /v1/models", log="data plane"
        )
    return refused


def _expect_404(customer: Customer, what: str, path: str, body: dict[str, object]) -> None:
    try:
        customer.endpoint.post(path, body)
    except ApiRefusal as refusal:
        if (refusal.status, refusal.api_code) == (404, "model_not_found"):
            return
        raise DemoError(f"{customer.name} asking for {what}: expected 404 model_not_found, got {refusal}") from None
    raise DemoError(f"LEAK: {customer.name}'s key was served {what}", log="data plane")


def through_engine(customer: Customer, *, fake: bool) -> str:
    """The shared model under the tenant's alias, plain and streaming. Returns the answer's beginning."""
    alias = customer.example.aliases[0]
    texts = []
    for stream in (False, True):
        pieces: list[str] = []
        talk = Conversation(customer.endpoint, None, alias)
        try:
            talk.ask("Say hello to the platform team.", stream=stream, on_text=pieces.append)
        except CliError as error:
            raise DemoError(f"{customer.name}: model {alias}, stream={stream}: {error}", log="data plane") from None
        text = "".join(pieces)
        if not text.strip() or (fake and "fake engine" not in text):
            raise DemoError(f"{customer.name}: model {alias} answered {one_line(text)!r}", log="fake engine")
        texts.append(text)
    return one_line(texts[0], 80)


def stranger(customer: Customer) -> None:
    """A well-formed key that nobody issued is refused."""
    from tenantplane_api.runtime.keys import generate_key

    try:
        Endpoint(customer.endpoint.url, generate_key().text).get("/v1/models")
    except ApiRefusal as refusal:
        if refusal.status == 401:
            return
        raise DemoError(f"an unknown key should be refused with 401, not {refusal}") from None
    raise DemoError("LEAK: an unknown key was served", log="data plane")
