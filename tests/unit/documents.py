"""Makes small real documents for the loader tests: PDF, Word, PowerPoint and Excel files from lines and tables."""

import io
import zipfile
from collections.abc import Mapping, Sequence

import docx
import openpyxl
import pptx
import pypdf
from lxml import etree
from pptx.oxml.ns import qn

PdfLine = tuple[float, float, str]
"""x and y in points, text."""


def pdf_bytes(pages: Sequence[Sequence[PdfLine]], title: str = "", password: str = "") -> bytes:
    """A PDF with Helvetica 10 lines at the given places."""
    objects: list[bytes] = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    kids = []
    for lines in pages:
        stream = b"\n".join(f"BT /F1 10 Tf 1 0 0 1 {x} {y} Tm ({text}) Tj ET".encode() for x, y, text in lines)
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
        content = len(objects)
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R >> >> "
            b"/Contents %d 0 R >>" % content
        )
        kids.append(b"%d 0 R" % len(objects))
    objects[1] = b"<< /Type /Pages /Kids [%s] /Count %d >>" % (b" ".join(kids), len(kids))
    body, places = b"%PDF-1.4\n", []
    for number, value in enumerate(objects, 1):
        places.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, value)
    start = len(body)
    body += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    body += b"".join(b"%010d 00000 n \n" % place for place in places)
    body += b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(body))
    if title:
        writer.add_metadata({"/Title": title})
    if password:
        writer.encrypt(password, algorithm="RC4-128")
    written = io.BytesIO()
    writer.write(written)
    return written.getvalue()


def pdf_paragraphs(lines: Sequence[str], top: float = 780) -> list[PdfLine]:
    """Lines under each other, 14 points apart."""
    return [(60, top - 14 * number, line) for number, line in enumerate(lines)]


def docx_bytes(title: str, table: Sequence[Sequence[str]]) -> bytes:
    """A Word file: title, heading, paragraph, table, closing paragraph, numbered list."""
    document = docx.Document()
    document.add_heading(title, 0)
    document.add_heading("Prices", 1)
    document.add_paragraph("The prices stand below.")
    grid = document.add_table(len(table), len(table[0]))
    for row, values in enumerate(table):
        for column, value in enumerate(values):
            grid.cell(row, column).text = value
    document.add_paragraph("The prices end here.")
    document.add_heading("Rules", 1)
    for rule in ("Pay in time.", "Keep the meter dry."):
        document.add_paragraph(rule, style="List Number")
    written = io.BytesIO()
    document.save(written)
    return written.getvalue()


def pptx_bytes() -> bytes:
    """A deck: title slide, list with table, text box, group and notes, numbered list, divider, hidden slide."""
    deck = pptx.Presentation()
    first = deck.slides.add_slide(deck.slide_layouts[0])
    first.shapes.title.text = "Water works"
    first.placeholders[1].text = "Spring meeting"
    second = deck.slides.add_slide(deck.slide_layouts[1])
    second.shapes.title.text = "Prices"
    frame = second.placeholders[1].text_frame
    frame.text = "Paid monthly"
    frame.add_paragraph().text = "By transfer"
    frame.paragraphs[1].level = 1
    grid = second.shapes.add_table(3, 3, 0, 0, 100, 100).table
    for row, values in enumerate([["zone", "price", ""], ["Dunmere", "1.97", "2.10"], ["Tarnholt", "", ""]]):
        for column, value in enumerate(values):
            grid.cell(row, column).text = value
    grid.cell(0, 1).merge(grid.cell(0, 2))
    group = second.shapes.add_group_shape()
    group.shapes.add_textbox(0, 0, 10, 10).text_frame.text = "From a group."
    second.notes_slide.notes_text_frame.text = "Say that prices rise."
    third = deck.slides.add_slide(deck.slide_layouts[5])
    third.shapes.title.text = "Steps"
    steps = third.shapes.add_textbox(0, 0, 10, 10).text_frame
    for number, text in enumerate(["Close the valve.", "Read the meter."]):
        paragraph = steps.paragraphs[0] if number == 0 else steps.add_paragraph()
        paragraph.text = text
        etree.SubElement(paragraph._p.get_or_add_pPr(), qn("a:buAutoNum"), type="arabicPeriod")
    deck.slides.add_slide(deck.slide_layouts[5]).shapes.title.text = "Questions?"
    hidden = deck.slides.add_slide(deck.slide_layouts[5])
    hidden.shapes.title.text = "Salaries"
    hidden._element.set("show", "0")
    written = io.BytesIO()
    deck.save(written)
    return written.getvalue()


def xlsx_bytes(sheets: Mapping[str, Sequence[Sequence[object]]], hidden: Sequence[str] = (), title: str = "") -> bytes:
    """A workbook with the rows of every sheet; shares such as 0.07 in a column named `share` are shown in per cent."""
    workbook = openpyxl.Workbook()
    workbook.remove(workbook.active)
    for name, rows in sheets.items():
        sheet = workbook.create_sheet(name)
        sheet.sheet_state = "hidden" if name in hidden else "visible"
        for row in rows:
            sheet.append(list(row))
        for column, head in enumerate(rows[0] if rows else (), 1):
            for number in range(2, len(rows) + 1) if head == "share" else ():
                sheet.cell(number, column).number_format = "0.0%"
    workbook.properties.title = title or None
    written = io.BytesIO()
    workbook.save(written)
    return written.getvalue()


def with_entry(archive: bytes, name: str, data: bytes) -> bytes:
    """An Office file with one more file in its archive, deflated."""
    written = io.BytesIO(archive)
    with zipfile.ZipFile(written, "a", zipfile.ZIP_DEFLATED) as target:
        target.writestr(name, data)
    return written.getvalue()
