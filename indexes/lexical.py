"""BM25 through tantivy: words of title and text, the mask applied before ranking, rows added and removed."""

import json
import re
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from shutil import copyfile
from typing import Any, Self

import numpy as np

from indexes.types import Vectors
from indexes.vectors.port import Mask, Rows
from infra.errors import InputError, IntegrityError
from infra.store import canonical_json, file_digest

_WORD = re.compile(r"\d+(?:[.,:]\d+)*|[^\W\d_]+|\w+")
_STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be but by for from has have how i if in into is it its no not of on or s such t that the "
        "their then there these they this to was were what when where which who why will with do does did can you your",
    )
)
_ROW, _WORDS, _ANALYZER = "row", "words", "words"
_HEAP_BYTES = 2**30
"""What a writer may buffer before it starts another segment; it takes what it needs. One segment, one order of rows."""
_FEW_ROWS = 1_000
"""With so few allowed rows the query names them; with more, the ranking is read on until enough allowed ones came."""
_READ_ON = 4
_META, _MANAGED, _CARD = "meta.json", ".managed.json", "bm25.json"


def words(text: str) -> list[str]:
    """Lower-case words and numbers without stop words; a plural s is cut off (the S stemmer of Harman 1991)."""
    return [_singular(word) for word in _WORD.findall(text.lower()) if word not in _STOP_WORDS]


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith("ies") and not word.endswith(("eies", "aies")):
        return word[:-3] + "y"
    if len(word) > 3 and word.endswith("es") and not word.endswith(("aes", "ees", "oes")):
        return word[:-1]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("us", "ss")):
        return word[:-1]
    return word


