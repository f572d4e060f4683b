"""Reads one document after another in a process of its own: `python -m indexes.loaders.worker MEMORY_MB`.

Takes one JSON request a line (path, label) and answers one JSON line: the Extracted text or the reason why there is
none. Unexpected errors end the process; its parent quarantines the document and starts another one.
"""

import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path

from indexes.loaders.delimited import read_csv, read_plain
from indexes.loaders.extracted import Extracted
from indexes.loaders.formats import MEDIA
from infra.errors import InputError

READY = "ready"


def _markdown(data: bytes, _: str) -> Extracted:
    from indexes.loaders.markdown import read_markdown

    return read_markdown(data)


def _html(data: bytes, _: str) -> Extracted:
    from indexes.loaders.html import read_html

    return read_html(data)


def _pdf(data: bytes, _: str) -> Extracted:
    from indexes.loaders.pdf import read_pdf

    return read_pdf(data)


def _docx(data: bytes, _: str) -> Extracted:
    from indexes.loaders.docx import read_docx

    return read_docx(data)


def _pptx(data: bytes, _: str) -> Extracted:
    from indexes.loaders.pptx import read_pptx

    return read_pptx(data)


def _xlsx(data: bytes, _: str) -> Extracted:
    from indexes.loaders.xlsx import read_xlsx

    return read_xlsx(data)


_READERS: dict[str, Callable[[bytes, str], Extracted]] = {
    "markdown": _markdown,
    "html": _html,
    "pdf": _pdf,
    "docx": _docx,
    "pptx": _pptx,
    "xlsx": _xlsx,
    "csv": read_csv,
    "text": lambda data, _: read_plain(data),
}


def read_document(path: Path, label: str) -> Extracted:
    """Text and sections of one file by its format. `label` begins every row of a CSV file. Raises InputError."""
    result = _READERS[MEDIA[path.suffix.lower()]](path.read_bytes(), label)
    if not result.text.strip():
        raise InputError("no text in it")
    return result


def main() -> None:
    """Answer requests until the input ends."""
    limit = int(sys.argv[1]) * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints must not look like an answer
    print(READY, file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, object]
        try:
            answer = {"extracted": read_document(Path(request["path"]), request["label"]).model_dump(mode="json")}
        except (InputError, OSError) as error:
            answer = {"reason": str(error)}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
