"""Bytes to text to blocks: charset detection, plain text and Markdown, and the choice of parser by file ending."""

import codecs
import re
from collections.abc import Callable
from itertools import pairwise
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

from tenantplane_dataplane.knowledge.blocks import DocumentBuilder, ParsedDocument
from tenantplane_dataplane.knowledge.html import UnparsableError, parse_html, row_lines
from tenantplane_dataplane.knowledge.identity import clean_text

_BOMS: Final = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_META: Final = re.compile(
    rb"<(?:meta|\?xml)[^>]{0,200}?(?:charset|encoding)\s*=\s*[\"']?\s*([A-Za-z0-9._:-]{2,40})", re.I
)
_META_SEARCH: Final = 4096
_CHARSETS: Final = {
    "ascii": "cp1252",
    "us-ascii": "cp1252",
    "latin1": "cp1252",
    "windows-1252": "cp1252",
    **{f"iso-8859-{n}": f"iso8859-{n}" for n in (2, 3, 4, 5, 6, 7, 8, 10, 13, 14, 15, 16)},
    "iso-8859-1": "cp1252",
    "iso-8859-9": "cp1254",
    **{f"windows-{n}": f"cp{n}" for n in range(1250, 1259) if n != 1252},
    **{name: name for name in ("koi8-r", "koi8-u", "shift_jis", "euc-jp", "euc-kr", "gbk", "gb18030", "big5")},
    "gb2312": "gbk",
}
"""What a page may name, and Python's codec for it; Latin-1 means Windows-1252, as browsers read it (WHATWG)."""

_UNDERLINE: Final = re.compile(r"^(=+|-{3,}|~{3,})$")
_NUMBERED: Final = re.compile(r"^\d{1,2}(\.\d{1,2}){0,3}\.?\s+[A-Z].{0,78}[^.:;,?!]$")
_QUESTION: Final = re.compile(r"^\s*(?:Q|Question)\s*\d*\s*[:.]\s", re.I)
_TERM: Final = re.compile(r"^\S.{0,58}[^\s.:;,?!]$")
_ITEM: Final = re.compile(r"^\s*(?:[-*+\u2022\u2013]|\d{1,3}[.)]|[a-z][.)])\s+")
_FRONT_MATTER: Final = re.compile(r"\A---[ \t]*\n(.{0,4000}?)\n---[ \t]*\n", re.S)
_FRONT_TITLE: Final = re.compile(r"^title:[ \t]*[\"']?(.+?)[\"']?[ \t]*$", re.M)
_WRAPPED: Final = 50
_TITLE_LINE: Final = 90


def preload_codecs() -> None:
    """Load every codec that ``decode_text`` may need: later the process may be unable to read Python's own files."""
    for codec in {*_CHARSETS.values(), *(codec for _, codec in _BOMS), "utf-8"}:
        codecs.lookup(codec)


def decode_text(data: bytes, *, html: bool) -> str:
    """Decode by byte order mark, then (HTML) by the page's own word, then as UTF-8 with replacement.

    Raises:
        UnparsableError: the bytes are not text at all.
    """
    for mark, codec in _BOMS:
        if data.startswith(mark):
            return data.decode(codec, "replace")
    if b"\0" in data:
        raise UnparsableError("holds NUL bytes: not a text file")
    if html and (match := _META.search(data[:_META_SEARCH])):
        declared = _CHARSETS.get(match.group(1).decode("ascii").lower())
        if declared:
            return data.decode(declared, "replace")
    return data.decode("utf-8", "replace")


def parse_plain(text: str, name: str) -> ParsedDocument:
    """Plain text: paragraphs by blank lines, underlined, numbered or upper-case headings, hard-wrapped lines joined."""
    builder = DocumentBuilder()
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    if first and len(first) <= _TITLE_LINE and not first.endswith((".", ",", ";")):
        builder.set_title(first)
    for paragraph in re.split(r"\n[ \t]*(?:\n[ \t]*)+", clean_text(text)):
        lines = [line.rstrip() for line in paragraph.strip("\n").split("\n") if line.strip()]
        while len(lines) >= 2 and _UNDERLINE.match(lines[1].strip()) and len(lines[0].strip()) <= 100:
            builder.heading(1 if lines[1].strip().startswith("=") else 2, lines[0])
            lines = lines[2:]
        if len(lines) == 1 and _is_heading(lines[0].strip()):
            builder.heading(2 + lines[0].split()[0].strip(".").count("."), lines[0])
        elif lines and _QUESTION.match(lines[0]):
            builder.lines(" ".join(line.strip() for line in lines))  # question and answer are read together
        elif len(lines) == 2 and _TERM.match(lines[0]) and lines[1].endswith((".", "!", "?")):
            builder.lines(f"{lines[0]}: {lines[1].strip()}")  # a glossary entry
        elif lines and _is_wrapped(lines):
            builder.paragraph(" ".join(lines))
        elif lines:
            builder.lines("\n".join(_join_items(lines)))
    return builder.build(name)


