"""Text files made to harm a reader: endless nesting and lines, text that is none, rows and lines that do not fit.

Every maker takes a random generator and returns (suffix, bytes).
"""

import json
import random

from tests.fuzz.bombs import DEEP, Made
from tests.fuzz.good import GOOD

LONG = 10_000_000
"""Characters of a very long line."""


def deep_html(rng: random.Random) -> Made:
    """Nested tags without end; text before, in and after them."""
    tag = rng.choice(
        ["div", "span", "b", "ul><li", "ol><li", "table><tr><td", "blockquote", "main", "svg", "h1", "font"]
    )
    levels = rng.choice([200, 300, 3_000, DEEP])
    return ".html", f"<body><p>Before.</p>{f'<{tag}>' * levels}In it.{'</x>' * 3}<p>After.".encode()


def many_marks(rng: random.Random) -> Made:
    """Markdown that makes naive readers slow or recurse."""
    mark = rng.choice(
        ["> ", "- ", "[", "![", "[a](", "*a **a ", "`a``", "<a ", "<!--", "\\", "&amp", "1. ", "# ", "|a"]
    )
    times = rng.choice([300, 3_000, 30_000])
    return ".md", (mark * times + "text\n" + ("|-" * times if mark == "|a" else "") + "\n\nend.\n").encode()


def front_matter(rng: random.Random) -> Made:
    """Front matter that multiplies, nests, names types, or holds what is no date, label or text."""
    laughs = "\n".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 9))
    matter = rng.choice(
        [
            f"l0: &l0 ha\n{laughs}\ntitle: *l8",
            "date: 2026-13-45",
            "date: 2026-02-30",
            "title: " + "[" * 5_000,
            'title: "a\\0b"',
            "access: {a: b}",
            "access: [1, [2]]",
            "title: !!python/object:os.system x",
            "? [a]\n: b",
            "date: 99999999999999999999",
            'access: ["a\\0b"]',
            "language: [en]",
            "&a [*a]",
            "title: &a [*a]",
            "- x",
            "title: 0o99",
            "date: 2026-01-01T99:99:99",
            'title: "\\ud800"',
            "supersedes: {}",
            "title: 1e9999",
        ]
    )
    return ".md", f"---\n{matter}\n---\n\nText below.\n".encode()


