"""Words of a PDF stay apart where its font has no space and the typesetter moved on instead, as LaTeX does."""

import io

import pypdf
import pytest
from pypdf.generic import ArrayObject, DecodedStreamObject, DictionaryObject, NameObject, NumberObject

from indexes.loaders.pdf import read_pdf

WORDS = "The pump stands in the old mill"


def typeset(gap: int, widths: dict[str, int], number_of_space: str) -> bytes:
    """A page with WORDS and `gap` thousandths of an em between them, in a composite font that has no space.

    Glyph numbers are those of the characters, but for `number_of_space`, which has the number 32.
    """
    numbers = {character: 32 if character == number_of_space else ord(character) for character in widths}
    writer = pypdf.PdfWriter()
    page = writer.add_blank_page(595, 842)
    mapping = "".join(f"<{number:04x}> <{ord(character):04x}>\n" for character, number in numbers.items())
    unicode_map = DecodedStreamObject()
    unicode_map.set_data(
        b"1 begincodespacerange <0000> <ffff> endcodespacerange\n%d beginbfchar\n%s endbfchar"
        % (len(numbers), mapping.encode())
    )
    listed = ArrayObject()
    for character, number in sorted(numbers.items(), key=lambda item: item[1]):
        listed += [NumberObject(number), ArrayObject([NumberObject(widths[character])])]
    inner = DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Font"),
            NameObject("/Subtype"): NameObject("/CIDFontType2"),
            NameObject("/BaseFont"): NameObject("/Made"),
            NameObject("/W"): listed,
        }
    )
    font = DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Font"),
            NameObject("/Subtype"): NameObject("/Type0"),
            NameObject("/BaseFont"): NameObject("/Made"),
            NameObject("/Encoding"): NameObject("/Identity-H"),
            NameObject("/ToUnicode"): writer._add_object(unicode_map),
            NameObject("/DescendantFonts"): ArrayObject([writer._add_object(inner)]),
        }
    )
    fonts = DictionaryObject({NameObject("/F1"): writer._add_object(font)})
    page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
    shown = [f"<{''.join(f'{numbers[character]:04x}' for character in word)}>" for word in WORDS.split()]
    content = DecodedStreamObject()
    content.set_data(f"BT /F1 10 Tf 60 700 Td [{f' -{gap} '.join(shown)}] TJ ET".encode())
    page[NameObject("/Contents")] = writer._add_object(content)
    written = io.BytesIO()
    writer.write(written)
    return written.getvalue()


PROPORTIONAL = dict.fromkeys("Thepumstandilo", 500) | {"i": 250, "m": 800}


@pytest.mark.parametrize("gap", [195, 250, 333, 400])
def test_words_stay_apart_whatever_the_glyph_with_the_number_of_the_space_is(gap: int) -> None:
    wide = PROPORTIONAL | {"=": 1000}
    assert read_pdf(typeset(gap, wide, number_of_space="=")).text == WORDS


def test_words_stay_apart_where_no_glyph_has_that_number() -> None:
    assert read_pdf(typeset(250, PROPORTIONAL, number_of_space="")).text == WORDS


def test_a_letter_with_the_number_of_the_space_keeps_its_width() -> None:
    assert read_pdf(typeset(250, PROPORTIONAL, number_of_space="m")).text == WORDS


def test_a_typewriter_face_has_spaces_as_wide_as_its_letters() -> None:
    assert read_pdf(typeset(600, dict.fromkeys(PROPORTIONAL, 600), number_of_space="")).text == WORDS
