"""Retrieval finds what is there, says nothing about what is not, and packs without repeating."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.dataplane.knowledge.building import ACME, HANDBOOK, build

from tenantplane_dataplane.knowledge.bm25 import BM25, build_bm25, idf
from tenantplane_dataplane.knowledge.cache import IndexCache
from tenantplane_dataplane.knowledge.generation import OpenIndex, open_index
from tenantplane_dataplane.knowledge.index import TenantIndexes
from tenantplane_dataplane.knowledge.pack import pack
from tenantplane_dataplane.knowledge.retrieve import Passage, RetrievalOptions, search
from tenantplane_dataplane.knowledge.tokenizer import estimate_tokens

OPTIONS = RetrievalOptions()


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> OpenIndex:
    built = build(tmp_path_factory.mktemp("retrieve"), HANDBOOK)
    return open_index(built.store, ACME, built.pointer)


@pytest.mark.parametrize(
    ("question", "document", "text"),
    [
        ("Within how many days can faulty goods be sent back?", "docs/returns.md", "within 30 days"),
        ("What is the price of express handling?", "docs/prices.html", "Service: Express handling | Price: EUR 42"),
        ("How high is the fuel surcharge?", "docs/prices.html", "Fuel surcharge: 4.5 percent of the freight."),
        ("who repairs the blast freezers", "docs/faq.txt", "Mirella Tosh"),
    ],
)
def test_finds(index: OpenIndex, question: str, document: str, text: str) -> None:
    found = search(index, question, OPTIONS)
    assert found.passages[0].document == document
    assert text in found.passages[0].text
    assert found.weights


@pytest.mark.parametrize("question", ["What is the capital of France?", "hello", "", "the of and", "\0\n", "?" * 5000])
def test_an_unrelated_question_finds_nothing(index: OpenIndex, question: str) -> None:
    found = search(index, question, OPTIONS)
    assert found.passages == ()
    assert found.weights is None


def test_the_gate_is_what_keeps_it_empty(index: OpenIndex) -> None:
    question = "Which office has the best football team and stadium?"
    assert search(index, question, OPTIONS).passages == ()
    assert search(index, question, RetrievalOptions(min_coverage=0.0)).passages


def test_a_huge_question_is_bounded(index: OpenIndex) -> None:
    search(index, " ".join(f"word{n}" for n in range(20_000)), OPTIONS)


def test_bm25_by_hand(tmp_path: Path) -> None:
    build_bm25([["a", "b", "a"], ["b"], ["c", "c"]], tmp_path)
    bm25 = BM25(tmp_path, 3)
    rows, scores = bm25.postings("a")
    assert rows.tolist() == [0]
    assert scores[0] == pytest.approx(idf(3, 1) * 2 / (2 + 1.2 * (0.25 + 0.75 * 3 / 2)))
    assert bm25.postings("b")[0].tolist() == [0, 1]
    assert bm25.postings("zebra")[0].tolist() == []


def passage(text: str, number: int = 0) -> Passage:
    return Passage(f"{number:016x}", "docs/a.md", "A", "", "docs", text, 1.0, "handbook")


def test_packing_keeps_the_budget() -> None:
    texts = ["one two three. " * 20, "four five. " * 200, "six seven.", "six"]
    packed = pack([passage(text, number) for number, text in enumerate(texts)], 120)
    assert [p.chunk_id[-1] for p in packed] == ["0", "2"]
    assert sum(estimate_tokens(p.text) for p in packed) <= 120
    cut = pack([passage("A sentence of six words here. " * 50)], 60)
    assert estimate_tokens(cut[0].text) <= 60
    assert cut[0].text.endswith("here.")
    assert pack([passage("word " * 500)], 60)[0].text.startswith("word word")
    assert pack([], 60) == ()


@pytest.fixture
def both(tmp_path: Path) -> Iterator[TenantIndexes]:
    handbook = build(tmp_path, HANDBOOK)
    other = build(tmp_path, {"tools.md": "# Tools\n\nThe torque wrench is kept in locker 12.\n"}, index="tools")
    cache = IndexCache(handbook.store, max_bytes=1 << 30)
    yield TenantIndexes(cache, ACME, [handbook.pointer, other.pointer])
    cache.close()


async def test_several_indices_answer_together(both: TenantIndexes) -> None:
    found = await both.search(["handbook", "tools"], "Where is the torque wrench kept?", OPTIONS)
    assert [(p.index, p.document) for p in found.passages] == [("tools", "docs/tools.md")]
    assert both.names == ("handbook", "tools")
    assert (await both.search([], "Where is the torque wrench kept?", OPTIONS)).passages == ()
