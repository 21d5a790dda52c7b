"""Chunks lose nothing, overlap by sentences and stay within their size."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantplane_api.runtime.indexjob import Chunking
from tenantplane_dataplane.knowledge.blocks import DocumentBuilder, ParsedDocument
from tenantplane_dataplane.knowledge.chunk import chunk, sentences
from tenantplane_dataplane.knowledge.text import parse_document
from tenantplane_dataplane.knowledge.tokenizer import estimate_tokens

SMALL = Chunking(target_tokens=40, max_tokens=60, overlap_tokens=12)
BLOCKS = st.lists(
    st.tuples(
        st.sampled_from(["heading", "paragraph", "lines"]),
        st.text(st.sampled_from("ab. ?\nÄ1中|-"), max_size=300),
    ),
    max_size=25,
)


def build(blocks: list[tuple[str, str]]) -> ParsedDocument:
    builder = DocumentBuilder()
    for level, (kind, text) in enumerate(blocks):
        if kind == "heading":
            builder.heading(level % 6 + 1, text)
        elif kind == "paragraph":
            builder.paragraph(text)
        else:
            builder.lines(text)
    return builder.build("file")


@given(BLOCKS)
def test_no_word_is_lost_and_sizes_hold(blocks: list[tuple[str, str]]) -> None:
    document = build(blocks)
    spans = chunk(document, SMALL)
    covered = set[int]()
    for span in spans:
        assert 0 <= span.start < span.end <= len(document.text)
        assert span.tokens <= SMALL.max_tokens
        assert span.tokens == estimate_tokens(document.text[span.start : span.end])
        covered.update(range(span.start, span.end))
    assert all(at in covered for at, char in enumerate(document.text) if not char.isspace())
    assert [span.start for span in spans] == sorted(span.start for span in spans)
    assert all(left.end <= right.end for left, right in pairwise(spans))


@given(st.text(max_size=400))
def test_sentences_cover_the_text(text: str) -> None:
    spans = sentences(text)
    inside = {at for start, end in spans for at in range(start, end)}
    assert all(at in inside for at, char in enumerate(text) if not char.isspace())
    assert all(left[1] <= right[0] for left, right in pairwise(spans))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("See e.g. Section 4. Then stop.", ["See e.g. Section 4.", "Then stop."]),
        ("Ask Dr. Abery. He knows.", ["Ask Dr. Abery.", "He knows."]),
        ("It is 4.5 degrees. OK.", ["It is 4.5 degrees.", "OK."]),
        ("He said \u201cstop.\u201d They did.", ["He said \u201cstop.\u201d", "They did."]),
        ("1. Open the door.", ["1. Open the door."]),
        ("最初。次。", ["最初。", "次。"]),
    ],
)
def test_sentence_borders(text: str, expected: list[str]) -> None:
    assert [text[start:end] for start, end in sentences(text)] == expected


def test_chunks_follow_headings_and_overlap_by_sentences() -> None:
    filler = " ".join(f"Sentence number {n} has some seven words." for n in range(60))
    source = f"# Book\n\n## One\n\n{filler}\n\n## Two\n\n{filler}\n"
    document = parse_document(source.encode(), suffix="md", name="x.md")
    spans = chunk(document, Chunking())
    assert {span.section for span in spans} == {("Book", "One"), ("Book", "Two")}
    assert all(200 <= span.tokens <= 400 for span in spans if span.end < len(document.text) and span != spans[1])
    one, two = [document.text[span.start : span.end] for span in spans][:2]
    shared = re.findall(r"Sentence number \d+", two)[0]
    assert shared in one
    assert two.startswith("Sentence number")


def test_tiny_sections_share_a_chunk_and_bare_headings_join_what_follows() -> None:
    source = "# KPIs\n\n## A\n\n### ARR\n\nRevenue a year.\n\n### NPS\n\nWould they recommend us.\n"
    document = parse_document(source.encode(), suffix="md", name="x.md")
    spans = chunk(document, Chunking())
    assert [span.section for span in spans] == [("KPIs", "A")]
    assert document.text == document.text[spans[0].start : spans[0].end]
