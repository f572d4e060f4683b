"""Which rows are learnt from: none that gives away a held-back case or document, none that repeats another.

Rows made by rule out of the corpus and the cases repeat each other on purpose (one question over its passages in
several orders), so only what comes from elsewhere is taken out where it repeats something.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from hashlib import sha256
from typing import Any, Literal, NamedTuple

from pydantic import Field

from indexes.duplicates import DuplicateSpec, find_duplicates
from indexes.types import Document
from infra.settings import Spec
from models.prompts import Prompt, asked_in
from models.training.contamination import HeldBack, OverlapSpec, plain
from models.training.formats import Row
from models.training.rows import PreferenceRow, TrainingRow

Kind = Literal["overlaps", "held back", "repeats", "both parts", "unusable", "unsupported", "personal data"]
Part = Literal["train", "validation", "both parts"]


class CurationSpec(Spec):
    """Which rows are refused."""

    overlap: OverlapSpec = OverlapSpec()
    """From which likeness to a held-back case a row is refused."""
    near_duplicate: float = Field(0.9, ge=0.5, le=1)
    """Jaccard similarity (runs of three words of questions and answers) from which a row of a file, of feedback or of a
    teacher repeats another row."""


class Candidate(NamedTuple):
    """A row that may be learnt from, and what it asks and says without the passages."""

    row: Row
    asked: tuple[str, ...]
    said: tuple[str, ...]
    documents: frozenset[str] = frozenset()
    """Documents that it was made from, where that is known."""

    @property
    def text(self) -> str:
        """What is compared with other rows."""
        return "\n".join((*self.asked, *self.said))


class Refused(Spec):
    """A row, or something that might have become one, that is not learnt from."""

    source: str
    kind: Kind
    reason: str
    case: str = ""
    """The held-back case that it overlaps."""


def candidate(row: Row, prompt: Prompt, documents: Iterable[str] = ()) -> Candidate:
    """A row with its questions and replies; passages that the prompt put before a question are left out."""
    messages = row.messages if isinstance(row, TrainingRow) else row.prompt
    asked = [asked_in(prompt, message.content) for message in messages if message.role == "user"]
    said = [message.content for message in messages if message.role == "assistant"]
    if isinstance(row, PreferenceRow):
        said += [row.chosen, row.rejected]
    elif row.is_text:
        asked = said
    return Candidate(row, tuple(asked), tuple(said), frozenset(documents))


def curate(
    made: Sequence[Candidate],
    others: Sequence[Candidate],
    held: HeldBack,
    closed: Collection[str],
    spec: CurationSpec,
) -> tuple[list[Candidate], list[Refused]]:
    """The rows to learn from in their order, those of `made` before `others`, and what was refused.

    `made` are rows by rule, `others` rows from elsewhere. `closed` are the documents that are held back.
    """
    clean_made, bad_made = _without_held_back(made, held, closed)
    clean, bad = _without_held_back(others, held, closed)
    repeats = _repeats(clean_made, clean, spec)
    kept = [row for number, row in enumerate(clean) if number not in repeats]
    return [*clean_made, *kept], [*bad_made, *bad, *(repeats[number] for number in sorted(repeats))]


def _without_held_back(
    rows: Sequence[Candidate], held: HeldBack, closed: Collection[str]
) -> tuple[list[Candidate], list[Refused]]:
    kept, refused = [], []
    for row in rows:
        found = _refusal(row, held, closed)
        if found:
            refused.append(found)
        else:
            kept.append(row)
    return kept, refused


def _refusal(row: Candidate, held: HeldBack, closed: Collection[str]) -> Refused | None:
    inside = sorted(row.documents.intersection(closed))
    if inside:
        return Refused(source=row.row.source, kind="held back", reason=f"comes from {inside[0]}, which is held back")
    found = held.overlap(row.asked, row.said)
    return found and Refused(source=row.row.source, kind="overlaps", reason=found.how, case=found.case)


def _repeats(made: Sequence[Candidate], others: Sequence[Candidate], spec: CurationSpec) -> dict[int, Refused]:
    """Number among `others` → its refusal, for those that repeat a row of `made` or an earlier one of `others`."""
    if not others:
        return {}
    names = {row.text: row.row.source for row in reversed(made)}
    texts = [*names, *(row.text for row in others)]
    sources = [*names.values(), *(row.row.source for row in others)]
    duplicates = DuplicateSpec(exact="drop", near="drop", threshold=spec.near_duplicate, shingle_words=3)
    documents = [
        Document(id=f"{number:012}", title="", text=text, media="", digest="") for number, text in enumerate(texts)
    ]
    found = {}
    for repeat in find_duplicates(documents, duplicates):
        number, kept = int(repeat.id), int(repeat.kept)
        if number >= len(names):
            likeness = "says the same as" if repeat.kind == "exact" else f"is near ({repeat.similarity:.2f}) to"
            reason = f"{likeness} {sources[kept]}"
            found[number - len(names)] = Refused(source=sources[number], kind="repeats", reason=reason)
    return found


class Split:
    """Keeps a part of the source documents for early stopping: which ones is a hash of their names, so it stays."""

    def __init__(self, share: float, seed: int) -> None:
        self._share = share
        self._seed = seed

    def holds(self, document: str) -> bool:
        """Whether a document, or another thing that rows are made from, belongs to the part for early stopping."""
        number = int.from_bytes(sha256(f"{self._seed}:{document}".encode()).digest()[:8], "big")
        return number < self._share * 2**64

    def part(self, row: Candidate) -> Part:
        """The part that a row belongs to, by its documents, else by its first question."""
        return self.part_of(row.documents or {plain(text) for text in (row.asked or row.said)[:1]})

    def part_of(self, names: Iterable[str]) -> Part:
        """The part of something that is made from these documents, or other things."""
        held = {self.holds(name) for name in names}
        if len(held) > 1:
            return "both parts"
        return "validation" if True in held else "train"

    def apart(self, rows: Iterable[Candidate]) -> tuple[list[Candidate], list[Candidate], list[Refused]]:
        """(to learn from, for early stopping, refused because their documents lie in both parts)."""
        parts: dict[str, list[Candidate]] = {"train": [], "validation": [], "both parts": []}
        for row in rows:
            parts[self.part(row)].append(row)
        reason = "its documents lie in both parts, training and validation"
        torn = [Refused(source=row.row.source, kind="both parts", reason=reason) for row in parts["both parts"]]
        return parts["train"], parts["validation"], torn


def summary(refused: Sequence[Refused]) -> list[dict[str, Any]]:
    """A table: from which source, why, how many, and the first of them."""
    first: dict[tuple[str, str], Refused] = {}
    counts: Counter[tuple[str, str]] = Counter()
    for item in refused:
        origin, _, place = item.source.partition(":")
        key = (place.rpartition(":")[0] or origin if origin == "file" else origin, item.kind)
        counts[key] += 1
        first.setdefault(key, item)
    return [
        {"source": origin, "why": kind, "count": count, "first": f"{item.source}: {item.reason}"}
        for (origin, kind), count in sorted(counts.items())
        for item in [first[origin, kind]]
    ]
