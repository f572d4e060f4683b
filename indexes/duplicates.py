"""Documents that repeat others: exact copies by digest, near ones by MinHash. The newest of each group is kept.

Near: runs of words (shingles) are sketched by MinHash; bands of the sketch find candidates (Leskovec, Rajaraman,
Ullman, Mining of Massive Datasets, chapter 3); then the true Jaccard similarity of the shingle sets decides. So no pair
below the threshold is ever taken for one, and a pair at or above it is missed with a probability of at most MISSED.
"""

import datetime
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from indexes.sketches import PERMUTATIONS, Sketches, jaccard, normalized, shingles
from indexes.types import Document
from infra.settings import Spec
from infra.store import text_digest

Mode = Literal["off", "report", "drop"]
MODES: tuple[Mode, ...] = ("off", "report", "drop")

MISSED = 0.001
"""Most probability that a pair exactly at the threshold is not found; more similar pairs are missed more rarely."""
_SHINGLES_HELD = 128
"""Documents whose shingles are held in memory: a page with a thousand variants is compared a thousand times."""


class DuplicateSpec(Spec):
    """What becomes of documents that repeat others. Documents with other access labels are reported, never dropped."""

    exact: Mode = "drop"
    """Documents with the same text but for case and spaces: leave them alone (off), name them, or drop the older."""
    near: Mode = "report"
    """Documents as similar as `threshold` says: off, report or drop; not more than what `exact` does."""
    threshold: float = Field(0.8, ge=0.5, le=1)
    """Least Jaccard similarity of near duplicates: runs of words that both have, of those that either has."""
    shingle_words: int = Field(5, ge=1, le=20)
    """Words of a run. Longer runs see smaller changes."""

    @model_validator(mode="after")
    def _near_does_no_more(self) -> Self:
        if MODES.index(self.near) > MODES.index(self.exact):
            raise ValueError(f"near: {self.near} needs exact: {self.near} (an exact copy is the nearest duplicate)")
        return self


class Duplicate(Spec):
    """A document that repeats a newer one."""

    id: str
    kept: str
    """Id of the newer document, which stays."""
    similarity: float
    """Jaccard similarity of the two; 1 for an exact copy."""
    kind: Literal["exact", "near"]
    dropped: bool
    """Whether it leaves the index; otherwise it is only reported."""
    reason: str


