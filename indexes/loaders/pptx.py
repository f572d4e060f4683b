"""PowerPoint (.pptx) reader: every slide is a section with its title, texts, tables and speaker's notes.

Hidden slides, footers, dates and slide numbers are left out; text in pictures and charts is not read.
"""

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from indexes.loaders.archive import check_office
from indexes.loaders.extracted import Extracted, TextBuilder, fold, table_lines
from infra.errors import InputError

if TYPE_CHECKING:
    from pptx.slide import Slide

_BULLETS = ("buChar", "buBlip")
_FALSE = ("0", "false")
_GENERIC_TITLE = "PowerPoint Presentation"
"""What PowerPoint itself writes where nobody gave a title."""


def read_pptx(data: bytes) -> Extracted:
    """Text and sections `title (slide n)` of a presentation. Raises InputError as check_office, or when damaged."""
    import pptx
    from lxml.etree import XMLSyntaxError
    from pptx.exc import PythonPptxError

    check_office(data, ".pptx", "presentation")
    try:
        presentation = pptx.Presentation(io.BytesIO(data))
        slides = list(presentation.slides)
        own_title = fold(presentation.core_properties.title or "")
    except (PythonPptxError, XMLSyntaxError, KeyError, ValueError) as error:
        raise InputError("damaged, or no presentation: save it again") from error
    shown = [(number, slide) for number, slide in enumerate(slides, 1) if slide._element.get("show") not in _FALSE]
    title = _title(shown[0][1]) if shown else ""
    if not title and own_title != _GENERIC_TITLE:
        title = own_title
    builder = TextBuilder()
    for number, slide in shown:
        _add_slide(builder, number, slide, title)
    return builder.build().model_copy(update={"title": title})


def _title(slide: "Slide") -> str:
    shape = slide.shapes.title
    return fold(shape.text_frame.text) if shape is not None else ""


def _add_slide(builder: TextBuilder, number: int, slide: "Slide", document_title: str) -> None:
    title = _title(slide)
    builder.section(f"{title} (slide {number})" if title and title != document_title else f"slide {number}")
    blocks = [block for shape in _shapes(slide.shapes) for block in _blocks(shape)]
    notes = slide.notes_slide.notes_text_frame if slide.has_notes_slide else None
    spoken = [fold(paragraph.text) for paragraph in notes.paragraphs] if notes is not None else []
    blocks += [[text] for text in spoken if text]
    if not blocks and title != document_title:
        blocks = [[title]]
    for block in blocks:
        builder.lines(block)


def _shapes(shapes: Any) -> Iterator[Any]:
    """Shapes in reading order without title, date, footer and number; those of a group in its place."""
    from pptx.enum.shapes import MSO_SHAPE_TYPE, PP_PLACEHOLDER

    kinds = PP_PLACEHOLDER
    skipped = (kinds.TITLE, kinds.CENTER_TITLE, kinds.DATE, kinds.FOOTER, kinds.SLIDE_NUMBER, kinds.HEADER)
    for shape in shapes:
        if shape.is_placeholder and shape.placeholder_format.type in skipped:
            continue
        if shape.shape_type == MSO_SHAPE_TYPE.GROUP:
            yield from _shapes(shape.shapes)
        else:
            yield shape


def _blocks(shape: Any) -> list[list[str]]:
    """Blocks of lines: a table is one, neighbouring list items are one, every other paragraph is one."""
    if shape.has_table:
        return [table_lines(_rows(shape.table))]
    if not shape.has_text_frame:
        return []
    blocks: list[list[str]] = []
    numbers: dict[int, int] = {}
    in_list, listing = False, _is_list(shape)
    for paragraph in shape.text_frame.paragraphs:
        text = fold(paragraph.text)
        if not text:
            continue
        mark = _mark(paragraph, listing, numbers)
        line = f"{'  ' * paragraph.level}{mark} {text}" if mark else text
        if mark and in_list:
            blocks[-1].append(line)
        else:
            blocks.append([line])
        in_list = bool(mark)
    return [[block[0].strip().removeprefix("- ")] if len(block) == 1 else block for block in blocks]


def _is_list(shape: Any) -> bool:
    """Whether paragraphs are list items unless they say otherwise: those of a content placeholder are."""
    from pptx.enum.shapes import PP_PLACEHOLDER

    return shape.is_placeholder and shape.placeholder_format.type in (PP_PLACEHOLDER.BODY, PP_PLACEHOLDER.OBJECT)


def _mark(paragraph: Any, listing: bool, numbers: dict[int, int]) -> str:
    """The mark of a list item, `-` or `3.`, or nothing."""
    properties = paragraph._p.pPr
    names = {child.tag.rsplit("}", 1)[-1] for child in properties} if properties is not None else set()
    level = paragraph.level
    if "buAutoNum" in names:
        numbers[level] = numbers.get(level, 0) + 1
        return f"{numbers[level]}."
    numbers.pop(level, None)
    return "-" if names.intersection(_BULLETS) or (listing and "buNone" not in names) else ""


def _rows(table: Any) -> list[list[str]]:
    """Texts of the cells; a merged cell is repeated in every place that it covers."""
    rows = [[fold(cell.text) for cell in row.cells] for row in table.rows]
    for top, row in enumerate(table.rows):
        for left, cell in enumerate(row.cells):
            if cell.is_merge_origin:
                for line in rows[top : top + cell.span_height]:
                    line[left : left + cell.span_width] = [rows[top][left]] * len(line[left : left + cell.span_width])
    return rows
