"""A parsed document: plain text in blocks, each under its headings; what all parsers make and the chunker reads."""

from dataclasses import dataclass
from typing import Final, Literal

from tenantplane_dataplane.knowledge.identity import SECTION_DEPTH_MAX, SECTION_MAX, TITLE_MAX, clean_text, one_line

BlockKind = Literal["heading", "paragraph", "lines"]

SEPARATOR: Final = "\n\n"


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of text at ``text[start:end]`` of its document.

    ``lines`` are list items, table rows or code, one per line, which are never joined; ``section`` holds the headings
    above it, outermost first (for a heading: itself included).
    """

    kind: BlockKind
    section: tuple[str, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """``text`` is the plain text that all offsets refer to."""

    title: str
    text: str
    blocks: tuple[Block, ...]


class DocumentBuilder:
    """Collects blocks in reading order; keeps the heading path and the offsets."""

    def __init__(self) -> None:
        self._parts: list[list[str]] = []  # the lines of each block: appending to a long list must stay cheap
        self._blocks: list[Block] = []
        self._length = 0
        self._path: list[tuple[int, str]] = []
        self._title = ""

    def set_title(self, title: str) -> None:
        """A title found outside the text (``<title>``, front matter); the first one stays."""
        self._title = self._title or one_line(title, TITLE_MAX)

    def heading(self, level: int, text: str) -> None:
        """A heading of level 1 to 6; headings of the same or a deeper level end here."""
        line = one_line(text, SECTION_MAX)
        if line:
            self._path = [(depth, name) for depth, name in self._path if depth < level]
            self._path = [*self._path, (level, line)][-SECTION_DEPTH_MAX:]
            self._add("heading", line)

    def paragraph(self, text: str) -> None:
        """Running text; white space is folded."""
        self._add("paragraph", " ".join(clean_text(text).split()))

    def lines(self, text: str) -> None:
        """List items, table rows, code: line by line. Consecutive calls make one block."""
        cleaned = "\n".join(line.rstrip() for line in clean_text(text).split("\n") if line.strip())
        last = self._blocks[-1] if self._blocks else None
        if cleaned and last and last.kind == "lines" and last.section == self._section:
            self._parts[-1].append(cleaned)
            self._length += 1 + len(cleaned)
            self._blocks[-1] = Block("lines", last.section, last.start, last.end + 1 + len(cleaned))
        else:
            self._add("lines", cleaned)

    def build(self, fallback_title: str) -> ParsedDocument:
        """The document. Title: the given one, else the first top heading, else ``fallback_title``."""
        headings = [block.section[0] for block in self._blocks if block.kind == "heading"]
        title = self._title or (headings[0] if headings else "") or one_line(fallback_title, TITLE_MAX)
        return ParsedDocument(title, SEPARATOR.join("\n".join(lines) for lines in self._parts), tuple(self._blocks))

    @property
    def _section(self) -> tuple[str, ...]:
        return tuple(name for _, name in self._path)

    def _add(self, kind: BlockKind, text: str) -> None:
        if not text:
            return
        start = self._length + (len(SEPARATOR) if self._parts else 0)
        self._parts.append([text])
        self._length = start + len(text)
        self._blocks.append(Block(kind, self._section, start, self._length))
