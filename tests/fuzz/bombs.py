"""Office and PDF files made to harm a reader: bombs, loops, endless nesting, lies about sizes.

Every maker takes a random generator and returns (suffix, bytes).
"""

import functools
import io
import random
import zipfile
import zlib
from collections.abc import Mapping

from tests.fuzz.good import GOOD
from tests.unit.documents import pdf_bytes, pdf_paragraphs, with_entry

Made = tuple[str, bytes]

DEEP = 100_000
"""Levels of very deep nesting."""
OFFICE = {".docx": "word/document.xml", ".pptx": "ppt/slides/slide1.xml", ".xlsx": "xl/worksheets/sheet1.xml"}
"""Suffix → the entry that holds the text."""
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)
_LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
_BOMB = f'<!DOCTYPE b [<!ENTITY l0 "ha">{_LAUGHS}]>'
_OUTSIDE = '<!DOCTYPE b [<!ENTITY l9 SYSTEM "file:///etc/passwd">]>'
_SWELL = f'<!DOCTYPE b [<!ENTITY l9 "{"a" * 100_000}">]>'


def replaced(archive: bytes, changes: Mapping[str, bytes]) -> bytes:
    """An archive in which some entries have other contents, deflated."""
    written = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(archive)) as source,
        zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, changes.get(name, source.read(name)))
    return written.getvalue()


def entry(archive: bytes, name: str) -> bytes:
    """The content of one file of an archive."""
    with zipfile.ZipFile(io.BytesIO(archive)) as source:
        return source.read(name)


def _office(rng: random.Random) -> tuple[str, bytes, str, bytes]:
    suffix = rng.choice(sorted(OFFICE))
    return suffix, GOOD[suffix], OFFICE[suffix], entry(GOOD[suffix], OFFICE[suffix])


def zip_bomb(rng: random.Random) -> Made:
    """Zeros that deflate a thousand times, said so or with a directory that lies about their size."""
    suffix, data, name, _ = _office(rng)
    size = rng.choice([11_000_000, 60_000_000])
    if rng.random() < 0.5:
        return suffix, with_entry(data, f"{name.rsplit('/', 1)[0]}/more.xml", bytes(size))
    bomb = bytearray(replaced(data, {name: bytes(size)}))
    place = bomb.rindex(name.encode()) - 46
    bomb[place + 24 : place + 28] = (1000).to_bytes(4, "little")
    return suffix, bytes(bomb)


def archive_in_archive(rng: random.Random) -> Made:
    """Archives in archives, or an ordinary archive with the name of a document."""
    suffix, data, name, _ = _office(rng)
    inner = data
    for level in range(rng.randrange(1, 8)):
        written = io.BytesIO()
        with zipfile.ZipFile(written, "w") as target:
            target.writestr(f"{level}{suffix}", inner)
        inner = written.getvalue()
    return suffix, rng.choice([inner, with_entry(data, "word/embeddings/a.docx", inner), replaced(data, {name: inner})])


def many_entries(rng: random.Random) -> Made:
    """An archive of very many empty files."""
    suffix, data, _, _ = _office(rng)
    written = io.BytesIO(data)
    with zipfile.ZipFile(written, "a") as target:
        for number in range(rng.choice([3_000, 21_000])):
            target.writestr(f"x/{number}", b"")
    return suffix, written.getvalue()


def entity_bomb(rng: random.Random) -> Made:
    """Entities that multiply, swell, or name a file of the machine, in the place of a text."""
    suffix, data, name, xml = _office(rng)
    kind = rng.choice([_BOMB, _OUTSIDE, _SWELL])
    head, _, rest = xml.partition(b"?>")
    times = 5_000 if kind is _SWELL else 1
    body = rest if head.startswith(b"<?xml") else xml
    for tag in (b"w:t", b"a:t", b"v", b"t"):
        body = body.replace(b"<%s>" % tag, b"<%s>" % tag + b"&l9;" * times, 1)
    return suffix, replaced(data, {name: b'<?xml version="1.0"?>' + kind.encode() + body})


