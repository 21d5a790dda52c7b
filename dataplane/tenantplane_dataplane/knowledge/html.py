"""HTML to blocks: what a reader of the page reads, without its furniture.

Scripts, styles, navigation, headers and footers are dropped (headings inside a ``header`` are kept), as are hidden
elements. Tables become one readable line per row, definition lists ``term: definition``. The walk keeps its own stack:
no nesting of a hostile page can exhaust Python's, and a page that nests beyond all reason is refused, because HTML5
tree building is quadratic in depth (200,000 open elements: three minutes). Broken markup is repaired as browsers do
(lexbor, HTML5).
"""

import re
from collections import Counter
from typing import Final

from selectolax.lexbor import LexborHTMLParser, LexborNode

from tenantplane_dataplane.knowledge.blocks import DocumentBuilder, ParsedDocument

_DROP: Final = frozenset(
    """
    script style nav footer template noscript svg math iframe object embed canvas audio video form button select
    input textarea dialog head menu map
    """.split()  # noqa: SIM905
)
_DROP_ROLES: Final = frozenset({"navigation", "banner", "search", "contentinfo", "menu", "menubar", "toolbar"})
_DROP_CLASSES: Final = frozenset({"headerlink", "sphinxsidebar", "related", "breadcrumb", "breadcrumbs"})
_HEADINGS: Final = {f"h{level}": level for level in range(1, 7)}
_BLOCKS: Final = frozenset(
    """
    address article aside blockquote body caption center dd details div dl dt fieldset figcaption figure hr header
    html li main ol p pre section summary table tbody td tfoot th thead tr ul
    """.split()  # noqa: SIM905
)
_PERMALINK: Final = "\u00b6\u00a7 "  # what documentation generators put beside a heading to link to it
_CELL_MAX: Final = 2000
_DEPTH_MAX: Final = 3000
_TAG: Final = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)")
_NEVER_DEEP: Final = frozenset(
    """
    area base br col embed hr img input link meta param source track wbr p li dt dd td th tr thead tbody tfoot
    option html head body
    """.split()  # noqa: SIM905
)


class UnparsableError(Exception):
    """Raise when a file is not what its ending says, or not fit to be read; the message says why."""


def parse_html(text: str, name: str) -> ParsedDocument:
    """Parse a page or fragment; ``name`` is the title of last resort.

    Raises:
        UnparsableError: elements nest too deeply.
    """
    _check_depth(text)
    builder = DocumentBuilder()
    tree = LexborHTMLParser(text)
    if (title := tree.css_first("head > title")) is not None:
        builder.set_title(_text(title))
    root = tree.body
    for selector in ("main", "[role=main]"):
        found = tree.css_first(selector)
        if found is not None and _text(found).strip():
            root = found
            break
    if root is not None:
        _Walk(builder).run(root)
    return builder.build(name)


def row_lines(rows: list[list[str]], *, header: bool) -> list[str]:
    """Table rows as lines that can be read alone: ``Header: cell | Header: cell``; empty cells are left out."""
    cells = [[" ".join(cell.split()) for cell in row] for row in rows]
    titles = cells.pop(0) if header and len(cells) > 1 else []
    lines = []
    for row in cells:
        named = [
            f"{titles[column]}: {cell}" if column < len(titles) and titles[column] else cell
            for column, cell in enumerate(row)
            if cell
        ]
        if named:
            lines.append(" | ".join(named))
    return lines


def _check_depth(text: str) -> None:
    open_tags: Counter[str] = Counter()
    depth = 0
    for closing, tag in _TAG.findall(text):
        name = tag.lower()
        if name in _NEVER_DEEP:
            continue
        if not closing:
            open_tags[name] += 1
            depth += 1
        elif open_tags[name]:
            open_tags[name] -= 1
            depth -= 1
        if depth > _DEPTH_MAX:
            raise UnparsableError(f"elements nest deeper than {_DEPTH_MAX}")


