"""Reads one document after another in a process of its own: `python -m indexes.loaders.worker MEMORY_MB CHARACTERS`.

Takes one JSON request a line (path, label) and answers one JSON line: the Extracted text or the reason why there is
none. A document that takes all memory or kills its parser ends the process; the parent starts another one.
"""

import json
import os
import resource
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from indexes.loaders.delimited import read_csv, read_plain
from indexes.loaders.extracted import Extracted
from indexes.loaders.formats import MEDIA
from infra.errors import InputError

READY = "ready"
_PRINTED = 2**24
"""Bytes that libraries may print about one process's documents; what is beyond is lost."""


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


def read_document(path: Path, label: str, characters: int) -> Extracted:
    """Text and sections of one file by its format. `label` begins every row of a CSV file.

    Raises: InputError when there is no text, more than `characters` with title and headings, or no such document.
    """
    media = MEDIA[path.suffix.lower()]
    try:
        result = _READERS[media](path.read_bytes(), label)
    except (InputError, MemoryError):
        raise
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror}): check the file and its rights") from error
    except RecursionError as error:
        raise InputError("nested too deeply: simplify it") from error
    except Exception as error:  # parsers of foreign formats raise anything
        traceback.print_exc()
        raise InputError(f"damaged, or no {media} file: save or export it again") from error
    if not result.text.strip():
        raise InputError("no text in it")
    if len(result.text) + len(result.title) + sum(len(heading) for _, heading in result.sections) > characters:
        raise InputError(f"more than {characters} characters of text: split it")
    return result


def _answer(request: dict[str, str], characters: int) -> dict[str, object]:
    """The answer to one request; `ended` says that this process must not read another document."""
    try:
        return {"extracted": read_document(Path(request["path"]), request["label"], characters).model_dump(mode="json")}
    except InputError as error:
        return {"reason": str(error)}
    except MemoryError:
        return {"reason": f"needs more than {sys.argv[1]} MiB of memory: split or simplify it", "ended": True}


def main() -> None:
    """Answer requests until the input ends."""
    limit = int(sys.argv[1]) * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_PRINTED, _PRINTED))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints must not look like an answer
    print(READY, file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line), int(sys.argv[2]))), file=answers, flush=True)


if __name__ == "__main__":
    main()