def _is_heading(line: str) -> bool:
    letters = [char for char in line if char.isalpha()]
    upper = len(letters) >= 4 and len(line) <= 80 and all(char.isupper() for char in letters)
    return bool(_NUMBERED.match(line)) or (upper and not line.endswith((".", "!", "?", ";")))


def _is_wrapped(lines: list[str]) -> bool:
    """True for running text: no items, no columns, and every line but the last long enough to have been wrapped."""
    if any(_ITEM.match(line) or "\t" in line.strip() or "   " in line.strip() for line in lines):
        return False
    return all(len(line) >= _WRAPPED for line in lines[:-1])


def _join_items(lines: list[str]) -> list[str]:
    """Lines of a list or table; an indented line that goes on with an item is joined to it."""
    if not any(_ITEM.match(line) for line in lines):
        return lines
    joined: list[str] = []
    for line in lines:
        if joined and line[0] in " \t" and not _ITEM.match(line) and _ITEM.match(joined[-1]):
            joined[-1] += " " + line.strip()
        else:
            joined.append(line)
    return joined


_MARKDOWN: Final = MarkdownIt("commonmark", {"html": True}).enable("table")


def parse_markdown(text: str, name: str) -> ParsedDocument:
    """CommonMark with tables and front matter; links keep their text, images their description, HTML its text."""
    builder = DocumentBuilder()
    text = clean_text(text)
    if front := _FRONT_MATTER.match(text):
        if title := _FRONT_TITLE.search(front.group(1)):
            builder.set_title(title.group(1))
        text = text[front.end() :]
    _MarkdownBlocks(builder).run(_MARKDOWN.parse(text))
    return builder.build(name)


class _MarkdownBlocks:
    """Turns markdown-it's token stream into blocks."""

    def __init__(self, builder: DocumentBuilder) -> None:
        self._builder = builder
        self._lists: list[int | None] = []  # open lists: next number, or None for bullets
        self._marker = ""  # the prefix of the next line of a list item
        self._row: list[str] = []
        self._rows: list[list[str]] = []
        self._has_header = False

    def run(self, tokens: list[Token]) -> None:
        for previous, token in pairwise([Token("", "", 0), *tokens]):
            kind = token.type
            if kind == "inline":
                self._inline(previous, _plain(token))
            elif kind in ("fence", "code_block"):
                self._builder.lines(token.content)
            elif kind == "html_block":
                for line in parse_html(token.content, "").text.split("\n"):
                    self._builder.paragraph(line)
            elif kind in ("bullet_list_open", "ordered_list_open"):
                self._lists.append(int(token.attrs.get("start", 1)) if kind.startswith("ordered") else None)
            elif kind in ("bullet_list_close", "ordered_list_close"):
                self._lists.pop()
            elif kind == "list_item_open":
                self._item()
            else:
                self._table(kind)

    def _item(self) -> None:
        number = self._lists[-1]
        indent = "  " * (len(self._lists) - 1)
        self._marker = indent + ("- " if number is None else f"{number}. ")
        if number is not None:
            self._lists[-1] = number + 1

    def _inline(self, previous: Token, text: str) -> None:
        if previous.type == "heading_open":
            self._builder.heading(int(previous.tag[1]), text)
        elif previous.type in ("th_open", "td_open"):
            self._row.append(text)
        elif self._lists:
            marker, self._marker = self._marker or "  " * len(self._lists), ""
            self._builder.lines(marker + " ".join(text.split()))
        elif "\n" in text:
            self._builder.lines(text)
        else:
            self._builder.paragraph(text)

    def _table(self, kind: str) -> None:
        if kind == "table_open":
            self._rows = []
        elif kind in ("th_open", "td_open"):
            return
        elif kind == "tr_close":
            self._rows.append(self._row)
            self._row = []
        elif kind == "table_close":
            self._builder.lines("\n".join(row_lines(self._rows, header=True)))


def _plain(token: Token) -> str:
    parts: list[str] = []
    for child in token.children or []:
        if child.type in ("text", "code_inline"):
            parts.append(child.content)
        elif child.type == "image":
            parts.append(_plain(child) if child.children else child.content)
        elif child.type == "softbreak":
            parts.append(" ")
        elif child.type == "hardbreak" or (child.type == "html_inline" and child.content.startswith("<br")):
            parts.append("\n")
    return "".join(parts)


_PARSERS: Final[dict[str, Callable[[str, str], ParsedDocument]]] = {
    "txt": parse_plain,
    "text": parse_plain,
    "md": parse_markdown,
    "markdown": parse_markdown,
    "html": parse_html,
    "htm": parse_html,
    "xhtml": parse_html,
}
SUFFIXES: Final = frozenset(_PARSERS)
"""File endings that have a parser."""


def parse_document(data: bytes, *, suffix: str, name: str) -> ParsedDocument:
    """Parse one file.

    Args:
        data: its bytes.
        suffix: one of ``SUFFIXES``.
        name: file name, the title of last resort.

    Raises:
        UnparsableError: it is not what its ending says.
    """
    parser = _PARSERS[suffix]
    return parser(decode_text(data, html=parser is parse_html), name)
