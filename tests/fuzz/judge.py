"""Loads a folder of hostile files with the real loaders and says what went wrong: nothing may, whatever they hold."""

import re
import resource
import tempfile
import time
import unicodedata
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from indexes.loaders import corpus
from indexes.loaders.extracted import Extracted
from indexes.loaders.isolated import IsolatedReader
from indexes.loaders.ordinary import printable
from indexes.loaders.spec import CorpusSpec, LoadedCorpus
from indexes.types import Document
from tests.fuzz.good import GOOD

SPEC = CorpusSpec(documents="docs", seconds_per_document=20, memory_mb=1024)
GRACE_S = 5.0
"""Seconds beyond the limit of a document in which the reading process is ended and an answer taken."""
GROWTH_MB = 600
"""By how much the parent's largest memory may grow; a text of 2 million characters passes through it as JSON."""
_INTERNAL = re.compile(r"Traceback|\b[A-Za-z_.]+(Error|Exception|Warning)\b|0x[0-9a-f]{6,}|<\S+ object|^\W*\w*\W*$")
"""What no reason may show: the insides of a program, an address in memory, or a lone word."""
_REASON = 600
"""Characters of a reason."""


class Outcome(NamedTuple):
    """What came of a folder: how often each kind was loaded or refused, the faults, the slowest documents."""

    counts: Counter[tuple[str, str]]
    faults: list[str]
    slowest: list[tuple[float, str]]
    reasons: Counter[str]
    growth_mb: float


class _Timed(IsolatedReader):
    """The real reader, which also notes how long each document took."""

    took: list[tuple[float, str]]

    def read(self, path: Path, label: str) -> Extracted:
        self._started()  # a new process is no document's time
        start = time.monotonic()
        try:
            return super().read(path, label)
        finally:
            self.took.append((time.monotonic() - start, str(path)))


def load(root: Path, spec: CorpusSpec = SPEC) -> tuple[LoadedCorpus, list[tuple[float, str]]]:
    """The loaded corpus and the seconds of each document."""
    _Timed.took = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "IsolatedReader", _Timed)
        return corpus.load_corpus(spec, root), _Timed.took


def judge(root: Path, written: Mapping[str, str], spec: CorpusSpec = SPEC) -> Outcome:
    """Load `root/docs`, which write_folder filled with `written` (id → kind), and look for faults."""
    before = _peak_mb()
    found, took = load(root, spec)
    growth = _peak_mb() - before
    names = {printable(name): kind for name, kind in written.items()}
    loaded = {document.id for document in found.documents}
    quarantined = {item.id: item.reason for item in found.quarantined}
    counts: Counter[tuple[str, str]] = Counter()
    faults = []
    for name, kind in names.items():
        if name.endswith(".jsonl"):
            known = _lines_named(name, (root / spec.documents / name), loaded | quarantined.keys())
        else:
            known = (name in loaded) + (name in quarantined) == 1
        outcome = "loaded" if name in loaded else "quarantined" if name in quarantined else "lines"
        counts[kind, outcome] += 1
        if not known:
            faults.append(f"{name} ({kind}): neither loaded nor quarantined, or both")
    faults += [f"{name!r}: reason {reason!r}" for name, reason in quarantined.items() if not _clear(reason)]
    faults += [f"{document.id!r}: {fault}" for document in found.documents for fault in _impure(document)]
    faults += [
        f"{name!r}: a quarantined id with characters that no one sees" for name in quarantined if _controls(name)
    ]
    faults += _unharmed(found)
    limit = spec.seconds_per_document + GRACE_S
    faults += [f"{path}: took {seconds:.1f} s" for seconds, path in took if seconds > limit]
    if growth > GROWTH_MB:
        faults.append(f"the loading process grew by {growth:.0f} MiB")
    reasons = Counter(re.sub(r"\d+|'[^']*'|\([^)]*\)", "#", reason)[:90] for reason in quarantined.values())
    return Outcome(counts, faults, sorted(took, reverse=True)[:10], reasons, growth)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _lines_named(name: str, path: Path, known: set[str]) -> bool:
    """Whether a file of JSON lines is known by its own name or by that of a line, counted or by its id."""
    if name in known or any(item.startswith(f"{name}:") for item in known):
        return True
    return path.is_file() and any(f'"id": "{item}"'.encode() in path.read_bytes() for item in known if len(item) < 200)


def _clear(reason: str) -> bool:
    return bool(reason.strip()) and len(reason) <= _REASON and not _INTERNAL.search(reason) and not _controls(reason)


def _controls(text: str) -> list[str]:
    return [
        character for character in text if unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\t"
    ]


def _impure(document: Document) -> list[str]:
    """What in a document would break JSON, SQL or a full-text index later."""
    labels = [document.title, document.id, *document.access, *(heading for _, heading in document.sections)]
    faults = [f"control characters {_controls(text)[:3]!r}" for text in (document.text, *labels) if _controls(text)]
    if any("\n" in label for label in labels):
        faults.append("a line break in its id, title, labels or headings")
    if "root:" in document.text:
        faults.append("holds a file of the machine")
    offsets = [offset for offset, _ in document.sections]
    if offsets != sorted(set(offsets)) or any(not 0 <= offset < len(document.text) for offset in offsets):
        faults.append("sections that are not places in its text")
    document.model_dump_json().encode()
    return faults


def _unharmed(found: LoadedCorpus) -> list[str]:
    """Good documents that did not load exactly as they do alone."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "docs" / "good"
        folder.mkdir(parents=True)
        for suffix, data in GOOD.items():
            (folder / f"whole{suffix}").write_bytes(data.replace(b'"line-', b'"whole-'))
        alone = corpus.load_corpus(SPEC, Path(name)).documents
    assert len(alone) == len(GOOD) + 2, "the file of JSON lines holds three"
    return [
        f"{document.id}: a good document did not load as it does alone"
        for document in alone
        if document not in found.documents
    ]
