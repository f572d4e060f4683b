"""Data Docs without a network: external scripts, styles and pictures are replaced by one small style sheet."""

import re
import shutil
from pathlib import Path

_EXTERNAL = re.compile(
    r"<script[^>]*\ssrc=\"https?://[^>]*>\s*</script>|<link[^>]*href=\"https?://[^>]*>", re.IGNORECASE
)
_LOGO = re.compile(r"<img[^>]*src=\"https?://[^>]*>", re.IGNORECASE)
_URL = re.compile(r"url\('https?://[^']*'\)", re.IGNORECASE)
_ANCHOR = re.compile(r"<a[^>]*href=\"https?://[^\"]*\"[^>]*>(.*?)</a>", re.IGNORECASE | re.DOTALL)
_STYLE = """<style>
body{font:15px/1.5 system-ui,sans-serif;margin:0;color:#1c2733;background:#fff}
nav,.navbar{padding:.6rem 1.5rem;background:#f3f6f8;border-bottom:1px solid #d9e0e6}
.container-fluid,.container{padding:0 1.5rem}.row{display:flex;flex-wrap:wrap;gap:1.5rem}
.col-lg-2,.col-md-2,.navigation{flex:0 0 14rem}.col-md-8,.col-lg-8,.col-md-10,.col-12{flex:1 1 40rem;min-width:0}
table{border-collapse:collapse;margin:.5rem 0 1.25rem;width:100%}
td,th{border:1px solid #d9e0e6;padding:.35rem .6rem;text-align:left;vertical-align:top;overflow-wrap:anywhere}
th{background:#f3f6f8}ul{padding-left:1.2rem}.alert{background:#f3f6f8;padding:.1rem 1rem;margin:1rem 0 .5rem}
.fa-check-circle::before{content:"\\2714";color:#13795b}.fa-times::before{content:"\\2718";color:#b3261e}
.badge{background:#e8edf1;border-radius:.6rem;padding:.1rem .5rem}
.text-success{color:#13795b}.text-danger{color:#b3261e}
.modal,.btn,.collapse:not(.show),.cooltip span,footer,.fixed-bottom{display:none}
.fixed-top,.sticky-top,nav{position:static}
</style></head>"""


def make_self_contained(folder: Path, suite: str) -> Path:
    """Rewrite every page below `folder` and return the validation page, copied to the stable name `<suite>.html`.

    The copy lies in `folder` itself; its links to other pages are dropped.
    """
    for page in sorted(folder.rglob("*.html")):
        text = page.read_text("utf-8")
        local = _ANCHOR.sub(r"\1", _LOGO.sub("", _URL.sub("none", _EXTERNAL.sub("", text))))
        page.write_text(local.replace("</head>", _STYLE, 1) if local != text else text, "utf-8")
    newest = max((folder / "validations" / suite).rglob("*.html"), key=lambda page: page.stat().st_mtime_ns)
    stable = folder / f"{suite}.html"
    stable.write_text(re.sub(r"(href|src)=\"(\.\./)+[^\"]*\"", r'\1="#"', newest.read_text("utf-8")), "utf-8")
    shutil.rmtree(folder / "static", ignore_errors=True)
    _write_entry(folder.parent)
    return stable


def _write_entry(docs_folder: Path) -> None:
    """index.html with a link to the page of every suite."""
    suites = [page for page in sorted(docs_folder.glob("*/*.html")) if page.stem == page.parent.name]
    links = "".join(f'<li><a href="{page.parent.name}/{page.name}">{page.stem}</a></li>' for page in suites)
    head = f"<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'><title>Data Docs</title>{_STYLE}"
    body = f"<body class='container'><h1>Data Docs</h1><ul>{links}</ul></body></html>"
    (docs_folder / "index.html").write_text(head + body, "utf-8")
