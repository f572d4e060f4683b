"""One whole document of every format: what is damaged for the fuzzing, and what must load beside it unharmed."""

import json

from tests.unit.documents import docx_bytes, pdf_bytes, pdf_paragraphs, pptx_bytes, xlsx_bytes

_TABLE = [["zone", "price"], ["Dunmere", "1.97"], ["Tarnholt", "2.10"]]
_MARKDOWN = """---
title: Charges
date: 2026-01-05
access: [public, staff]
---
# Charges

The **standing** charge is [6.40 euros](https://example.org) a month.

## Prices

| zone | price |
|---|---|
| Dunmere | 1.97 |

1. Pay in `time`.
   - By transfer.

```sh
curl  --fail x
```
"""
_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Hard water</title></head>
<body><nav>Home</nav><main><h1>Hard water</h1><p>Water is <b>hard</b> in Dunmere.</p>
<h2>By zone</h2><table><tr><th>zone</th><th>degree</th>
</tr><tr><td>Dunmere</td><td>17</td></tr></table><ol start="3"><li>Descale<ul><li>monthly</li></ul></li></ol>
</main></body>
"""

GOOD: dict[str, bytes] = {
    ".md": _MARKDOWN.encode(),
    ".html": _PAGE.encode(),
    ".pdf": pdf_bytes(
        [pdf_paragraphs(["The pump stands in Dunmere.", "It is old."]), pdf_paragraphs(["So."])], "Pumps"
    ),
    ".docx": docx_bytes("Guide", _TABLE),
    ".pptx": pptx_bytes(),
    ".xlsx": xlsx_bytes({"Prices": _TABLE}),
    ".csv": b"zone,price\nDunmere,1.97\nTarnholt,2.10\n",
    ".txt": "Wasser ist hart.\n\n1. One.\n2. Two.\n".encode("utf-8-sig"),
    ".jsonl": b"".join(
        json.dumps({"id": f"line-{n}", "title": f"Line {n}", "text": ["A text.", "Another."]}).encode() + b"\n"
        for n in range(3)
    ),
}
"""Suffix → bytes."""
