"""Makes small real documents for the loader tests: PDF and Word files from plain lines and tables."""

import io
from collections.abc import Sequence

import docx
import pypdf

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