def bands_for(threshold: float) -> tuple[int, int]:
    """(bands, rows): the longest rows at which (1 - threshold ** rows) ** bands stays within half of MISSED."""
    fits = [
        rows for rows in range(1, PERMUTATIONS + 1) if (1 - threshold**rows) ** (PERMUTATIONS // rows) <= MISSED / 2
    ]
    return PERMUTATIONS // fits[-1], fits[-1]


def find_duplicates(
    documents: Sequence[Document], spec: DuplicateSpec, sketches: Sketches | None = None
) -> list[Duplicate]:
    """Every document that repeats a newer one (by date, then by id; undated ones count as oldest), sorted by id.

    Documents are taken newest first. One that is similar to another with the same access labels, which repeats none
    itself, repeats that one: the most similar, then the newest. So what is dropped is always as similar as the
    threshold to something that stays. Of a document no text is held: `documents` may read them from a file.
    """
    if spec.exact == "off":
        return []
    groups = _groups(documents)
    leaders = _Leaders([group[0] for group in groups], documents, spec, sketches or Sketches())
    found: list[Duplicate] = []
    for number, group in enumerate(groups):
        first, copies = group[0], group[1:]
        repeated = leaders.take(number)
        if repeated:
            kept, similarity = repeated
            found += [_repeating(first, kept, similarity, spec)]
            if found[-1].dropped:
                found += [_repeating(copy, kept, similarity, spec) for copy in copies]
                continue
        found += [_repeating(copy, first, 1.0, spec) for copy in copies]
    return sorted(found, key=lambda duplicate: duplicate.id)


class _Entry(NamedTuple):
    """What is held of a document."""

    id: str
    date: datetime.date | None
    access: frozenset[str]
    text: str
    """Digest of its normalised text."""
    place: int
    """Its number among the documents."""


def _groups(documents: Sequence[Document]) -> list[list[_Entry]]:
    """Documents with one text and the same access labels, newest first; the groups by their newest document."""
    entries = [
        _Entry(document.id, document.date, frozenset(document.access), text_digest(normalized(document.text)), place)
        for place, document in enumerate(documents)
    ]
    groups: dict[tuple[str, frozenset[str]], list[_Entry]] = {}
    by_id = sorted(entries, key=lambda entry: entry.id)
    for entry in sorted(by_id, key=lambda entry: entry.date or datetime.date.min, reverse=True):
        groups.setdefault((entry.text, entry.access), []).append(entry)
    return list(groups.values())


def _repeating(entry: _Entry, kept: _Entry, similarity: float, spec: DuplicateSpec) -> Duplicate:
    """The record of a document that repeats `kept`."""
    is_exact = entry.text == kept.text
    mode = spec.exact if is_exact else spec.near
    is_dropped = mode == "drop" and entry.access == kept.access
    likeness = "has the same text as" if is_exact else f"is near ({similarity:.3f}) to"
    reason = f"{likeness} {kept.id}, the newer one ({kept.date or 'undated'})"
    if not is_dropped:
        why = "their access labels differ" if mode == "drop" else "duplicates of this kind are only reported"
        reason += f"; both stay: {why}"
    kind: Literal["exact", "near"] = "exact" if is_exact else "near"
    return Duplicate(id=entry.id, kept=kept.id, similarity=similarity, kind=kind, dropped=is_dropped, reason=reason)


class _Leaders:
    """Finds, for each document of a list in turn, the earlier one that it repeats.

    A leader is a document that repeats none with its own access labels. Only leaders are compared with, so a thousand
    variants of one page cost a thousand comparisons, not a million.
    """

    def __init__(
        self, entries: Sequence[_Entry], documents: Sequence[Document], spec: DuplicateSpec, sketches: Sketches
    ) -> None:
        from scipy.stats import binom

        self._entries = entries
        self._spec = spec
        self._copies: dict[str, list[int]] = {}
        self._buckets: dict[tuple[int, int], list[int]] = {}

        def text(number: int) -> str:
            return documents[entries[number].place].text

        self._shingles = lru_cache(_SHINGLES_HELD)(lambda number: shingles(text(number), spec.shingle_words))
        if spec.near != "off":
            bands, rows = bands_for(spec.threshold)
            self._sketches = sketches.table([entry.text for entry in entries], text, spec.shingle_words)
            self._keys = _band_keys(self._sketches, bands, rows)
            self._least_equal = int(binom.ppf(MISSED / 2, PERMUTATIONS, spec.threshold))
            """A pair at the threshold agrees in fewer hash values with a probability of at most MISSED / 2."""

    def take(self, number: int) -> tuple[_Entry, float] | None:
        """The leader that document `number` repeats, best one first: same access labels, most similar, newest."""
        entry = self._entries[number]
        similar = dict.fromkeys(self._copies.get(entry.text, ()), 1.0)
        if self._spec.near != "off":
            similar |= self._near(number)
        ranked = sorted(
            (self._entries[leader].access != entry.access, -likeness, leader) for leader, likeness in similar.items()
        )
        if not ranked or ranked[0][0]:
            self._copies.setdefault(entry.text, []).append(number)
            if self._spec.near != "off":
                for key in self._shared_keys(number):
                    self._buckets.setdefault(key, []).append(number)
        return (self._entries[ranked[0][2]], -ranked[0][1]) if ranked else None

    def _near(self, number: int) -> dict[int, float]:
        """Leaders whose true similarity reaches the threshold, among those that share a band with document `number`."""
        found = sorted({leader for key in self._shared_keys(number) for leader in self._buckets.get(key, ())})
        equal = (self._sketches[found] == self._sketches[number]).sum(axis=1)
        likely = [leader for leader, count in zip(found, equal, strict=True) if count >= self._least_equal]
        if not likely:
            return {}
        ours = self._shingles(number)
        likeness = {leader: jaccard(ours, self._shingles(leader)) for leader in likely}
        return {leader: value for leader, value in likeness.items() if value >= self._spec.threshold}

    def _shared_keys(self, number: int) -> list[tuple[int, int]]:
        return [(band, int(key)) for band, key in enumerate(self._keys[number]) if key >= 0]


def _band_keys(sketches: NDArray[np.uint32], bands: int, rows: int) -> NDArray[np.int64]:
    """Which value a sketch has in each band, as a number, or -1 where no other sketch has it: (documents, bands).

    Sorted arrays, since most documents share no band: datasketch's own tables took 11 KB a document at 20,000.
    """
    keys = np.empty((len(sketches), bands), np.int64)
    for band in range(bands):
        part = sketches[:, band * rows : (band + 1) * rows]
        _, number, count = np.unique(part, axis=0, return_inverse=True, return_counts=True)
        number = number.reshape(-1)
        keys[:, band] = np.where(count[number] > 1, number, -1)
    return keys
