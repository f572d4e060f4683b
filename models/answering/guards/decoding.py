"""Views of a text for the guards: what a reader or a model may make of it when it is hidden or encoded.

A view is never shown to anybody: the guards look at it and act on the text it came from. Each view is looked at again,
up to `DEPTH` times, and all of them together are bounded. The table of look-alikes is an extract of Unicode's
confusables.txt (UTS 39, https://www.unicode.org/Public/security/latest/confusables.txt) for Cyrillic and Greek letters;
full-width letters fold by NFKC.
"""

import base64
import binascii
import codecs
import re
import unicodedata
from collections.abc import Callable, Iterator
from urllib.parse import unquote

MOST_CHARS = 8000
"""Characters of a text that are looked at for encodings."""
MOST_VIEWS = 12
DEPTH = 2
_PIECES = 8

HIDDEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e0fff]"
)
"""Zero-width, direction, variation and tag characters: they carry text that a reader does not see."""
_TAGS = re.compile("[\U000e0020-\U000e007e]{4,}")

_LIKE = {
    "a": "аαɑ", "b": "Ьʙ", "c": "сϲ", "d": "ԁ", "e": "еҽε", "g": "ɡ", "h": "һ", "i": "іιı", "j": "ј", "k": "κк",
    "l": "ӏ", "m": "м", "n": "п", "o": "оοσ", "p": "рρ", "q": "ԛ", "r": "г", "s": "ѕ", "t": "тτ", "u": "υս", "v": "ѵν",
    "w": "ԝω", "x": "хχ", "y": "уγ", "z": "ᴢ", "A": "АΑ", "B": "ВΒ", "C": "СϹ", "E": "ЕΕ", "H": "НΗ", "I": "ІΙ",
    "J": "Ј", "K": "КΚ", "M": "МΜ", "N": "Ν", "O": "ОΟ", "P": "РΡ", "S": "Ѕ", "T": "ТΤ", "X": "ХΧ", "Y": "ҮΥ",
    "Z": "Ζ",
}  # fmt: skip
LOOKALIKES = str.maketrans({like: letter for letter, likes in _LIKE.items() for like in likes})
"""Cyrillic, Greek and phonetic letters as the Latin ones that they look like."""
_LEET = str.maketrans("013457@$!|", "oieastasil")

_MIXED = re.compile(r"[A-Za-z][Ͱ-Ͽа-яА-Яѐ-ӿԀ-ԯɐ-ʯᴀ-ᴥ]|[Ͱ-Ͽа-яА-Яѐ-ӿԀ-ԯɐ-ʯᴀ-ᴥ][A-Za-z]")
_BASE64 = re.compile(r"(?<![\w+/=-])[A-Za-z0-9+/_-]{16,}={0,2}(?![\w+/=-])")
_HEX = re.compile(r"(?<![0-9A-Za-z])(?:(?:0x|\\x)?[0-9A-Fa-f]{2}[\s,:]?){8,}(?![0-9A-Za-z])")
_URL = re.compile(r"(?:%[0-9A-Fa-f]{2}[^%\s]{0,12}){2,}")
_DIGIT_IN_WORD = re.compile(r"[A-Za-z][013457@$!|]+[A-Za-z]|\b[013457@$][A-Za-z]{2,}")
_SPACED = re.compile(r"(?<!\w)(?:\w[\s._*-]{1,3}){5,}\w(?!\w)")
_ROT = re.compile(
    r"\b(?:vtaber|qvfertneq|sbetrg|erirny|flfgrz|cebzcg|vafgehpgvba\w*|cerivbhf|ehyrf|bireevqr|olcnff|npg|cergraq)\b",
    re.IGNORECASE,
)
"""What orders to a model say, in rot13: turning every text round would double the work for nothing."""


def visible(text: str) -> str:
    """Compatibility forms folded (full-width, ligatures), hidden characters gone."""
    return HIDDEN.sub("", unicodedata.normalize("NFKC", text))


def tags(text: str) -> Iterator[str]:
    """What tag characters (U+E0020 to U+E007E) spell: invisible to a reader, not to a tokenizer."""
    if text.isascii():
        return
    for match in _TAGS.finditer(text):
        yield "".join(chr(ord(sign) - 0xE0000) for sign in match.group())


def homoglyphs(text: str) -> Iterator[str]:
    """Look-alike letters as the Latin ones, where a word mixes alphabets."""
    if not text.isascii() and _MIXED.search(text):
        yield text.translate(LOOKALIKES)


def base64_pieces(text: str) -> Iterator[str]:
    """Text in base64, plain or URL-safe."""
    for match in list(_BASE64.finditer(text))[:_PIECES]:
        piece = match.group().replace("-", "+").replace("_", "/").rstrip("=")
        try:
            yield _readable(base64.b64decode(piece + "=" * (-len(piece) % 4), validate=True))
        except binascii.Error:
            continue


def hex_pieces(text: str) -> Iterator[str]:
    """Text in hexadecimal, with or without separators."""
    for match in list(_HEX.finditer(text))[:_PIECES]:
        digits = re.sub(r"0x|\\x|[\s,:]", "", match.group())
        yield _readable(bytes.fromhex(digits[: len(digits) // 2 * 2]))


def url(text: str) -> Iterator[str]:
    """Percent encoding undone."""
    if _URL.search(text):
        yield unquote(text)


def rot13(text: str) -> Iterator[str]:
    """The text turned by 13 letters, where it then speaks of orders."""
    if _ROT.search(text):
        yield codecs.encode(text, "rot13")


def leet(text: str) -> Iterator[str]:
    """Digits and signs inside words as the letters that they stand for."""
    if _DIGIT_IN_WORD.search(text):
        yield text.translate(_LEET)


def spaced(text: str) -> Iterator[str]:
    """Words whose letters stand apart (`i g n o r e`), put together."""
    if _SPACED.search(text):
        yield _SPACED.sub(lambda match: _together(match.group()), text)


def _together(letters: str) -> str:
    """Runs of single letters as words: a wider gap than the usual one ends a word."""
    words = re.split(r"\s{2,}", letters)
    return " ".join(re.sub(r"[\s._*-]", "", word) for word in words)


DECODERS: dict[str, Callable[[str], Iterator[str]]] = {
    "tags": tags,
    "homoglyphs": homoglyphs,
    "base64": base64_pieces,
    "hex": hex_pieces,
    "url": url,
    "rot13": rot13,
    "leet": leet,
    "spaced": spaced,
}
"""Each by name. None yields anything for a text that has nothing of its kind."""


def _readable(data: bytes) -> str:
    """The text of decoded bytes; nothing where they are no text of printable signs."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return ""
    printable = sum(sign.isprintable() or sign.isspace() for sign in text)
    return text if len(text) >= 6 and printable == len(text) else ""


def views(text: str) -> list[tuple[str, str]]:
    """(decoders used, view) of a text: first the text as a reader sees it, then what decoding makes of it."""
    first = visible(text)[:MOST_CHARS]
    found = [("", first)]
    seen = {first}
    level = [("", text[:MOST_CHARS])]
    for _ in range(DEPTH):
        deeper: list[tuple[str, str]] = []
        for name, view in level:
            for decoder, decode in DECODERS.items():
                for made in decode(view):
                    shown = visible(made)[:MOST_CHARS]
                    if shown and shown not in seen and len(found) < MOST_VIEWS:
                        seen.add(shown)
                        entry = (f"{name}+{decoder}" if name else decoder, shown)
                        found.append(entry)
                        deeper.append(entry)
        level = deeper
    return found
