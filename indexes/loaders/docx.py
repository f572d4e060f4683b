"""Word (.docx) reader: heading styles as sections, tables in place as row lines, list paragraphs as lines."""

import io
import re
import zipfile
from typing import TYPE_CHECKING, Any

from indexes.loaders.archive import check_office
from indexes.loaders.extracted import Extracted, TextBuilder, fold, table_lines
from infra.errors import InputError

if TYPE_CHECKING:
    from docx.document import Document as WordDocument

_COLUMNS = 1000
"""Columns that one cell may span; Word makes 63 at most."""
_LISTED = re.compile(r"(\d{1,3}[.)]|[-•–*])\s+\S")


def read_docx(data: bytes) -> Extracted:
    """Text and sections of a Word document. Raises InputError as check_office, or when damaged."""
    import docx
    from docx.opc.exceptions import PackageNotFoundError

    check_office(data, ".docx", "Word document")
    try:
        document = docx.Document(io.BytesIO(data))
    except (zipfile.BadZipFile, PackageNotFoundError, KeyError, ValueError) as error:
        raise InputError("damaged, or no Word document: save it again") from error
    builder = TextBuilder()
    _add_body(builder, document)
    result = builder.build()
    return result.model_copy(update={"title": result.title or fold(document.core_properties.title or "")})


def _add_body(builder: TextBuilder, document: "WordDocument") -> None:
    from docx.table import Table

    items: list[str] = []
    numbers: dict[tuple[str, int], int] = {}
    for block in document.iter_inner_content():
        item = "" if isinstance(block, Table) else _list_item(block, numbers)
        if item:
            items.append(item)
            continue
        builder.lines(items)
        items = []
        if isinstance(block, Table):
            builder.lines(table_lines(_rows(block)))
        else:
            _add_paragraph(builder, block)
    builder.lines(items)


def _add_paragraph(builder: TextBuilder, paragraph: Any) -> None:
    style = (paragraph.style.name or "") if paragraph.style is not None else ""
    level = re.fullmatch(r"[Hh]eading (\d)", style)
    if style == "Title":
        builder.heading(1, paragraph.text)
    elif level:
        builder.heading(int(level.group(1)), paragraph.text)
    elif "code" in style.lower() or "preformatted" in style.lower() or _monospaced(paragraph):
        builder.code(paragraph.text)
    else:
        builder.paragraph(paragraph.text)


def _monospaced(paragraph: Any) -> bool:
    """Whether every written run is set in a typewriter face: how word processors mark code."""
    fonts = [(run.font.name or "").lower() for run in paragraph.runs if run.text.strip()]
    return bool(fonts) and all("courier" in font or "mono" in font or "consolas" in font for font in fonts)


def _list_item(paragraph: Any, numbers: dict[tuple[str, int], int]) -> str:
    """The paragraph as a list line, or an empty text. Numbers of automatic lists are counted, as Word shows them."""
    text = fold(paragraph.text)
    style = (paragraph.style.name or "") if paragraph.style is not None else ""
    if not text:
        return ""
    if style.startswith("Heading") or not style.startswith("List"):
        if style.startswith("Heading"):
            numbers.clear()
        return text if _LISTED.match(text) else ""
    if "Number" not in style:
        return text if _LISTED.match(text) else f"- {text}"
    if _LISTED.match(text):
        return text
    properties = paragraph._p.pPr
    number_id = properties.numPr.numId.val if properties is not None and properties.numPr is not None else 0
    numbers[style, number_id] = numbers.get((style, number_id), 0) + 1
    return f"{numbers[style, number_id]}. {text}"


def _rows(table: Any) -> list[list[str]]:
    """Texts of the cells; a merged cell is repeated in every place that it covers."""
    for row in table.rows:
        if any(cell.grid_span > _COLUMNS for cell in row._tr.tc_lst):
            raise InputError(f"a table cell spans more than {_COLUMNS} columns: damaged; save it again")
    return [[fold(cell.text) for cell in row.cells] for row in table.rows]
