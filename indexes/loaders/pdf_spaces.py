"""Text of a PDF page in pypdf's layout mode, with the spaces between words that pypdf alone would miss.

Typesetters such as LaTeX draw no spaces: they move on by about a quarter of an em. pypdf takes a movement for a space
if it is at least half as wide as one in the font. Where a font has none, pypdf takes the width of whatever glyph has
the number 32, or half the default width, which is often so wide that words are glued together.
"""

from typing import Any

SPACE = 300
"""Widest space, in thousandths of an em, that is believed of a proportional font without one; usual are 200 to 330."""
_NO_GLYPH = "\uffff"


def page_text(page: Any) -> str:
    """Text of one page (`pypdf.PageObject`) in layout mode. Raises what pypdf raises for a damaged page."""
    fonts = page._layout_mode_fonts()  # pypdf has no public place for this
    for font in fonts.values():
        if not _has_space(font):
            drawn = {width for character, width in font.character_widths.items() if character != "default" and width}
            font.space_width = drawn.pop() if len(drawn) == 1 else min(font.space_width, SPACE)
            font.space_char = _NO_GLYPH
    page._layout_mode_fonts = lambda: fonts
    text: str = page.extract_text(extraction_mode="layout")
    return text


def _has_space(font: Any) -> bool:
    """Whether the glyph that pypdf takes for the font's space is one, and has a width."""
    character = font.space_char
    if isinstance(font.encoding, dict):
        character = font.encoding.get(ord(character), character)
    shown: str = font.character_map.get(character, character)
    return shown.isspace() and font.space_char in font.character_widths
