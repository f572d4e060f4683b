"""HTML reader: the main text without navigation, footer, scripts and comments; table rows and list items as lines."""

import datetime
import re

import lxml.etree
import lxml.html
from lxml.html import HtmlElement

from indexes.loaders.extracted import Extracted, TextBuilder, decode, fold, table_lines
from infra.errors import InputError

_CHARSET = re.compile(rb"<meta[^>]+charset=[\"']?\s*([A-Za-z0-9_\-]+)", re.IGNORECASE)
_DROPPED = frozenset(
    ["script", "style", "noscript", "template", "nav", "footer", "aside", "form", "iframe", "svg", "button", "head"],
)
_BOILERPLATE = re.compile(
    r"(^|[\s_-])(nav|navbar|menu|breadcrumbs?|footer|cookies?|sidebar|banner|share)([\s_-]|$)", re.I
)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCKS = frozenset(
    re.findall(
        r"\w+",
        "address article blockquote center dd details dialog div dl dt fieldset figcaption figure header hgroup hr "
        "main p section summary ul ol table pre h1 h2 h3 h4 h5 h6",
    )
)


def read_html(data: bytes) -> Extracted:
    """Main text and sections of a page. Raises InputError for bytes that are no page, and for one nested too deeply."""
    declared = _CHARSET.search(data[:2048])
    text = decode(data, declared.group(1).decode() if declared else "")
    # without huge_tree a page ends silently at the 256th level, and one of more than 10 MB is empty
    parser = lxml.html.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, huge_tree=True)
    try:
        page = lxml.html.document_fromstring(text.encode(), parser=parser)
    except lxml.etree.ParserError as error:
        raise InputError(f"no HTML in it: {error}") from error
    if any(entry.type == lxml.etree.ErrorTypes.ERR_RESOURCE_LIMIT for entry in parser.error_log):
        raise InputError("nested too deeply: simplify it")
    builder = TextBuilder()
    root = _main(page)
    _walk(builder, root)
    result = builder.build()
    title = result.title or re.split(r"\s+[|–]\s+", fold(page.findtext(".//title") or ""))[0]
    return result.model_copy(
        update={"title": title, "language": fold(page.get("lang") or "").split("-")[0].lower(), "date": _date(page)}
    )


def _main(page: HtmlElement) -> HtmlElement:
    """The element that holds the text: `main`, a lone `article`, or the body without its header."""
    for expression in ("//main | //*[@role='main']", "//article"):
        found = page.xpath(expression)
        if len(found) == 1:
            return found[0]
    body = page.find("body")
    root = page if body is None else body
    for header in root.findall("header"):
        if not header.xpath(".//h1"):
            header.drop_tree()
    return root


def _date(page: HtmlElement) -> datetime.date | None:
    for name in page.xpath("//meta[@name='date' or @property='article:modified_time']/@content"):
        try:
            return datetime.date.fromisoformat(str(name)[:10])
        except ValueError:
            continue
    return None


def _hidden(node: HtmlElement) -> bool:
    if not isinstance(node.tag, str) or node.tag in _DROPPED or node.get("hidden") is not None:
        return True
    if node.get("aria-hidden") == "true" or "display:none" in (node.get("style") or "").replace(" ", "").lower():
        return True
    marks = f"{node.get('class') or ''} {node.get('id') or ''} {node.get('role') or ''}"
    return bool(_BOILERPLATE.search(marks))


def _walk(builder: TextBuilder, node: HtmlElement) -> None:
    """Add the blocks of `node` in order; runs of inline content between blocks become paragraphs."""
    run = node.text or ""
    for child in node:
        if _hidden(child):
            run += " "
        elif child.tag in _BLOCKS:
            builder.paragraph(run)
            run = ""
            _block(builder, child)
        elif any(grandchild.tag in _BLOCKS for grandchild in child.iterdescendants()):
            builder.paragraph(run)
            run = ""
            _walk(builder, child)
        else:
            run += " " if child.tag == "br" else _text(child)
        run += child.tail or ""
    builder.paragraph(run)


def _block(builder: TextBuilder, node: HtmlElement) -> None:
    if node.tag in _HEADINGS:
        builder.heading(_HEADINGS[node.tag], _text(node))
    elif node.tag == "pre":
        builder.code(node.text_content())
    elif node.tag == "table":
        _table(builder, node)
    elif node.tag in ("ul", "ol"):
        builder.lines(_items(node, 0))
    else:
        _walk(builder, node)


def _table(builder: TextBuilder, node: HtmlElement) -> None:
    caption = node.find("caption")
    if caption is not None:
        builder.paragraph(_text(caption))
    rows = [row for row in node.iter("tr") if next(row.iterancestors("table")) is node]
    builder.lines(table_lines([_cells(row) for row in rows if not _hidden(row)]))


def _cells(row: HtmlElement) -> list[str]:
    """Texts of a row's cells; a cell over several columns is repeated, so that columns stay in place."""
    cells: list[str] = []
    for cell in row.iterchildren("td", "th"):
        cells += [_text(cell)] * min(max(_number(cell.get("colspan")), 1), 50)
    return cells


def _number(attribute: str | None) -> int:
    """The value of an attribute that counts; 1 where it is no number that a page would show."""
    return int(attribute) if attribute and re.fullmatch(r"[0-9]{1,9}", attribute) else 1


def _items(node: HtmlElement, depth: int) -> list[str]:
    lines: list[str] = []
    number = _number(node.get("start"))
    for item in node.iterchildren("li"):
        inner = [child for child in item if child.tag in ("ul", "ol")]
        mark = f"{number}." if node.tag == "ol" else "-"
        words = (item.text or "") + "".join(
            ("" if child in inner or _hidden(child) else _text(child)) + (child.tail or "") for child in item
        )
        lines.append("  " * depth + f"{mark} {fold(words)}")
        for child in inner:
            lines += _items(child, depth + 1)
        number += 1
    return lines


def _text(node: HtmlElement) -> str:
    """Text below a node; hidden parts left out, inner blocks and breaks parted by spaces."""
    pieces = [node.text or ""]
    for child in node:
        if not _hidden(child):
            space = " " if child.tag in _BLOCKS or child.tag in ("br", "li", "td", "th", "tr") else ""
            pieces += [space, _text(child), space]
        pieces.append(child.tail or "")
    return "".join(pieces)