class _Walk:
    """One pass over the tree in reading order, entering and leaving elements by an explicit stack."""

    def __init__(self, builder: DocumentBuilder) -> None:
        self._builder = builder
        self._inline: list[str] = []
        self._lists: list[int | None] = []
        self._marker = ""
        self._term = ""
        self._pre = 0
        self._items = 0
        self._header = 0

    def run(self, root: LexborNode) -> None:
        stack: list[tuple[LexborNode, bool]] = [(root, False)]
        while stack:
            node, leaving = stack.pop()
            if leaving:
                self._leave(node)
            elif node.is_text_node:
                if not self._header:
                    self._inline.append(node.text_content or "")
            elif node.is_element_node and not _is_dropped(node):
                if node.tag in _HEADINGS:
                    self._flush()
                    self._builder.heading(_HEADINGS[node.tag], _text(node, skip=_DROP_CLASSES).strip(_PERMALINK))
                elif node.tag == "table" and (rows := _data_rows(node)) is not None and not self._header:
                    self._flush()
                    self._builder.lines("\n".join(row_lines(rows[0], header=rows[1])))
                else:
                    self._enter(node)
                    stack.append((node, True))
                    stack.extend((child, False) for child in reversed(_children(node)))
        self._flush()

    def _enter(self, node: LexborNode) -> None:
        tag = node.tag
        if tag == "br":
            self._inline.append("\n")
        elif tag == "img":
            self._inline.append(str(node.attributes.get("alt") or ""))
        if tag not in _BLOCKS:
            return
        self._flush()
        if tag == "pre":
            self._pre += 1
        elif tag in ("ul", "ol"):
            self._lists.append(1 if tag == "ol" else None)
        elif tag == "li":
            self._items += 1
            number = self._lists[-1] if self._lists else None
            self._marker = "  " * max(0, len(self._lists) - 1) + ("- " if number is None else f"{number}. ")
            if number is not None:
                self._lists[-1] = number + 1
        elif tag == "dt" and self._term:
            self._builder.lines(self._term)
            self._term = ""
        elif tag == "header":
            self._header += 1

    def _leave(self, node: LexborNode) -> None:
        tag = node.tag
        if tag not in _BLOCKS:
            return
        if tag == "dt":
            self._term = " ".join("".join(self._inline).split())
            self._inline = []
            return
        self._flush()
        if tag == "pre":
            self._pre -= 1
        elif tag in ("ul", "ol") and self._lists:
            self._lists.pop()
        elif tag == "li":
            self._items -= 1
            self._marker = ""
        elif tag in ("dl", "dd") and self._term:
            self._builder.lines(self._term)
            self._term = ""
        elif tag == "header":
            self._header -= 1

    def _flush(self) -> None:
        text = "".join(self._inline)
        self._inline = []
        if not text.strip():
            return
        if self._pre:
            self._builder.lines(text)
            return
        folded = " ".join(text.split())
        if self._term:
            term, self._term = self._term, ""
            self._builder.lines(f"{term}: {folded}" if not term.endswith((":", "?")) else f"{term} {folded}")
        elif self._items:
            marker, self._marker = self._marker or "  " * len(self._lists), ""
            self._builder.lines(marker + folded)
        else:
            self._builder.paragraph(folded)


def _children(node: LexborNode) -> list[LexborNode]:
    children: list[LexborNode] = []
    child = node.first_child
    while child is not None:
        children.append(child)
        child = child.next
    return children


def _is_dropped(node: LexborNode) -> bool:
    if node.tag in _DROP:
        return True
    attributes = node.attributes
    if not attributes:
        return False
    if "hidden" in attributes or attributes.get("aria-hidden") == "true" or attributes.get("role") in _DROP_ROLES:
        return True
    return not _DROP_CLASSES.isdisjoint(_classes(node))


def _classes(node: LexborNode) -> frozenset[str]:
    return frozenset(str((node.attributes or {}).get("class") or "").split())


def _text(node: LexborNode, *, skip: frozenset[str] = frozenset()) -> str:
    """Text of an inline element; elements of the classes in ``skip`` (permalinks) are left out."""
    parts: list[str] = []
    stack = [node]
    while stack:
        current = stack.pop()
        if current.is_text_node:
            parts.append(current.text_content or "")
        elif current.tag == "br":
            parts.append(" ")
        elif current is node or (not _is_dropped(current) and _classes(current).isdisjoint(skip)):
            stack.extend(reversed(_children(current)))
    return " ".join("".join(parts).split())


def _data_rows(table: LexborNode) -> tuple[list[list[str]], bool] | None:
    """Rows of a data table and whether the first is a header; ``None`` for tables that only lay out a page."""
    attributes = table.attributes or {}
    if attributes.get("role") in ("presentation", "none") or table.css_first("table table, h1, h2, h3, ul, ol, pre"):
        return None
    rows: list[list[str]] = []
    header = False
    for row in table.css("tr"):
        cells = [child for child in _children(row) if child.tag in ("td", "th")]
        if not rows:
            header = len(cells) > 1 and (all(cell.tag == "th" for cell in cells) or _in_head(row))
        rows.append([_text(cell)[:_CELL_MAX] for cell in cells])
    return (rows, header) if any(len(row) > 1 for row in rows) else None


def _in_head(row: LexborNode) -> bool:
    parent = row.parent
    return parent is not None and parent.tag == "thead"