def long_line(rng: random.Random) -> Made:
    """Ten million characters without a line break."""
    suffix = rng.choice([".txt", ".md", ".html", ".csv", ".jsonl"])
    word = rng.choice(["a", "word ", "é ", "- ", "( ", "a,", "\U0001f600"])
    line = word * (LONG // len(word))
    text = json.dumps({"id": f"long {rng.random()}", "text": line}, ensure_ascii=False) if suffix == ".jsonl" else line
    data = text.encode()
    return suffix, data if rng.random() < 0.7 else b"a,b\n" + data


def many_blocks(rng: random.Random) -> Made:
    """Very many small paragraphs, headings, rows or items."""
    suffix, block = rng.choice(
        [(".txt", "a\n\n"), (".md", "# h\n\na\n\n"), (".html", "<h2>h</h2><p>a"), (".csv", "a,b\n"), (".md", "- a\n")]
    )
    head = rng.choice(["", f"<h1>{'t' * 100_000}</h1>", f"# {'t' * 100_000}\n\n## s\n\n"])
    return suffix, (head + block * rng.choice([1_000, 20_000, 300_000])).encode()


def scripts(rng: random.Random) -> Made:
    """Right-to-left, emoji, stacked marks, controls, private and unassigned characters."""
    pieces = [
        "שלום עולם",
        "مرحبا",
        "\u202egnp.exe\u202c",
        "👩‍👩‍👧‍👦🏳️‍🌈",
        "Z͑ͫ̓͊ͧ" * 50,
        "\ufeff",
        "\ufffe",
        "\U0010ffff",
        "\ue000",
        "\x01\x02\x1b[31m",
        "\x7f\x85\x9f",
        "\x0b\x0c\x1c",
        "ﷺ" * 20,
        "İıſß",
        "\u2028\u2029",
        "\u200b\u2060",
        "&#1;&#0;",
    ]
    suffix = rng.choice([".txt", ".md", ".html", ".csv", ".jsonl"])
    text = " ".join(rng.choices(pieces, k=rng.randrange(1, 30)))
    if suffix == ".jsonl":
        return suffix, json.dumps({"id": f"scripts {rng.random()}", "title": text, "text": text}).encode()
    text = {".html": f"<title>{text}</title><p>{text}<pre>{text}", ".csv": f"a,b\n{text},x\n"}.get(
        suffix, f"# {text}\n\n{text}"
    )
    return suffix, text.encode()


def encodings(rng: random.Random) -> Made:
    """Text in another encoding than it has, says or may have."""
    name = rng.choice(
        [
            "utf-7",
            "idna",
            "punycode",
            "unicode_escape",
            "raw_unicode_escape",
            "undefined",
            "rot13",
            "base64",
            "hex",
            "utf-16",
            "utf-32",
            "zlib",
            "mbcs",
            "cp037",
            "shift_jis",
            "latin-1",
            "ascii",
            "utf-8-sig",
            "big5",
            "x-y",
        ]
    )
    body = rng.choice(
        ["Gebühr für Wasser".encode(code, "surrogatepass") for code in ("latin-1", "utf-16-le", "utf-32", "cp037")]
        + [
            b"\xc0\xaf\xe0\x80\xaf",
            b"\xed\xa0\x80\xed\xb0\x80",
            b"\xff\xfe\x00",
            b"\xff\xfea\x00\x00\xd8",
            b"\\ud800 a",
            b"\xef\xbb\xbf\xef\xbb\xbfx",
            b"\xfe\xff",
            b"a\xff",
            b"xn--\xff-",
            b"." * 70 + b"a",
            b"plain",
        ]
    )
    suffix = rng.choice([".html", ".txt", ".md", ".csv", ".jsonl"])
    return suffix, (b'<meta charset="%s"><p>' % name.encode() + body) if suffix == ".html" else body


def tables(rng: random.Random) -> Made:
    """Rows that do not fit, fields without end, quotes that never close."""
    data = rng.choice(
        [
            b"a,b\n1\n1,2,3\n",
            b"a,b\n" + b"x" * 200_000 + b",1\n",
            b'a,b\n"1,2\n3',
            b"a,a\n1,2\n",
            b",\n1,2\n",
            b",".join(b"c%d" % n for n in range(50_000)) + b"\n" + b"1," * 49_999 + b"2\n",
            b"a\n\n\n",
            b"a;b\n1,2;3\n",
            b'a,b\n"1"2,3\n',
            b"a,b\r1,2\r3,4",
            b"a|b\n" + b"1|2\n" * 50_000,
            b"a\tb\n\x00\t1\n",
            b"\n" * 1000,
            b'a,b\n"' + b"\n" * 100_000 + b'",1\n',
            b"a,b\x0b\n1\x0c,2\n",
            "a,b\n1\u2028,2\n".encode(),
        ]
    )
    return rng.choice([".csv", ".tsv"]), data


def json_lines(rng: random.Random) -> Made:
    """Lines that are no JSON, no object, too deep, or of impossible numbers, ids and texts; blank files."""
    lines = [
        b"not json",
        b"[1]",
        b"null",
        b"[" * DEEP,
        b'{"a":' * DEEP,
        b'{"id": ' + b"9" * 5_000 + b', "text": "x"}',
        b"{}",
        b'{"id": NaN, "text": "x"}',
        b'{"id": "n%d", "text": "x", "more": NaN}' % rng.randrange(10**9),
        b'{"id": true, "text": "x"}',
        b'{"id": "s%d", "text": "\\ud800"}' % rng.randrange(10**9),
        b'{"id": "\\ud800", "text": "x"}',
        b'{"id": "", "text": "x"}',
        b'{"id": "a\\u0000b", "text": "x"}',
        b'{"id": "c\\nd", "text": "x"}',
        b'{"id": "z%d", "text": "a\\u0000b"}' % rng.randrange(10**9),
        b'{"id": "same", "text": "x"}',
        b'{"id": "l%d", "text": ["x", 1]}' % rng.randrange(10**9),
        b"\xff\xfe{",
        b"\x00",
        b'{"id": "t%d", "text": "x", "title": {"a": [1]}}' % rng.randrange(10**9),
        b'{"id": "' + b"i" * 100_000 + b'", "text": "x"}',
        b'{"id": 1e999, "text": "x"}',
        b'{"id": ["x"], "text": "x"}',
        b'\xef\xbb\xbf{"id": "bom", "text": "x"}',
    ]
    chosen = rng.choices(lines, k=rng.randrange(0, 6))
    return ".jsonl", b"\n".join(chosen) + b"\n\n"


def nothing(rng: random.Random) -> Made:
    """No bytes, blanks, or marks only."""
    return rng.choice([*sorted(GOOD), ".png", "", ".jsonl"]), rng.choice(
        [b"", b" ", b"\n\n\n", b"\xef\xbb\xbf", b"\x00"]
    )