def huge_numbers(rng: random.Random) -> Made:
    """Spans, places and counts far beyond what is there."""
    number = rng.choice([b"1000000000", b"-1", b"99999999999999999999", b"0x7", b"\xc2\xb2"])
    suffix = rng.choice([".docx", ".pptx", ".xlsx", ".html"])
    if suffix == ".html":
        page = b"<table><tr><td colspan=%s>a<td>b</table><ol start=%s><li>x</ol><p>text" % (number, number * 500)
        return suffix, page
    xml = entry(GOOD[suffix], OFFICE[suffix])
    changes = {
        ".docx": (b"<w:tcPr>", b'<w:tcPr><w:gridSpan w:val="%s"/>' % number),
        ".pptx": (b"<a:tc>", b'<a:tc gridSpan="%s" rowSpan="%s">' % (number, number)),
        ".xlsx": (b'r="B2"', b'r="XFD1048576"'),
    }
    xml = xml.replace(*changes[suffix])
    slide = entry(GOOD[".pptx"], "ppt/slides/slide2.xml").replace(*changes[".pptx"])
    return suffix, replaced(GOOD[suffix], {OFFICE[suffix]: xml, "ppt/slides/slide2.xml": slide})


def deep_office(rng: random.Random) -> Made:
    """Groups in groups, tables in tables, or bare elements without end."""
    suffix, data, name, xml = _office(rng)
    tag = rng.choice([b"w:tbl", b"p:grpSp", b"row", b"a:p", b"w:p", b"sheetData"])
    levels = rng.choice([100, 250, 3_000, DEEP])
    place = xml.rindex(b"</")
    deep = (b"<%s>" % tag) * levels + (b"</%s>" % tag) * levels
    return suffix, replaced(data, {name: xml[:place] + deep + xml[place:]})


def _pdf(objects: Mapping[int, bytes], trailer: bytes = b"", tail: bytes = b"") -> bytes:
    """A PDF of these numbered objects; 1 is its catalogue."""
    body, places = b"%PDF-1.7\n", {}
    for number, value in objects.items():
        places[number] = len(body)
        body += b"%d 0 obj\n%s\nendobj\n" % (number, value)
    start = len(body)
    last = max(objects)
    lines = [b"%010d 00000 n \n" % places[n] if n in places else b"0000000000 65535 f \n" for n in range(last + 1)]
    body += b"xref\n0 %d\n%s" % (last + 1, b"".join(lines))
    body += b"trailer << /Size %d /Root 1 0 R %s >>\nstartxref\n%d\n%%%%EOF\n" % (
        last + 1,
        trailer % start if b"%d" in trailer else trailer,
        start,
    )
    return body + tail


def _stream(content: bytes, extra: bytes = b"") -> bytes:
    return b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(content), extra, content)


@functools.cache
def _zeros() -> bytes:
    return zlib.compress(bytes(150_000_000), 9)


@functools.cache
def _words() -> bytes:
    return zlib.compress(b"BT /F1 10 Tf " + b"1 0 0 1 60 700 Tm (Text.) Tj " * 300_000 + b"ET", 9)


