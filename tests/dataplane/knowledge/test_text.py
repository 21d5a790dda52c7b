"""Parsers: what a reader reads, in order, under its headings."""

import pytest

from tenantplane_api.runtime.indexjob import Chunking
from tenantplane_dataplane.knowledge.blocks import ParsedDocument
from tenantplane_dataplane.knowledge.chunk import chunk
from tenantplane_dataplane.knowledge.html import UnparsableError
from tenantplane_dataplane.knowledge.text import decode_text, parse_document


def parse(text: str | bytes, suffix: str) -> ParsedDocument:
    return parse_document(text if isinstance(text, bytes) else text.encode(), suffix=suffix, name=f"file.{suffix}")


def test_html_keeps_the_text_and_drops_the_furniture() -> None:
    page = """<html><head><title>Acme &amp; Co</title><style>p{}</style></head><body>
    <nav>menu</nav><header><h1>Top<a class="headerlink">#</a></h1>slogan</header>
    <p>First <b>bold</b>
    text&nbsp;here.</p><div hidden>secret</div><script>evil()</script>
    <ul><li>one<li>two<ul><li>inner</ul></ul><ol><li>first<li>second</ol>
    <h2>Prices</h2><table><thead><tr><th>Plan<th>Price</thead><tr><td>Basic<td>10 &euro;</table>
    <dl><dt>ARR<dd>Annual recurring revenue</dl><pre>a
  b</pre><footer>imprint</footer></body></html>"""
    document = parse(page, "html")
    assert document.title == "Acme & Co"
    assert document.text.split("\n") == [
        *["Top", "", "First bold text here.", ""],
        *["- one", "- two", "  - inner", "1. first", "2. second", ""],
        *["Prices", "", "Plan: Basic | Price: 10 €", "ARR: Annual recurring revenue", "a", "  b"],
    ]
    assert {block.section for block in document.blocks} == {("Top",), ("Top", "Prices")}


def test_html_reads_main_only_when_there_is_one() -> None:
    document = parse("<body><div>side</div><main><p>body</p></main></body>", "html")
    assert document.text == "body"


def test_html_layout_tables_and_tables_without_header() -> None:
    assert parse("<table><tr><td><ul><li>x</ul></td><td>y</td></tr></table>", "html").text == "- x\n\ny"
    assert parse("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td><td></td></tr></table>", "html").text == "a | b\nc"


def test_html_of_unreasonable_depth_is_refused_at_once() -> None:
    with pytest.raises(UnparsableError, match="nest deeper"):
        parse("<div>" * 200_000 + "x", "html")
    assert parse("<div>" * 1000 + "x", "html").text == "x"
    assert parse("<p>a<br><img src=x>" * 5000, "html").text.startswith("a\n\na")


def test_markdown_structure() -> None:
    source = (
        '---\ntitle: "Hello"\n---\n# Top\n\nIntro *text* with [link](http://x) and `code`.\nmore\n\n- a\n- b\n  - c\n\n'
        "3. one\n4. two\n\n## Table\n\n| A | B |\n|---|---|\n| 1 | 2 |\n\n"
        "<div>html <b>block</b></div>\n\n```sh\nls\n```\n"
    )
    document = parse(source, "md")
    assert document.title == "Hello"
    assert document.text.split("\n") == [
        *["Top", "", "Intro text with link and code. more", "", "- a", "- b", "  - c", "3. one", "4. two", ""],
        *["Table", "", "A: 1 | B: 2", "", "html block", "", "ls"],
    ]


def test_plain_text_headings_wrapping_questions_and_glossary() -> None:
    source = (
        "THE HANDBOOK\n\nIntroduction\n============\nThis paragraph was wrapped by hand at some sixty characters,\n"
        "as people used to do.\n\n1. Second chapter\n\n- item one\n  goes on\n- item two\n\n"
        "Q: Why?\nA: Because.\n\nBlind receipt\nReceiving goods without a notice.\n"
    )
    document = parse(source, "txt")
    assert document.title == "THE HANDBOOK"
    assert document.text.split("\n\n") == [
        "THE HANDBOOK",
        "Introduction",
        "This paragraph was wrapped by hand at some sixty characters, as people used to do.",
        "1. Second chapter",
        "- item one goes on\n- item two\nQ: Why? A: Because.\nBlind receipt: Receiving goods without a notice.",
    ]


@pytest.mark.parametrize(
    ("data", "html", "expected"),
    [
        (b"\xef\xbb\xbfa\xc3\xa9", False, "aé"),
        ("aé".encode("utf-16"), False, "aé"),
        (b"caf\xe9", False, "caf\ufffd"),
        (b'<meta charset="iso-8859-1">caf\xe9', True, '<meta charset="iso-8859-1">café'),
        (b"<meta http-equiv=x content='text/html; charset=windows-1251'>\xef", True, None),
        (b'<meta charset="zlib">caf\xc3\xa9', True, '<meta charset="zlib">café'),
        (b'<meta charset="unicode_escape">\\x41', True, '<meta charset="unicode_escape">\\x41'),
    ],
)
def test_charsets(data: bytes, html: bool, expected: str | None) -> None:
    text = decode_text(data, html=html)
    assert text == expected if expected else text.endswith("п")


@pytest.mark.parametrize("suffix", ["txt", "md", "html"])
@pytest.mark.parametrize(
    "hostile", ["- a\n" * 40_000, "# h\n\n" * 20_000, "<li>x" * 60_000, " " * 500_000, "\n \n" * 200_000, "[" * 20_000]
)
def test_hostile_documents_take_linear_time(suffix: str, hostile: str) -> None:
    """A quadratic step would run into the test's timeout by far."""
    document = parse(hostile, suffix)
    assert len(chunk(document, Chunking())) < 100_000


def test_binary_is_no_text() -> None:
    with pytest.raises(UnparsableError, match="NUL"):
        parse(b"\x7fELF\0\0", "txt")
