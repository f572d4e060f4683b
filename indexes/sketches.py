"""Runs of words (shingles; Broder 1997, On the resemblance and containment of documents) and their MinHash sketches."""

import re
import unicodedata
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexes.cache import ContentCache, NoCache
from infra.store import code_version, value_digest

PERMUTATIONS = 128
"""Hash values of a sketch."""
_WORD = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]|[^\W\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]+")
"""A word; of scripts that put no spaces between words (Thai, Japanese, Chinese), a single sign."""


def normalized(text: str) -> str:
    """Text without what makes no difference: canonical Unicode, lower case, single spaces."""
    return " ".join(unicodedata.normalize("NFC", text).lower().split())


def shingles(text: str, words: int) -> frozenset[str]:
    """Every run of `words` words; of a shorter text the whole, of one without a word nothing."""
    found = _WORD.findall(normalized(text))
    if len(found) < words:
        return frozenset({" ".join(found)} if found else ())
    return frozenset(" ".join(found[start : start + words]) for start in range(len(found) - words + 1))


def jaccard(ours: frozenset[str], theirs: frozenset[str]) -> float:
    """|ours ∩ theirs| / |ours ∪ theirs|; 0 for two empty sets."""
    shared = len(ours & theirs)
    return shared / max(1, len(ours) + len(theirs) - shared)


class Sketches:
    """Makes sketches, or takes them from a cache; `computed` counts those that had to be made."""

    def __init__(self, cache: ContentCache | None = None) -> None:
        self._cache = cache or NoCache()
        self.computed = 0

    def table(self, digests: Sequence[str], text: Callable[[int], str], words: int) -> NDArray[np.uint32]:
        """Sketches of the texts, shape (len(digests), PERMUTATIONS).

        `digests` are those of the normalised texts; `text(row)` is asked only for texts whose sketch is not kept.
        """
        from datasketch import MinHash

        start = MinHash(PERMUTATIONS, seed=1)
        about = value_digest([PERMUTATIONS, words, code_version("indexes/sketches.py")])[:32]
        sketches = np.empty((len(digests), PERMUTATIONS), np.uint32)
        for row, value, is_new in self._cache.once(
            range(len(digests)),
            lambda row: f"{about}/{digests[row]}",
            lambda row: _sketch(start, shingles(text(row), words)).astype("<u4").tobytes(),
        ):
            sketches[row] = np.frombuffer(value, "<u4")
            self.computed += is_new
        return sketches


def _sketch(start: Any, runs: frozenset[str]) -> NDArray[np.uint32]:
    """Least hash values of the runs under the permutations of `start`, shape (PERMUTATIONS,)."""
    from datasketch import MinHash

    sketch = MinHash(PERMUTATIONS, hashfunc=zlib.crc32, permutations=start.permutations, scheme=start.scheme)
    if runs:
        sketch.update_batch([run.encode() for run in runs])
    values: NDArray[np.uint32] = sketch.hashvalues
    return values