def pdf_loops(rng: random.Random) -> Made:
    """References in circles, counts and coordinates beyond sense, streams that swell, objects that nest."""
    page = b"<< /Type /Page /Parent 2 0 R /Resources << /Font << /F1 5 0 R >> >> /Contents 4 0 R >>"
    base = {
        1: b"<< /Type /Catalog /Pages 2 0 R >>", 2: b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>", 3: page,
        4: _stream(b"BT /F1 10 Tf 1 0 0 1 60 700 Tm (Text.) Tj ET"),
        5: b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    }  # fmt: skip
    bomb, words = _zeros(), _words()
    number = rng.choice([b"1e9", b"99999999999", b"-1e9", b"1e400", b"nan"])
    changes: list[tuple[dict[int, bytes], bytes]] = [
        ({2: b"<< /Type /Pages /Kids [2 0 R] /Count 1 >>"}, b""),
        ({2: b"<< /Type /Pages /Kids [6 0 R] /Count 2 >>", 6: b"<< /Type /Pages /Kids [2 0 R] /Parent 6 0 R >>"}, b""),
        ({2: b"<< /Type /Pages /Kids [%s] /Count 9 >>" % (b"3 0 R " * 20_000)}, b""),
        ({1: b"1 0 R"}, b""),
        ({1: b"<< /Type /Catalog /Pages 1 0 R >>"}, b""),
        ({4: b"4 0 R"}, b""),
        ({4: b"[4 0 R 4 0 R]"}, b""),
        ({5: b"<< /Type /Font /ToUnicode 5 0 R /DescendantFonts [5 0 R] /Encoding 5 0 R >>"}, b""),
        ({3: page.replace(b"/Resources", b"/Parent 3 0 R /Resources")}, b""),
        ({3: page.replace(b"/Type /Page ", b"/Type /Page /MediaBox 3 0 R ")}, b""),
        ({4: _stream(b"BT /F1 10 Tf 1 0 0 1 %s 700 Tm (Text.) Tj (more) Tj ET" % number)}, b""),
        ({4: _stream(b"BT /F1 10 Tf 1 0 0 1 60 %s Tm (Text.) Tj 1 0 0 1 60 0 Tm (more) Tj ET" % number)}, b""),
        ({4: _stream(b"BT /F1 %s Tf 1 0 0 1 60 7 Tm (Text.) Tj 1 0 0 1 6000 0 Tm (more) Tj ET" % number)}, b""),
        ({4: _stream(bomb, b"/Filter /FlateDecode")}, b""),
        ({4: _stream(words, b"/Filter /FlateDecode")}, b""),
        ({4: _stream(bomb, b"/Filter [%s]" % (b"/FlateDecode " * 50))}, b""),
        ({4: _stream(b"x", b"/Filter /NoSuchDecode")}, b""),
        ({4: _stream(b"[" * DEEP)}, b""),
        ({4: _stream(b"BT /F1 10 Tf (\\000\\001\\377\\ud800) Tj <FFFE0000D800> Tj ET")}, b""),
        ({6: b"[" * 20_000, 3: page.replace(b"/Contents", b"/Annots 6 0 R /Contents")}, b""),
        ({}, b"/Prev %d"),
        ({}, b"/Prev -5"),
        ({}, b"/Encrypt << /Filter /Standard /V 9 /R 9 /O () /U () /P 0 >>"),
        ({}, b"/Encrypt 9 0 R"),
        ({}, b"/Info << /Title 3 0 R >>"),
        ({}, b"/Info 1 0 R /ID [(x)]"),
        ({3: page.replace(b"/Resources <<", b"/Resources << /XObject << /X 6 0 R >>"), 4: _stream(b"/X Do"),
          6: _stream(b"/X Do", b"/Type /XObject /Subtype /Form /Resources << /XObject << /X 6 0 R >> >>")}, b""),
    ]  # fmt: skip
    change, trailer = rng.choice(changes)
    return ".pdf", _pdf({**base, **change}, trailer)


def locked(rng: random.Random) -> Made:
    """Files with a password, in old containers, or with macros."""
    suffix, data, name, _ = _office(rng)
    folder = name.split("/")[0]
    return rng.choice(
        [
            (".pdf", pdf_bytes([pdf_paragraphs(["Secret."])], password="pw")),
            (suffix, _OLE),
            (suffix.removesuffix("x"), _OLE),
            (suffix, with_entry(data, f"{folder}/vbaProject.bin", b"x")),
            (suffix.replace("x", "m"), data),
        ]
    )