class LexicalIndex:
    """BM25 (Robertson and Zaragoza 2009) over passages in a fixed order, with tantivy's k1 = 1.2 and b = 0.75.

    tantivy keeps a passage's length in one byte: exact up to 40 words, beyond that within an eighth. It works in a
    folder of its own, into which a loaded index links its files: what it is loaded from is never written to.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="sluice-bm25-")
        self._index: Any = None
        self._searcher: Any = None
        self._count = 0

    @property
    def count(self) -> int:
        """Rows, removed ones included."""
        return self._count

    def build(self, texts: Sequence[str]) -> None:
        """Index the passages as rows 0..n-1. Raises InputError when they hold no word at all."""
        import tantivy

        builder = tantivy.SchemaBuilder()
        builder.add_unsigned_field(_ROW, stored=False, indexed=True, fast=True)
        builder.add_text_field(_WORDS, stored=False, tokenizer_name=_ANALYZER, index_option="freq")
        self._take(tantivy.Index(builder.build(), path=self._folder.name))
        if not self._add(texts):
            raise InputError("the passages hold no word that BM25 could index")

    def add(self, texts: Sequence[str]) -> Rows:
        """Append passages; their row numbers."""
        first = self._count
        self._add(texts)
        return np.arange(first, self._count, dtype=np.int64)

    def remove(self, rows: Rows) -> None:
        """Take rows out; their numbers stay taken. Raises InputError for a row that is not there."""
        strange = rows[(rows < 0) | (rows >= self._count)]
        if strange.size:
            raise InputError(f"row {strange[0]} cannot be removed: the index has rows 0 to {self._count - 1}")
        self._write(lambda writer: writer.delete_documents_by_query(self._named(rows)))

    def search(self, question: str, k: int, allowed: Mask | None = None) -> tuple[Rows, Vectors]:
        """Rows and scores of the best `k` allowed passages that share a word with the question, best first."""
        asked = Counter(words(question))
        if not asked or k < 1:
            return _found([], [])
        query = self._query(asked)
        opened = self._count if allowed is None else int(allowed.sum())
        if allowed is not None and opened <= _FEW_ROWS:
            query, allowed = self._among(query, np.flatnonzero(allowed)), None
        depth = min(k, self._count)
        while True:
            rows, scores = self._best(query, depth)
            kept = np.arange(len(rows)) if allowed is None else np.flatnonzero(allowed[rows])
            if len(kept) >= k or len(rows) < depth or depth == self._count:
                return rows[kept[:k]], scores[kept[:k]]
            depth = min(_READ_ON * depth, self._count)

    def save(self, folder: Path) -> None:
        """Write the index into an empty folder; the same passages give the same bytes: segments are numbered."""
        folder.mkdir(parents=True, exist_ok=True)
        place = Path(self._folder.name)
        meta = (place / _META).read_text("utf-8")
        names = {segment["segment_id"]: str(uuid.UUID(int=n)) for n, segment in enumerate(_segments(meta), 1)}
        for old, new in names.items():
            meta = meta.replace(old, new)
            for file in sorted(place.glob(f"{_plain(old)}.*")):
                copyfile(file, folder / file.name.replace(_plain(old), _plain(new)))
        (folder / _MANAGED).write_text(json.dumps([_META, *sorted(path.name for path in folder.iterdir())]), "utf-8")
        (folder / _META).write_text(meta, "utf-8")
        card = {"rows": self._count, "files": {path.name: file_digest(path) for path in sorted(folder.iterdir())}}
        (folder / _CARD).write_text(canonical_json(card), "utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a saved index. Raises IntegrityError when files are missing or damaged."""
        import tantivy

        loaded = cls()
        place = Path(loaded._folder.name)
        try:
            card = json.loads((folder / _CARD).read_text("utf-8"))
            for name, digest in card["files"].items():  # tantivy ends the process on some kinds of damage
                if file_digest(folder / name) != digest:
                    raise IntegrityError(f"{folder / name}: was changed; build the index again")
                if name in (_META, _MANAGED):
                    copyfile(folder / name, place / name)
                else:
                    (place / name).symlink_to((folder / name).resolve())
            loaded._count = int(card["rows"])
            loaded._take(tantivy.Index.open(str(place)))
        except (OSError, ValueError, KeyError) as error:
            raise IntegrityError(f"{folder}: not a BM25 index; build the index again") from error
        return loaded

    def _take(self, index: Any) -> None:
        import tantivy

        index.register_tokenizer(_ANALYZER, tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace()).build())
        self._index = index
        self._searcher = index.searcher()

    def _add(self, texts: Sequence[str]) -> bool:
        """Append passages; whether they hold any word."""
        import tantivy

        tokens = [words(text) for text in texts]

        def write(writer: Any) -> None:
            for row, found in enumerate(tokens, self._count):
                document = tantivy.Document()
                document.add_unsigned(_ROW, row)
                document.add_text(_WORDS, " ".join(found))
                writer.add_document(document)

        self._write(write)
        self._count += len(tokens)
        return any(tokens)

    def _write(self, change: Callable[[Any], object]) -> None:
        writer = self._index.writer(heap_size=_HEAP_BYTES, num_threads=1)
        change(writer)
        writer.commit()
        writer.wait_merging_threads()
        self._index.reload()
        self._searcher = self._index.searcher()

    def _query(self, asked: Counter[str]) -> Any:
        from tantivy import Occur, Query

        terms = {word: Query.term_query(self._index.schema, _WORDS, word, "freq") for word in asked}
        return Query.boolean_query(
            [
                (Occur.Should, term if asked[word] == 1 else Query.boost_query(term, float(asked[word])))
                for word, term in terms.items()
            ]
        )

    def _among(self, query: Any, rows: Rows) -> Any:
        """The query over these rows only; they add nothing to the score."""
        from tantivy import Occur, Query

        named = Query.const_score_query(self._named(rows), 0.0)
        return Query.boolean_query([(Occur.Must, query), (Occur.Must, named)])

    def _named(self, rows: Rows) -> Any:
        """The query for these rows (deleting by the term of an unsigned number finds none in tantivy 0.27)."""
        from tantivy import Query

        return Query.term_set_query(self._index.schema, _ROW, rows.tolist())

    def _best(self, query: Any, depth: int) -> tuple[Rows, Vectors]:
        hits = self._searcher.search(query, depth, count=False).hits
        rows = self._searcher.fast_field_values(_ROW, [address for _, address in hits])
        return _found(rows, [score for score, _ in hits])


def _found(rows: Sequence[int], scores: Sequence[float]) -> tuple[Rows, Vectors]:
    """Best first; equal scores by row."""
    found, values = np.asarray(rows, np.int64), np.asarray(scores, np.float32)
    order = np.lexsort((found, -values))
    return found[order], values[order]


def _segments(meta: str) -> list[dict[str, Any]]:
    segments: list[dict[str, Any]] = json.loads(meta)["segments"]
    return segments


def _plain(segment: str) -> str:
    """A segment's id as it stands in file names."""
    return segment.replace("-", "")
